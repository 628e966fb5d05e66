"""The product: a silo's synthetic columns, released to others, and one table assembled from the released parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.artifact import Unprotected
from services.contract import Message, Received
from services.errors import DataError, InvalidArtifact
from services.files import copy_to_disk, private_folder, sync_folder
from services.runs import Run
from silo_agent.policy import TABLE, TABLE_REASON

if TYPE_CHECKING:
    import pandas as pd

    from protocols.spec import RunSpec

OWN = "synthetic.parquet"


def table_message(folder: Path) -> Message:
    """A run's synthetic columns as this silo may release them, labelled unprotected.

    Args:
        folder: the run's outputs.

    Raises:
        DataError: the run left no table here.
    """
    path = folder / OWN
    if not path.exists():
        raise DataError(f"there is no synthetic table at {path}", fix="wait until the run is done")
    return Message(TABLE, path, Unprotected(reason=TABLE_REASON))


def received_table(folder: Path, silo: str) -> Path:
    """Where another silo's released columns are kept."""
    return folder / "received" / f"{silo}.parquet"


def keep_table(artifact: Received, run: Run, folder: Path) -> None:
    """Keep another silo's columns after checking them against the run's public schema.

    Raises:
        InvalidArtifact: they are not the columns, types, bounds and rows that the run declares.
    """
    from protocols.spec import parse_spec  # noqa: PLC0415 - pandas only when there is a table

    target = received_table(folder, artifact.sender)
    unchecked = private_folder(target.parent) / f".unchecked-{target.name}"
    try:
        copy_to_disk(artifact.path, unchecked)
        try:
            _check_size(unchecked, spec := parse_spec(run.spec), artifact.sender)
            _read(unchecked, spec, artifact.sender)
        except Exception as error:
            raise InvalidArtifact(f"the columns released by {artifact.sender} do not fit the run's schema") from error
        unchecked.rename(target)
        sync_folder(target.parent)
    finally:
        unchecked.unlink(missing_ok=True)


def join_tables(me: str, spec: Mapping[str, Any], folder: Path, target: Path) -> Path:
    """Assemble one table from this silo's columns and those that were released to it.

    Args:
        me: this silo.
        spec: the run specification.
        folder: the run's outputs.
        target: the CSV or Parquet file to write.

    Raises:
        DataError: a part has not been released to this silo.
    """
    import pandas as pd  # noqa: PLC0415 - only when there is a table

    from protocols.spec import parse_spec  # noqa: PLC0415

    parsed = parse_spec(spec)
    paths = {silo: folder / OWN if silo == me else received_table(folder, silo) for silo in parsed.silos}
    if absent := [silo for silo, path in paths.items() if not path.exists()]:
        raise DataError(
            f"these parts are not here: {', '.join(absent)}",
            fix=f"ask them to run `silo-agent release RUN --to {me}`; their policy must name {me}",
        )
    joined = pd.concat([_read(path, parsed, silo) for silo, path in paths.items()], axis=1)
    if target.suffix == ".csv":
        joined.to_csv(target, index=False)
    else:
        joined.to_parquet(target, index=False)
    return target


def _check_size(path: Path, spec: RunSpec, silo: str) -> None:
    """Refuse by what the file says of itself, before its rows cost memory."""
    from pyarrow import parquet  # noqa: PLC0415 - as pandas

    declared = parquet.read_metadata(path)
    if (declared.num_rows, set(declared.schema.to_arrow_schema().names)) != (spec.rows, set(spec.columns_of(silo))):
        raise DataError("the file does not hold the rows and columns that the run declares")


def _read(path: Path, spec: RunSpec, silo: str) -> pd.DataFrame:
    from protocols.learning.table import read_table  # noqa: PLC0415 - pandas only when there is a table

    _, table = read_table(path, spec.columns_of(silo), None)
    if len(table) != spec.rows:
        raise DataError(f"the table has {len(table)} rows, the run declares {spec.rows}")
    return table
