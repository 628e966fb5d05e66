"""A kit is founded by papers alone, and its store is open to members alone: the programs and the store are real."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from deploy.compose.founding import FOUNDED, HOSTS, configure, found
from deploy.compose.project import Compose
from deploy.demo.play import SILOS
from deploy.servers.ports import free_ports
from deploy.servers.process import Server
from deploy.servers.seaweedfs import PROGRAM, SeaweedServer
from services.errors import SilokitError
from services.store.diagnosis import AccessDenied
from services.store.s3 import S3Config, S3Store
from tests.wire.fixtures import needing_servers

HERE = Path(__file__).parent
DEPLOY = HERE.parents[1] / "deploy"
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # HTTP/2's first frame, empty: whoever is let in answers with its own
pytestmark = pytest.mark.timeout(900)  # a dozen programs start one after another
PARTS = ("s3", "master", "volume", "filer")


class Kit:
    """A founded kit, and the folders that stand for its volumes."""

    def __init__(self, root: Path) -> None:
        self.folder, self.volumes = root / "kit", root / "volumes"
        ports = free_ports(2 * len(PARTS))
        self.ports = dict(zip(PARTS, zip(ports[::2], ports[1::2], strict=True), strict=True))

    def store(self, party: str) -> S3Store:
        """The store, as a party comes to it with what its admission brought."""
        state = self.volumes / party / "state"
        place = {"endpoint": f"https://localhost:{self.ports['s3'][0]}", "bucket": "artifacts"}
        return S3Store(S3Config(**place, credentials=state / "store.json", ca=state / "tls/authority.crt"))


class KitStore(Server):
    """The store of deploy/compose.yaml by its very command line, on ports of its own."""

    title = "the kit's store"
    boot_seconds = 60.0
    stop_seconds = 10.0

    def __init__(self, folder: Path, kit: Kit) -> None:
        super().__init__(folder)
        self._kit = kit
        self._services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]

    @classmethod
    def require(cls) -> None:
        SeaweedServer.require()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def outside(self, text: str) -> str:
        """A text with the container's paths and ports as they are outside."""
        ports = self._kit.ports
        for inside, place in {"/run/secrets": self.folder / "secrets", "=/data": f"={self.folder / 'data'}"}.items():
            text = text.replace(inside, str(place))
        for standard, part in {":9333": "master", ":8888": "filer"}.items():
            text = text.replace(standard, ":{}.{}".format(*ports[part]))  # the second is the one of gRPC
        return text

    def make_bucket(self) -> subprocess.CompletedProcess[str]:
        """What the service `bucket` does."""
        bucket = self._services["bucket"]
        script = self.outside(bucket["command"][0])
        return subprocess.run([*bucket["entrypoint"], script], env={"PATH": f"{PROGRAM.parent}:/usr/bin:/bin"},
                              cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)  # fmt: skip

    def _prepare(self) -> list[str]:
        hidden = self.folder / "secrets"
        shutil.copytree(self._kit.folder / "secrets", hidden)
        shutil.copy(self._kit.folder / "provisioned/server.crt", hidden)
        (hidden / "seaweedfs-identities.json").rename(hidden / "store-identities")
        (self.folder / "security.toml").write_text(self.outside((hidden / "security.toml").read_text()))
        (self.folder / "data").mkdir()
        told = [self.outside(word) for word in self._services["store"]["command"]]
        told += [f"-{part}.port={number}" for part, (number, _) in self._kit.ports.items()]
        told += [f"-{part}.port.grpc={number}" for part, (_, number) in self._kit.ports.items()]
        return [str(PROGRAM), "-logtostderr=true", *told]

    def _surroundings(self) -> dict[str, Any]:
        return {"env": {"HOME": str(self.folder), "PATH": "/usr/bin:/bin"}, "cwd": self.folder}

    def _answers(self) -> bool:
        port = self._kit.ports["s3"][0]
        context = ssl.create_default_context(cafile=self._kit.folder / "provisioned/authority.crt")
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as line:
                context.wrap_socket(line, server_hostname="store").close()
        except OSError:
            return False
        return True

    def _ended(self) -> None:
        for part, (_, port) in self._kit.ports.items():
            Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    root = tmp_path_factory.mktemp("compose")
    kit = Kit(root)
    kit.folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPOSE", f"{sys.executable} {HERE / 'uncontained.py'}")
        patch.setenv("UNCONTAINED", str(kit.volumes))
        patch.chdir(root)
        configure(kit.folder.relative_to(root))
        found(Compose(), kit.folder.relative_to(root))
    return kit


