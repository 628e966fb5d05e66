"""The silo's configuration file, and the files that `init` writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from services.artifact import Name
from services.config import read_config
from services.wiring import PartyConfig
from silo_agent.policy import Policy

CONFIG_FILE = "silo-agent.yaml"
ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="SILO_AGENT_CONFIG", help="The silo's configuration file.")
]


class SiloConfig(PartyConfig):
    """See `PartyConfig`; a silo has a table and a policy besides."""

    data: Path | None = Field(default=None, description="the silo's table: CSV or Parquet, one row per person")
    dataset: Name = Field(default="records", description="the name under which the policy registers the table")
    policy: Path = Field(default=Path("policy.yaml"), description="the silo's own policy")


def load(path: Path) -> SiloConfig:
    """Read the configuration, with every path made absolute.

    Raises:
        ConfigError: every problem, with its key.
    """
    config = read_config(path, SiloConfig)
    base = Path(os.path.abspath(path.parent))  # noqa: PTH100 - resolve() would follow links that mounts change
    return config.located(base).model_copy(
        update={"policy": base / config.policy, "data": base / config.data if config.data else None}
    )


def load_policy(config: SiloConfig) -> Policy:
    """Read the policy as it stands now.

    Raises:
        ConfigError: every problem, with its key.
    """
    return read_config(config.policy, Policy)


def config_text(name: str, federation: str, data: Path | None, store: str, bus: str) -> str:
    """A configuration file for a new silo."""
    table = f"data: {data}" if data else "# data: table.csv"
    return f"""\
# The configuration of silo {name}. Relative paths start at this file.
federation: {federation}
name: {name}

# The silo's table, CSV or Parquet, one row per person. It never leaves this machine.
{table}
# The name under which the policy registers the table: a new extract keeps the name, and with it what was spent.
dataset: {SiloConfig.model_fields["dataset"].default}

# Private folder for keys and state: one per silo, on a local disk, in the backup.
home: state
# Results of runs, a folder per run.
outputs: outputs
policy: policy.yaml

# Where sealed artifacts lie and notices are queued; the same for every party of the federation.
store:
{store}
bus:
{bus}

# auto takes a GPU when there is one; else cpu or cuda.
device: auto

# Where health (/healthz, /readyz) and metrics for Prometheus (/metrics) are served; nowhere without these lines.
# monitoring:
#   host: 127.0.0.1
#   port: 9464
"""


POLICY_TEXT = f"""\
# This silo's own word. Nobody outside can change this file; a change counts from the next decision on.

# Protocols that may run here, for example [silofuse].
protocols: []

# What may leave without a privacy claim. Nothing, until you copy a protocol's own sentence here, for example:
#   align.pseudonyms: "keyed pseudonyms of identifiers: the coordinator sees set sizes and overlaps"
#   silofuse.latents: "codes of private rows without differential privacy: personal data for the coordinator's eyes"
#   product.table: "synthetic columns without differential privacy: they can resemble real people"
unprotected: {{}}

# The fewest common training records that a run may have: every silo refuses below its own minimum.
minimum_rows: {Policy.model_fields["minimum_rows"].default}

# manual: a person says `silo-agent approve RUN`; automatic: what the policy allows is joined at once.
approval: manual

# The table's public schema, which runs must then declare word for word. Without it a run may declare anything, and
# whether this silo joins tells whether its rows fit: do not leave that to `automatic`. For example:
#   table: {{identifier: {{column: patient}}, columns: {{age: {{type: integer, min: 0, max: 120}}}}}}
# `silo-agent schema draft` writes such columns for review.

# Members that this silo's synthetic columns may be released to by `silo-agent release`.
release_to: []

# What may be released about each data set under differential privacy, by the name that the configuration gives it.
# delta is public and well below one over any number of people, never computed from it. What is spent is never given
# back, and a higher epsilon_for_life is a new promise to the people in the table: leave room for several runs. For
# example:
#   records: {{epsilon_per_run: 1.0, epsilon_for_life: 5.0, delta: 1.0e-6}}
datasets: {{}}

# The most that somebody else's generator may have cost the people behind it, for this silo to pull it from the pool.
pool_epsilon: {Policy.model_fields["pool_epsilon"].default}
"""
