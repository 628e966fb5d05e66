"""A federation in containers, from nothing, as institutions would found it.

Every party makes its keys in its own volume, where they stay; what travels are papers: a request, an admission, and
the fingerprints that people would read to each other by telephone. Everything that the containers are given lies in
one folder that this machine's user alone can enter. What is in it can be read by any account, because each server has
an account of its own.
"""

from __future__ import annotations

import json
import secrets
import shlex
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from coordinator.provision import SEAWEED_IDENTITIES, SERVER_CERTIFICATE, SERVER_KEY
from deploy.compose.project import Compose
from deploy.demo.play import POLICY, SILOS
from deploy.demo.stage import COORDINATOR, console, fingerprint_in, heading
from services.certificates import Authority, make_key, request
from services.errors import SilokitError

PARTIES = Path(__file__).parent / "parties"
HOSTS = ("broker", "store", "localhost")
PROVISIONED = "/var/lib/silokit/provisioned"
FOUNDED = "founded"
"""The file that says that a kit is complete; the fingerprint of the federation's root is in it."""


def configure(kit: Path) -> None:
    """Write every party's configuration; what is there already is somebody's own, and stays."""
    _write_new(kit / COORDINATOR / "coordinator.yaml", (PARTIES / "coordinator.yaml").read_text())
    for silo in SILOS:
        text = (PARTIES / "silo-agent.yaml").read_text().replace("{name}", silo)
        _write_new(kit / silo / "silo-agent.yaml", text)
        _write_new(kit / silo / "policy.yaml", POLICY.read_text())


def found(compose: Compose, kit: Path) -> None:
    """Found the federation, enrol the silos, and write what broker, store and Prometheus need.

    Raises:
        SilokitError: a step failed; what was founded so far has to be removed first.
    """
    heading("Keys are made at each party; people compare fingerprints")
    papers = kit / "papers"
    papers.mkdir(exist_ok=True)
    try:
        root = fingerprint_in(_type(compose, "run", "--rm", "-T", "desk", "found"))
        for silo in SILOS:
            asked, admitted = papers / f"enrolment-{silo}.json", papers / f"admission-{silo}.json"
            agent = ("run", "--rm", "--no-deps", "-T", silo, "enroll")
            shown = fingerprint_in(_type(compose, *agent, "--out", "-", writes=asked))
            desk = ("run", "--rm", "-T", "desk", "admit", "-", "--fingerprint", shown, "--out", "-")
            _type(compose, *desk, reads=asked, writes=admitted)
            _type(compose, *agent, "--admission", "-", "--fingerprint", root, reads=admitted)
        heading("The consortium tells its broker and its store who the members are")
        hosts = [word for host in HOSTS for word in ("--server", host)]
        _type(compose, "run", "--rm", "-T", "desk", "provision", PROVISIONED, *hosts)
        compose.run("up", "--detach", "--no-deps", COORDINATOR)
        compose.run("cp", f"{COORDINATOR}:{PROVISIONED}", str(kit))
    except SilokitError as error:
        raise SilokitError(error.what, fix="`make down VOLUMES=1`, then begin anew", kept=error.kept) from error
    furnish(kit)
    (kit / FOUNDED).write_text(root + "\n")


def furnish(kit: Path) -> None:
    """Write what the servers are given besides, and let their accounts read it in a folder that is closed to others."""
    provisioned, hidden = kit / "provisioned", kit / "secrets"
    hidden.mkdir(exist_ok=True)
    for name in (SERVER_KEY, SEAWEED_IDENTITIES):
        (provisioned / name).replace(hidden / name)
    (hidden / "security.toml").write_text(store_security())
    _certify_prometheus(provisioned, hidden)
    identities = json.loads((hidden / SEAWEED_IDENTITIES).read_text())["identities"]
    users = [(one["name"], one["credentials"][0]) for one in identities]
    lines = [f"{name} {told['accessKey']} {told['secretKey']}\n" for name, told in users]
    (hidden / "minio-users").write_text("".join(lines))
    (hidden / "minio-root").write_text(f"root {secrets.token_urlsafe(30)}\n")
    (hidden / "grafana-password").write_text(secrets.token_urlsafe(18))
    protect(kit)


def protect(kit: Path) -> None:
    """Close the kit to others of this machine, and open what is in it to the accounts of the containers."""
    for path in kit.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    kit.chmod(0o700)


def store_security() -> str:
    """What closes SeaweedFS but for S3: keys for its parts, and a gate for the port by which S3 is administered.

    That port takes whoever shows a certificate signed by the server's own, which signs nothing: nobody.
    """
    parts = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
    keys = "".join(f'[{part}]\nkey = "{secrets.token_hex(32)}"\n' for part in parts)
    certificate, key = f"/run/secrets/{SERVER_CERTIFICATE}", f"/run/secrets/{SERVER_KEY}"
    return f'{keys}[grpc]\nca = "{certificate}"\n[grpc.s3]\ncert = "{certificate}"\nkey = "{key}"\n'


def _certify_prometheus(provisioned: Path, hidden: Path) -> None:
    """Certify Prometheus by an authority of its own, whose key is forgotten: no member's certificate opens metrics."""
    authority, key = Authority.make("monitoring"), make_key()
    (provisioned / "monitoring.crt").write_bytes(authority.pem)
    (provisioned / "prometheus.crt").write_bytes(authority.sign_party(request(key, "prometheus"), "prometheus"))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (hidden / "prometheus.key").write_bytes(pem)


def _type(compose: Compose, *words: str, reads: Path | None = None, writes: Path | None = None) -> str:
    """Type a command line as people would; returns what it says to them."""
    shown = shlex.join(compose.line(*words))
    redirected = (f" < {reads}" if reads else "") + (f" > {writes}" if writes else "")
    console.print(f"[bold cyan]$[/] {shown}{redirected}", highlight=False, soft_wrap=True)
    out, said = compose.run(*words, given=reads.read_bytes() if reads else b"")
    if writes:
        writes.write_bytes(out)
    else:
        said = out.decode() + said
    console.print(said.rstrip(), highlight=False, markup=False, style="dim")
    return said


def _write_new(path: Path, text: str) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
