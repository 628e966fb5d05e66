"""The bundle as an institution without a network meets it: verified, loaded, installed; and damaged on its way."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.images import PROGRAMS, REPOSITORY, call, engine, version
from tests.images.containers import BASE, images
from tests.images.test_verify import new_key, verify

pytestmark = pytest.mark.timeout(3600)
INSTALL = """
set -e
cd /bundle
python3 -m venv /venv
/venv/bin/pip install --quiet --no-index --find-links wheels 'silokit[evaluation]'
/venv/bin/silo-agent --help
/venv/bin/coordinator --help
/venv/bin/python -c 'import anonymeter, torch, xgboost'
"""


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_key(tmp_path_factory.mktemp("signer") / "signer.key")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Path:
    """The bundle that `make bundle` makes, as it arrives."""
    images()
    place = tmp_path_factory.mktemp("bundle")
    command = [sys.executable, "-m", "deploy.bundle", "--key", key, "--out", place]
    made = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    archive = Path(made.stdout.splitlines()[-1])
    with tarfile.open(archive) as tar:
        tar.extractall(place, filter="data")
    archive.unlink()  # what it held lies there now, and it is large
    return place / f"silokit-{version()}"


@pytest.fixture
def damaged(unpacked: Path) -> Iterator[Path]:
    """A file of the bundle in which one bit is another."""
    victim = unpacked / "images" / "silo-agent.oci.tar"

    def flip() -> None:
        with victim.open("r+b") as file:
            file.seek(victim.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))

    flip()
    yield victim
    flip()


def test_what_arrives_is_whole_and_verified(unpacked: Path, key: Path, figure: Callable[[str], None]) -> None:
    code, said = verify(unpacked, key.with_suffix(".pub"))
    assert code == 0, said
    sizes = {part.name: sum(one.stat().st_size for one in part.rglob("*")) / 1e9 for part in unpacked.iterdir()}
    figure(", ".join(f"bundle {name}: {size:.2f} GB" for name, size in sorted(sizes.items()) if size > 0.01))
    assert {"images", "charts", "wheels", "sbom", "docs", "INSTALL.md", "load.sh", "verify.sh"} <= sizes.keys()


def test_one_changed_bit_in_an_image_is_found_and_the_image_named(damaged: Path, unpacked: Path, key: Path) -> None:
    code, said = verify(unpacked, key.with_suffix(".pub"))
    assert code == 1
    assert "images/silo-agent.oci.tar: FAILED" in said


def test_the_images_are_loaded_and_run_without_a_network(unpacked: Path) -> None:
    for program in PROGRAMS:
        name = f"docker.io/silokit/{program}:{version()}"
        call("rmi", name)
        subprocess.run(["sh", unpacked / "load.sh", engine(), program], check=True)
        assert "Usage" in call("run", "--rm", "--read-only", "--network=none", name, "--help")


def test_the_wheels_are_all_that_pip_needs_without_a_network(unpacked: Path) -> None:
    mount = f"{unpacked}:/bundle:ro"
    said = call("run", "--rm", "--network=none", "--volume", mount, "--entrypoint", "sh", BASE, "-c", INSTALL)
    assert said.count("Usage") == 2


def test_the_charts_are_there(unpacked: Path) -> None:
    for program in PROGRAMS:
        with tarfile.open(unpacked / "charts" / f"{program}-{version()}.tgz") as chart:
            assert f"{program}/values.schema.json" in chart.getnames()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_bill_of_materials_names_what_is_in_the_image(unpacked: Path, program: str) -> None:
    bill = json.loads((unpacked / "sbom" / f"{program}-{version()}.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    found = {one["purl"].partition("@")[0]: one["version"] for one in bill["components"]}
    assert found["pkg:pypi/silokit"] == version()
    assert found["pkg:pypi/torch"].startswith("2.13.0")
    assert "pkg:deb/debian/libc6" in found
    assert ("pkg:pypi/anonymeter" in found) == (program == "silo-agent")
