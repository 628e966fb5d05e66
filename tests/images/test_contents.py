"""What lies in the images: one program each, nothing that builds, nothing secret, nothing that could be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deploy.images import PROGRAMS, call
from tests.images.containers import images, inspect, python

OTHER = {"silo-agent": "coordinator", "coordinator": "silo_agent"}
OTHER_HALF = {"silo-agent": "coordinator.py", "coordinator": "silo.py"}
GIGABYTES = {"silo-agent": 1.32, "coordinator": 1.1}
TOOLS = {"as", "c++", "cc", "cpp", "g++", "gcc", "ld", "make", "pip", "pip3", "strip", "uv"}
WALK = """
import json, os, stat
found = []
for folder, folders, files in os.walk("/"):
    folders[:] = [one for one in folders if os.path.join(folder, one) not in ("/proc", "/sys", "/dev", "/tmp", "/run")]
    for name in files:
        path = os.path.join(folder, name)
        about = os.lstat(path)
        if not about.st_size: continue  # where a builder mounts something, it leaves an empty file
        found.append([path, about.st_uid, stat.S_IMODE(about.st_mode), stat.S_ISREG(about.st_mode)])
print(json.dumps(found))
"""
SECRETS = """
import json, os
found = []
for folder, _, files in os.walk("/opt/silokit"):
    for name in files:
        path = os.path.join(folder, name)
        if name.endswith((".py", ".pyc", ".so")): continue
        if b"PRIVATE KEY-----" in open(path, "rb").read(): found.append(path)
print(json.dumps(found))
"""

pytestmark = [pytest.mark.timeout(3600), pytest.mark.parametrize("program", PROGRAMS)]


def files(program: str) -> list[Any]:
    return list(python(images()[program], WALK, "--user=0"))


def test_an_image_holds_its_own_program_alone(program: str) -> None:
    paths = [path for path, *_ in files(program)]
    ours = [path for path in paths if "/site-packages/protocols/" in path]
    assert any(f"/site-packages/{program.replace('-', '_')}/" in path for path in paths)
    assert not [path for path in paths if f"/site-packages/{OTHER[program]}/" in path]
    assert ours
    assert not [path for path in ours if path.endswith(f"/{OTHER_HALF[program]}")]
    assert not [path for path in paths if path.endswith(f"/bin/{OTHER[program].replace('_', '-')}")]


def test_an_image_holds_nothing_that_builds_or_installs(program: str) -> None:
    paths = [path for path, *_ in files(program)]
    assert not [path for path in paths if "/bin/" in path and path.rpartition("/")[2] in TOOLS]
    assert not [path for path in paths if "/pip/" in path or "/.cache/" in path or "/ensurepip/" in path]
    assert not [path for path in paths if path.startswith(("/build", "/pip", "/root/.cache", "/root/.config"))]


def test_an_image_holds_no_secret_and_nothing_of_anybodys_work(program: str) -> None:
    paths = [path for path, *_ in files(program)]
    assert not python(images()[program], SECRETS)
    assert not [path for path in paths if path.endswith((".sqlite", ".key", ".env", "pip.conf")) or "/.git/" in path]
    variables = " ".join(inspect(images()[program])["Config"]["Env"])
    assert not [word for word in ("TOKEN", "SECRET", "PASSWORD", "PROXY", "INDEX") if word in variables.upper()]


def test_the_images_own_user_could_change_no_program_even_on_a_writable_root(program: str) -> None:
    for path, owner, mode, regular in files(program):
        assert owner == 0 or path.startswith("/var/lib/silokit"), path
        assert not regular or not mode & 0o002, path


def test_an_image_says_what_it_is_and_runs_as_a_stranger(program: str) -> None:
    config = inspect(images()[program])["Config"]
    assert config["User"] == "10001:10001"
    assert (config["Entrypoint"], config["Cmd"]) == ([program], ["serve"])
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels["title"] == f"silokit {program}"
    assert all(labels[name] for name in ("version", "revision", "created", "licenses", "base.name", "description"))
    assert "Usage" in call("run", "--rm", "--read-only", "--network=none", images()[program], "--help")


def test_an_image_is_not_larger_than_it_must_be(program: str, figure: Callable[[str], None]) -> None:
    size = inspect(images()[program])["Size"] / 1e9
    figure(f"{program} image: {size:.2f} GB unpacked")
    assert size < GIGABYTES[program]
