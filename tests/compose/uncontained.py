"""Plays Docker Compose without containers: the programs of deploy/compose.yaml, each with a folder as its volume.

It knows `run`, `exec`, `up` and `cp` as `deploy.compose` types them; UNCONTAINED names the folder for the volumes,
whose names are those of the services.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

VOLUMES = Path(os.environ.get("UNCONTAINED", "."))
BIN = Path(sys.executable).parent


def outside(text: str, service: str) -> str:
    """A text with a container's paths and the kit's host names as they are outside."""
    volume = "coordinator" if service == "desk" else service
    places = {"/var/lib/silokit": VOLUMES / volume, "/keyholders": VOLUMES / "keyholders"}
    for inside, place in places.items():
        text = text.replace(inside, str(place))
    return text.replace("store:9000", f"localhost:{os.environ.get('UNCONTAINED_STORE', '9')}")


def main(words: list[str]) -> int:
    """Do what Compose would; returns its exit code."""
    while words[0].startswith("-"):
        words = words[2:]
    action, *rest = words
    if action == "up":
        return 0
    if action == "cp":
        service, _, path = rest[0].partition(":")
        shutil.copytree(outside(path, service), Path(rest[1]) / Path(path).name, dirs_exist_ok=True)
        return 0
    service, *told = [word for word in rest if word not in {"--rm", "--no-deps", "-T"}]
    program = "coordinator" if service in {"coordinator", "desk"} else "silo-agent"
    told = told[1:] if action == "exec" else told
    party = "coordinator" if program == "coordinator" else service
    folder = VOLUMES / f"{service}-configuration"
    shutil.copytree(Path("kit") / party, folder, dirs_exist_ok=True)
    config = folder / f"{program}.yaml"
    config.write_text(outside(config.read_text(), service))
    line = [BIN / program, *(outside(word, service) for word in told), "--config", config]
    return subprocess.run(line, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
