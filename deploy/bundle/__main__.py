"""Packs images, charts, wheels, bills of materials and documents into one archive, listed by digest and signed.

The archive is unpacked, verified and loaded with shell scripts that it carries. The signing key is the caller's own and
is never made here; without one the bundle says that it is unsigned, and is refused unless somebody insists.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from deploy.images import PROGRAMS, REPOSITORY, call, sbom, version
from deploy.tools.charts import package
from services.errors import SilokitError

HERE = Path(__file__).parent
DOCUMENTS = (
    "README.md", "CHANGELOG.md", "LICENSE", "constraints.txt", "protocols/*/README.md", "deploy/monitoring",
    "helm/README.md", "helm/*/values.yaml",
    "deploy/compose/README.md", "deploy/compose.silo.yaml", "deploy/compose/silo",
)  # fmt: skip
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where PyTorch comes from, as for the images; the environment may name another index, or none."""
SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"


def main() -> None:
    """Make the bundle of this version."""
    parser = argparse.ArgumentParser(prog="make bundle", description=__doc__)
    parser.add_argument("--key", type=Path, help="an Ed25519 private key (PEM); without one nobody signs")
    parser.add_argument("--out", type=Path, default=Path("build"), help="the folder to put the archive into")
    arguments = parser.parse_args()
    try:
        print(make(arguments.out.resolve(), arguments.key))
    except SilokitError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def make(out: Path, key: Path | None) -> Path:
    """Pack everything; returns the archive.

    Args:
        out: the folder that it goes into.
        key: who signs; nobody if it is absent.

    Raises:
        SilokitError: a part cannot be made, or the key cannot sign.
    """
    name = f"silokit-{version()}"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".bundle-") as place:
        folder = Path(place) / name
        for fill in (images, bills, charts, wheels, documents):
            print(f"{fill.__name__}: {(fill.__doc__ or '').partition(chr(10))[0]}", flush=True)
            fill(folder)
        seal(folder, key)
        archive = out / f"{name}-bundle.tar"
        _pack(folder, archive)
    return archive


def images(folder: Path) -> None:
    """Both programs' images as OCI archives."""
    target = folder / "images"
    target.mkdir(parents=True)
    for program in PROGRAMS:
        name = f"docker.io/silokit/{program}:{version()}"  # the whole name, as every engine reads the short one
        call("tag", f"silokit/{program}:{version()}", name)
        form = ("--format", "oci-archive") if call("--version").startswith("podman") else ()
        call("save", *form, "--output", target / f"{program}.oci.tar", name)


def bills(folder: Path) -> None:
    """What each image consists of, in CycloneDX."""
    target = folder / "sbom"
    target.mkdir(parents=True)
    for program in PROGRAMS:
        text = sbom.of(f"silokit/{program}:{version()}")
        (target / f"{program}-{version()}.cdx.json").write_text(text, encoding="utf-8")


def charts(folder: Path) -> None:
    """Both Helm charts, packaged."""
    package(folder / "charts")


def wheels(folder: Path) -> None:
    """Everything that pip needs to install the kit on this kind of machine without an index."""
    target = folder / "wheels"
    pip = [sys.executable, "-m", "pip"]
    index = os.environ.get("TORCH_INDEX", TORCH_INDEX)
    torch = ["--no-deps", *(["--index-url", index] if index else []), "torch"]
    for words in (
        [*pip, "download", "--quiet", "--dest", target, "-c", "constraints.txt", *torch],
        [*pip, "wheel", "--quiet", "--wheel-dir", target, "-f", target, "-c", "constraints.txt", ".[evaluation]"],
    ):
        done = subprocess.run(words, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SilokitError(f"pip does not bring the wheels: {done.stderr.strip()}", fix="run this with a network")


def documents(folder: Path) -> None:
    """What people read and run first."""
    for pattern in DOCUMENTS:
        for source in REPOSITORY.glob(pattern):
            target = folder / "docs" / source.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
            else:
                shutil.copyfile(source, target)
    for name in ("INSTALL.md", "verify.sh", "load.sh"):
        shutil.copy(HERE / name, folder / name)
    (folder / "VERSION").write_text(version() + "\n", encoding="utf-8")


def seal(folder: Path, key: Path | None) -> None:
    """List every file by its digest, and sign the list.

    Args:
        folder: the bundle's.
        key: an Ed25519 private key in PEM; None leaves the list unsigned.

    Raises:
        SilokitError: the key is absent, or OpenSSL cannot sign with it.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{_digest(path)}  {path.relative_to(folder)}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    if key is None:
        print("unsigned: nobody can tell where this bundle comes from; BUNDLE_KEY=FILE signs it", file=sys.stderr)
        return
    words = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", folder / SUMS, "-out", folder / SIGNATURE]
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SilokitError(
            f"OpenSSL cannot sign with {key}: {done.stderr.strip()}",
            fix="make a key with `openssl genpkey -algorithm ed25519 -out FILE`, and keep it offline",
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pack(folder: Path, archive: Path) -> None:
    """Write the archive under its name only when it is whole."""
    new = archive.with_suffix(".new")
    with tarfile.open(new, "w") as tar:
        tar.add(folder, folder.name, filter=_nobodys)
    new.replace(archive)


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
