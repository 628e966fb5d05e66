"""What `silo-agent check` looks at, and what an agent looks at before it joins: each failure comes with its fix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

import protocols
from services.checks import check_home, check_party, read_configuration
from services.config import read_yaml
from services.errors import ConfigError
from services.report import Caution, Report
from silo_agent.settings import SiloConfig, load, load_policy


def check_data(config: SiloConfig, spec: Mapping[str, Any]) -> str:
    """Check the silo's table against a run's public schema.

    Raises:
        DataError, ConfigError: what contradicts it, with counts and columns.
    """
    from protocols.learning.table import scan_table  # noqa: PLC0415 - pandas only when there is a table to read
    from protocols.spec import parse_spec  # noqa: PLC0415

    parsed = parse_spec(spec)
    if config.name not in parsed.silos:
        raise ConfigError(f"the run specification has no silo named {config.name}")
    columns = parsed.columns_of(config.name)
    if not columns:
        return "the run needs no table"
    if config.data is None:
        raise ConfigError("the configuration names no table", fix="set `data` to a CSV or Parquet file")
    ids = scan_table(config.data, columns, parsed.identifier)
    return f"{len(ids)} rows, {len(columns)} columns fit the schema"


def run_checks(
    console: Console, path: Path, spec: Path | None, *, network: bool, start: bool = False, table: bool = True
) -> bool:
    """Run and print every check, that of the table only if asked for.

    Returns:
        Whether all passed, or with `start` those that waiting does not heal.
    """
    report = Report(console)
    config = read_configuration(report, lambda: load(path), path)
    can_start = False
    if config is not None:
        can_start = report.look("policy", lambda: _policy(config)) & check_home(report, config)
        check_party(report, config, network=network)
        if table:
            report.look("data", lambda: _data(config, spec))
    report.show()
    return can_start if start else report.passed


def _policy(config: SiloConfig) -> str:
    policy = load_policy(config)
    if policy.approval == "automatic" and policy.table is None:
        raise Caution(
            "every offer that is answered without a person tells whether the rows fit what the run declares of them",
            fix="write the table's public schema under `table`, or let a person approve runs (`approval: manual`)",
        )
    allowed = ", ".join(policy.protocols) or "no protocol"
    return f"allows {allowed}; {len(policy.unprotected)} kinds may leave unprotected; {policy.approval} approval"


def _data(config: SiloConfig, spec: Path | None) -> str:
    if spec is not None:
        parsed = protocols.check_spec(read_yaml(spec), str(spec))
        if config.name in parsed.silos:
            load_policy(config).check_table(parsed.columns_of(config.name), parsed.identifier)
        return check_data(config, parsed.model_dump(mode="json"))
    if config.data is None:
        raise ConfigError("the configuration names no table", fix="set `data` to a CSV or Parquet file")
    from protocols.learning.table import read_blocks  # noqa: PLC0415 - pandas only when there is a table to read

    shapes = [block.shape for block in read_blocks(config.data)]
    rows, columns = sum(rows for rows, _ in shapes), shapes[0][1]
    return f"{rows} rows, {columns} columns (give --spec to check them against a run's schema)"