@pytest.fixture(scope="module")
def store(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KitStore]:
    server = KitStore(tmp_path_factory.mktemp("store"), kit)
    try:
        with needing_servers():
            server.start()
        yield server
    finally:
        server.close()


def test_private_keys_of_parties_never_leave_their_volumes(kit: Kit) -> None:
    with_keys = {path.name for path in kit.folder.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()}
    assert with_keys == {"server.key", "prometheus.key"}
    assert {path.name for path in (kit.volumes / "keyholders").iterdir()} == {"first.key", "first.pub"}
    for party in ("coordinator", *SILOS):
        state = kit.volumes / party / "state"
        assert (state / "tls/party.crt").exists()
        assert (state / "store.json").exists()


def test_the_kit_is_closed_to_others_and_open_to_its_containers(kit: Kit) -> None:
    assert stat.S_IMODE(kit.folder.stat().st_mode) == 0o700
    for path in kit.folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_every_file_that_compose_mounts_is_there(kit: Kit) -> None:
    text = (DEPLOY / "compose.yaml").read_text() + (DEPLOY / "compose/minio.yaml").read_text()
    named = {path for path in re.findall(r"\.\./kit/([\w./-]+)", text) if not path.startswith(("tables", "runs"))}
    assert len(named) > 10
    assert not [path for path in named if not (kit.folder / path).exists()]


def test_a_second_founding_is_refused_and_touches_nothing(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE", f"{sys.executable} {HERE / 'uncontained.py'}")
    monkeypatch.setenv("UNCONTAINED", str(kit.volumes))
    monkeypatch.chdir(kit.folder.parent)
    before = (kit.folder / FOUNDED).read_text()
    with pytest.raises(SilokitError, match="holds a coordinator already") as refused:
        found(Compose(), Path("kit"))
    assert "make down VOLUMES=1" in refused.value.fix
    assert (kit.folder / FOUNDED).read_text() == before


def test_who_has_no_compose_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE", "no-such-compose")
    with pytest.raises(SilokitError, match="there is no `no-such-compose`"):
        Compose()


def test_members_have_the_rights_of_members_in_the_store(kit: Kit, store: KitStore) -> None:
    first, second = store.make_bucket(), store.make_bucket()
    assert (first.returncode, second.returncode) == (0, 0), first.stdout + first.stderr
    ours = kit.store("admissions")
    assert ours.put("support2/admissions/run/one", b"sealed")
    with pytest.raises(AccessDenied):
        ours.put("support2/outcomes/run/one", b"forged")
    assert kit.store("outcomes").read("support2/admissions/run/one", 10) == b"sealed"


def test_only_s3_listens_beyond_the_container(kit: Kit, store: KitStore) -> None:
    assert open_to_others(store.pid) == set(kit.ports["s3"])


@pytest.mark.parametrize("caller", ["nobody", "a member", "in plain text"])
def test_the_port_by_which_s3_is_administered_lets_nobody_in(kit: Kit, store: KitStore, caller: str) -> None:
    context = ssl.create_default_context(cafile=kit.folder / "provisioned/authority.crt")
    context.set_alpn_protocols(["h2"])
    if caller == "a member":
        tls = kit.volumes / "admissions/state/tls"
        context.load_cert_chain(tls / "party.crt", tls / "party.key")
    plain = socket.create_connection(("127.0.0.1", kit.ports["s3"][1]), 10)
    with plain if caller == "in plain text" else context.wrap_socket(plain, server_hostname="store") as line:
        try:  # in TLS 1.3 the refusal comes after the greeting
            line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS)
            answer = line.recv(100)
        except (ssl.SSLError, ConnectionError):
            answer = b""
    assert not answer


def test_the_servers_certificate_bears_every_name_that_they_are_called_by(kit: Kit) -> None:
    shown = x509.load_pem_x509_certificate((kit.folder / "provisioned/server.crt").read_bytes())
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == set(HOSTS)
    assert {"broker", "store"} <= set(HOSTS)


def open_to_others(pid: int) -> set[int]:
    """The TCP ports on which a process listens for more than its own machine."""
    sockets = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in the meantime
            sockets.add(str(path.readlink()))
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            loopback = address in {"0100007F", "00000000000000000000000001000000"}
            if fields[3] == "0A" and not loopback and f"socket:[{fields[9]}]" in sockets:
                ports.add(int(port, 16))
    return ports
