"""What `silo-agent check` looks at, and what an agent looks at before it joins: each failure comes with its fix."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import protocols
from services.config import read_yaml
from services.errors import ConfigError, SilokitError, TrustError
from services.files import TEMPORARY
from services.trust.tuf import TufTrust, pinned
from services.wiring import examine_store, load_keys, open_bus, open_store, trust_folder, wall_clock
from silo_agent.settings import SiloConfig, load, load_policy

BUS_SECONDS = 15.0
"""How long `check` waits for a broker to answer."""


def check_data(config: SiloConfig, spec: Mapping[str, Any]) -> str:
    """Check the silo's table against a run's public schema.

    Raises:
        DataError, ConfigError: what contradicts it, with counts and columns.
    """
    from protocols.learning.table import read_table  # noqa: PLC0415 - pandas only when there is a table to read
    from protocols.spec import parse_spec  # noqa: PLC0415

    parsed = parse_spec(spec)
    part = parsed.silos.get(config.name)
    if part is None:
        raise ConfigError(f"the run specification has no silo named {config.name}")
    if not part.columns:
        return "the run needs no table"
    if config.data is None:
        raise ConfigError("the configuration names no table", fix="set `data` to a CSV or Parquet file")
    ids, table = read_table(config.data, part.columns, parsed.identifier)
    return f"{len(ids)} rows, {len(table.columns)} columns fit the schema"


def run_checks(console: Console, path: Path, spec: Path | None) -> bool:
    """Run and print every check; returns whether all passed."""
    table = Table(box=None, header_style="bold")
    for heading in ("", "check", "found"):
        table.add_column(heading, overflow="fold")
    passed = True
    config: SiloConfig | None = None

    def look(name: str, test: Callable[[], str]) -> None:
        nonlocal passed
        try:
            table.add_row("[green]ok[/]", name, test())
        except SilokitError as error:
            passed = False
            table.add_row("[red]no[/]", name, error.what + (f"\n[bold]fix:[/] {error.fix}" if error.fix else ""))

    def configuration() -> str:
        nonlocal config
        config = load(path)
        return str(path)

    look("configuration", configuration)
    if config is not None:
        found = config
        look("policy", lambda: _policy(found))
        look("keys", lambda: f"fingerprint {load_keys(found).public.fingerprint()}")
        look("store", lambda: _store(found))
        look("bus", lambda: _bus(found))
        look("roster", lambda: _roster(found))
        look("data", lambda: _data(found, spec))
    console.print(table)
    return passed


def _policy(config: SiloConfig) -> str:
    policy = load_policy(config)
    allowed = ", ".join(policy.protocols) or "no protocol"
    return f"allows {allowed}; {len(policy.unprotected)} kinds may leave unprotected; {policy.approval} approval"


def _store(config: SiloConfig) -> str:
    store = open_store(config.store)
    lacks = examine_store(config, store)
    count = sum(1 for _ in store.list(f"{config.federation}/"))
    return "; ".join([f"{count} objects of {config.federation}", *lacks])


def _bus(config: SiloConfig) -> str:
    bus = open_bus(config)
    try:
        bus.wait_ready(BUS_SECONDS)
        return f"{len(bus.consume())} notices wait"
    finally:
        bus.close()


def _roster(config: SiloConfig) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        # a copy, so that a running agent is not disturbed, and what it has seen before is not forgotten
        pinned(trust_folder(config))
        folder = Path(
            shutil.copytree(
                trust_folder(config),
                Path(scratch) / "trust",
                symlinks=True,
                ignore=shutil.ignore_patterns(f"{TEMPORARY}*", "tmp*"),
            )
        )
        belief = TufTrust(config.federation, folder, open_store(config.store), wall_clock).look()
    ring = load_keys(config)
    named = belief.roster.members.get(config.name)
    if named != ring.public and not (ring.next and named == ring.next.public):
        raise TrustError(
            f"the roster (version {belief.version}) has no {config.name} with these keys",
            fix="send the enrolment request to the consortium, or ask whether its keyholders have signed",
        )
    return f"version {belief.version}, {len(belief.roster.members)} members, until {belief.expires:%Y-%m-%d}"


def _data(config: SiloConfig, spec: Path | None) -> str:
    if spec is not None:
        parsed = protocols.check_spec(read_yaml(spec), str(spec))
        return check_data(config, parsed.model_dump(mode="json"))
    if config.data is None:
        raise ConfigError("the configuration names no table", fix="set `data` to a CSV or Parquet file")
    from protocols.learning.table import read_columns  # noqa: PLC0415 - pandas only when there is a table to read

    table = read_columns(config.data)
    return f"{len(table)} rows, {len(table.columns)} columns (give --spec to check them against a run's schema)"
