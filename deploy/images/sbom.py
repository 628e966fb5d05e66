"""What an image consists of, as a CycloneDX bill of materials: every Python distribution and every Debian package.

`python -m deploy.images.sbom FOLDER` writes one for each image of this version. It asks the image itself, which has no
network; the same image always gives the same bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from deploy.images import PROGRAMS, call, version

_NAMESPACE = UUID("7f0c1f0e-3d0b-5a52-9a5e-0f6a6b0c5f11")  # a random one: only so that equal images get equal numbers
_ASK = """
import importlib.metadata as metadata, json, subprocess
python = [{"name": one.metadata["Name"], "version": one.version, "needs": one.requires or [],
           "license": one.metadata["License-Expression"] or one.metadata["License"] or ""}
          for one in metadata.distributions()]
form = "${binary:Package}\\t${Version}\\t${Architecture}\\t${source:Package}\\n"
debian = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout
print(json.dumps({"python": python, "debian": [line.split("\\t") for line in debian.splitlines()]}))
"""


def main() -> None:
    """Write both images' bills of materials into a folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        path = folder / f"{program}-{version()}.cdx.json"
        path.write_text(of(f"silokit/{program}:{version()}"), encoding="utf-8")
        print(path)


def of(image: str) -> str:
    """The bill of materials of an image that the engine has.

    Raises:
        EngineError: it has not.
    """
    (facts,) = json.loads(call("image", "inspect", image))
    asked = ("run", "--rm", "--no-healthcheck", "--read-only", "--network=none", "--entrypoint", "python3", image)
    parts = json.loads(call(*asked, "-c", _ASK))
    return document(image, facts, parts["python"], parts["debian"])


def document(
    image: str, facts: Mapping[str, Any], python: Sequence[Mapping[str, Any]], debian: Sequence[Sequence[str]]
) -> str:
    """The bill of materials of an image.

    Args:
        image: its name and tag.
        facts: what the engine tells of it: `Id`, and in `Config` its labels.
        python: its Python distributions: `name`, `version`, `license` (SPDX, words or nothing), `needs` (requirements).
        debian: its Debian packages: name, version, architecture, source.

    Returns:
        CycloneDX 1.6 as JSON.
    """
    labels = facts["Config"]["Labels"]
    name, _, tag = image.rpartition(":")
    bom = Bom(serial_number=uuid5(_NAMESPACE, facts["Id"]))
    bom.metadata.timestamp = datetime.fromisoformat(labels["org.opencontainers.image.created"]).astimezone(UTC)
    bom.metadata.component = whole = Component(
        name=name, version=tag, type=ComponentType.CONTAINER, bom_ref=f"{name}:{tag}",
        description=labels["org.opencontainers.image.description"],
    )  # fmt: skip
    for package, number, architecture, source in debian:
        deb = PackageURL("deb", "debian", package.partition(":")[0], number, {"arch": architecture, "source": source})
        bom.components.add(_component(package, number, deb))
    found = {
        canonicalize_name(one["name"]): _component(
            one["name"], one["version"], PackageURL("pypi", None, canonicalize_name(one["name"]), one["version"]),
            one["license"],
        )
        for one in python
    }  # fmt: skip
    bom.components.update(found.values())
    for one in python:
        needed = {canonicalize_name(name) for name in _names(one["needs"])} & found.keys()
        bom.register_dependency(found[canonicalize_name(one["name"])], [found[name] for name in needed])
    bom.register_dependency(whole, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=2)


def _component(name: str, number: str, purl: PackageURL, expression: str = "") -> Component:
    words = expression.strip().partition("\n")[0]  # some put a whole text where a name belongs
    licenses = [LicenseFactory().make_from_string(words)] if words else []
    return Component(
        name=name, version=number, purl=purl, type=ComponentType.LIBRARY, bom_ref=str(purl), licenses=licenses
    )


def _names(requirements: Sequence[str]) -> list[str]:
    """What these requirements name; one that holds only under another extra or system is met by who is there."""
    found = []
    for text in requirements:
        try:
            found.append(Requirement(text).name)
        except InvalidRequirement:  # metadata of other people's making
            continue
    return found


if __name__ == "__main__":
    main()
