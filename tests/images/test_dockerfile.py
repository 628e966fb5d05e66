"""The Dockerfile's own promises, which need no container engine: style, who may be in which image, how it starts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.bundle import __main__ as bundle
from deploy.images import HERE, PROGRAMS, REPOSITORY

DOCKERFILE = HERE / "Dockerfile"
HADOLINT = Path(sys.executable).parent / "hadolint"


def stages() -> dict[str, list[str]]:
    """The instructions of every stage, each on one line, by the stage's name."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    found: dict[str, list[str]] = {}
    for instruction in filter(None, "\n".join(lines).replace("\\\n", " ").splitlines()):
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", instruction):
            current = found.setdefault(match[2], [])
        elif found:
            current.append(instruction)
    return found


def words(stage: str, instruction: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in stages()[stage] if line.split()[0] == instruction]


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([HADOLINT, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_image_is_given_the_other_programs_code(program: str) -> None:
    (other,) = set(PROGRAMS) - {program}
    sources = " ".join(words(f"{program}-code", "COPY") + words(program, "COPY"))
    assert program.replace("-", "_") in sources
    assert other.replace("-", "_") not in sources.replace("/coordinator.py", "").split()
    assert f"{other}-code" not in sources


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_image_starts_and_is_asked_for_its_health_without_a_shell(program: str) -> None:
    assert json.loads(*words(program, "ENTRYPOINT")) == [program]
    assert json.loads(*words(program, "CMD")) == ["serve"]
    assert json.loads(words(program, "HEALTHCHECK")[0].rpartition("CMD ")[2]) == [program, "alive"]
    assert words("runtime", "USER") == ["10001:10001"]


@pytest.mark.parametrize("script", sorted(HERE.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_one_that_any_shell_reads(script: Path) -> None:
    done = subprocess.run(["dash", "-n", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_what_is_named_goes_into_the_builders_context() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"


def test_a_bundles_wheels_come_from_where_its_images_libraries_come_from() -> None:
    assert f"ARG TORCH_INDEX={bundle.TORCH_INDEX}\n" in DOCKERFILE.read_text()
