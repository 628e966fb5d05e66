"""The coordinator's configuration file, and the one that `init` writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self

import typer
from pydantic import Field, model_validator

from services.config import read_config
from services.wiring import PartyConfig

CONFIG_FILE = "coordinator.yaml"
ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="COORDINATOR_CONFIG", help="The coordinator's configuration file.")
]


class CoordinatorConfig(PartyConfig):
    """See `PartyConfig`; the coordinator keeps the roster besides."""

    roster_days: int = Field(default=7, ge=1, le=366, description="how long a signed roster is believed")
    grace_days: int = Field(
        default=7, ge=1, le=366, description="how long signatures of a key are taken that a member gave up"
    )
    keyholders: Path = Field(
        default=Path("keyholders"),
        description="a folder with keyholders' private keys: a medium that is there only while they sign",
    )

    processes: int = Field(
        default=1, ge=1, le=64, description="how many processes of this machine share a training, a GPU for each"
    )

    @model_validator(mode="after")
    def _a_device_for_each(self) -> Self:
        if self.processes > 1 and ":" in self.device:
            raise ValueError(f"`device: {self.device}` is one GPU, and `processes` asks for {self.processes}")
        return self

    def located(self, base: Path) -> Self:
        """See `PartyConfig.located`."""
        return super().located(base).model_copy(update={"keyholders": base / self.keyholders})


def load(path: Path) -> CoordinatorConfig:
    """Read the configuration, with every path made absolute.

    Raises:
        ConfigError: every problem, with its key.
    """
    base = Path(os.path.abspath(path.parent))  # noqa: PTH100 - resolve() would follow links that mounts change
    return read_config(path, CoordinatorConfig).located(base)


def config_text(name: str, federation: str, store: str, bus: str) -> str:
    """A configuration file for a new coordinator."""
    return f"""\
# The configuration of the coordinator of federation {federation}. Relative paths start at this file.
federation: {federation}
name: {name}

# Private folder for keys (the consortium's root key among them) and state: on a local disk, in the backup.
home: state
outputs: outputs

# Where sealed artifacts lie and notices are queued; the same for every party of the federation.
store:
{store}
bus:
{bus}

# How many days a signed roster is believed; `coordinator renew` has a fresh one signed.
roster_days: 7
# Keyholders' private keys: a medium that is there only while they sign.
keyholders: keyholders

# auto takes a GPU when there is one; else cpu or cuda.
device: auto

# Where health (/healthz, /readyz) and metrics for Prometheus (/metrics) are served; nowhere without these lines.
# monitoring:
#   host: 127.0.0.1
#   port: 9464
"""
