"""The only way in for a table: what contradicts its public schema never gets past here.

Errors count rows and name columns; they never show a value.
"""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from protocols.learning.rows import BLOCK_ROWS
from protocols.learning.schema import Category, Column, Date, Identifier, Integer, Number, Text
from services.errors import DataError

MISSING_TOKENS = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "<NA>"})


class _Contradictions:
    """What contradicts the schema, counted over all blocks of a table."""

    def __init__(self) -> None:
        self.rows = 0
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, name: str, bad: pd.Series, what: str) -> None:
        """Count the values of a column of which something is to be said; in all blocks in the same order."""
        self._counts[name, what] += int(bad.fillna(value=False).sum())

    def check(self, fix: str = "") -> None:
        """Refuse a table that has any.

        Raises:
            DataError: a line for each.
        """
        lines = [
            f"  - column {name!r}: {count} of {self.rows} values {what}"
            for (name, what), count in self._counts.items()
            if count
        ]
        if lines:
            raise DataError("the table contradicts the schema:\n" + "\n".join(lines), fix=fix)


class _Identifiers:
    """The canonical identifiers of all blocks: NFKC, trimmed, case-folded text, or bare integers."""

    def __init__(self, identifier: Identifier) -> None:
        self._identifier = identifier
        self._found: list[pd.Series] = []
        self._missing = self._odd = 0

    def take(self, values: pd.Series) -> None:
        """Take those of the next block."""
        text = values.map(_as_text).map(lambda v: unicodedata.normalize("NFKC", v).strip().casefold())
        self._missing += int((text == "").sum())
        if self._identifier.form == "integer":
            bare = text.str.fullmatch(r"[+-]?\d{1,18}").astype(np.bool_)
            self._odd += int((~bare).sum())
            text = text.where(~bare, text[bare].map(lambda v: str(int(v))))
        self._found.append(text)

    def all(self) -> pd.Series:
        """All of them.

        Raises:
            DataError: some are missing or repeated, or are not integers where those were declared.
        """
        text, column = pd.concat(self._found, ignore_index=True), self._identifier.column
        if self._missing:
            raise DataError(
                f"{self._missing} of {len(text)} rows have no identifier in column {column!r}.",
                fix="complete or remove these rows; the unit of the run is one row per person",
            )
        if self._odd:
            raise DataError(
                f"{self._odd} of {len(text)} identifiers in column {column!r} are not integers.",
                fix="declare `form: text` in the run specification, or repair these rows",
            )
        counts = pa.array(text).value_counts().field("counts").to_numpy()
        if repeated := int(counts[counts > 1].sum()):
            raise DataError(
                f"{repeated} of {len(text)} rows share their identifier (column {column!r}) with another row.",
                fix="make it one row per person; mind that identifiers are compared trimmed and without case",
            )
        return text


def read_blocks(path: Path) -> Iterator[pd.DataFrame]:
    """Read a CSV (as text) or Parquet table block by block without interpreting it.

    Raises:
        DataError: the file is absent, unreadable, empty, or names a column twice.
    """
    rows = 0
    try:
        with _opened(path) as (names, parts):
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise DataError(f"the table names these columns more than once: {', '.join(repeated)}")
            for part in parts:
                rows += len(part)
                if len(part):
                    yield part.reset_index(drop=True)
    except FileNotFoundError:
        raise DataError(f"there is no table at {path}", fix="set `data` to a CSV or Parquet file") from None
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise DataError(
            f"the table at {path} cannot be read ({type(error).__name__})",
            fix="give a UTF-8 CSV file with a heading line, or a Parquet file",
        ) from error
    if not rows:
        raise DataError(f"the table at {path} has no rows", fix="export it again; a silo joins with at least one row")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[list[str], Iterator[pd.DataFrame]]]:
    """The headings of a table, and its rows in blocks."""
    if path.suffix.lower() in {".parquet", ".pq"}:
        # a row group may hold the whole table: read through a small buffer
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16) as file:
            parts = file.iter_batches(BLOCK_ROWS)
            yield list(file.schema_arrow.names), (pa.Table.from_batches([part]).to_pandas() for part in parts)
        return
    # pandas renames a repeated heading to `x.1`: take the heading itself
    header = pd.read_csv(path, dtype=str, header=None, nrows=1, na_filter=False, encoding="utf-8-sig")
    names = [str(name).strip() for name in header.iloc[0]]
    with pd.read_csv(
        path, dtype=str, keep_default_na=False, na_filter=False, encoding="utf-8-sig", chunksize=BLOCK_ROWS
    ) as file:
        yield names, (part.set_axis(names, axis="columns") for part in file)


def read_columns(path: Path) -> pd.DataFrame:
    """Read a whole CSV (as text) or Parquet table without interpreting it.

    Raises:
        DataError: as `read_blocks`.
    """
    return pd.concat(list(read_blocks(path)), ignore_index=True)


def scan_table(
    path: Path,
    columns: Mapping[str, Column],
    identifier: Identifier | None,
    keep: Callable[[pd.DataFrame], object] = lambda _: None,
) -> pd.Series:
    """Read and check a silo's table block by block.

    Args:
        path: a CSV or Parquet file.
        columns: its public schema.
        identifier: its identifier column, if it has one.
        keep: called with every block: exactly the schema's columns in its order, float64 for numbers, Int64 for
            integers, `category` with the declared categories for categories, datetime64[s] for dates; missing is NaN,
            NA or NaT. Other columns are dropped. It has been told the truth only when this ends well.

    Returns:
        The canonical identifiers of all rows; row numbers where there is no identifier.

    Raises:
        DataError: every contradiction found in the whole table, a line each, with counts and column names.
    """
    found = _Contradictions()
    ids = _Identifiers(identifier) if identifier else None
    for raw in read_blocks(path):
        wanted = [*([identifier.column] if identifier else []), *columns]
        absent = [name for name in wanted if name not in raw.columns]
        if absent:
            raise DataError(
                f"the table lacks {len(absent)} column(s) of the schema: {', '.join(absent)}",
                fix="rename or add them, or ask for a run specification that matches your export",
            )
        if ids and identifier:
            ids.take(raw[identifier.column])
        keep(_converted(raw, columns, found))
    text = ids.all() if ids else pd.Series(np.arange(found.rows).astype(str))
    found.check(fix="correct the export, or ask the coordinator for wider bounds; values are never clipped silently")
    return text


def read_table(
    path: Path, columns: Mapping[str, Column], identifier: Identifier | None
) -> tuple[pd.Series, pd.DataFrame]:
    """Read and check a silo's whole table.

    Returns:
        The canonical identifiers, and the table, both as `scan_table` says.

    Raises:
        DataError: as `scan_table`.
    """
    parts: list[pd.DataFrame] = []
    ids = scan_table(path, columns, identifier, parts.append)
    return ids, pd.concat(parts, ignore_index=True)


def conform(table: pd.DataFrame, columns: Mapping[str, Column]) -> pd.DataFrame:
    """Bring a table that is already in memory into the canonical types of `read_table`.

    Raises:
        DataError: as `read_table`.
    """
    found = _Contradictions()
    out = _converted(table, columns, found)
    found.check()
    return out


def _converted(table: pd.DataFrame, columns: Mapping[str, Column], found: _Contradictions) -> pd.DataFrame:
    found.rows += len(table)
    out = pd.DataFrame({name: _convert(table[name], name, column, found) for name, column in columns.items()})
    return out.reset_index(drop=True)


def _as_text(value: object) -> str:
    """A cell as text: 3.0 reads as 3, anything missing as the empty string."""
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, float):
        if np.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    text = str(value)
    return "" if text.strip() in MISSING_TOKENS else text


def _convert(values: pd.Series, name: str, column: Column, found: _Contradictions) -> pd.Series:
    """One column into its canonical type; what does not fit is counted."""
    out: pd.Series
    if isinstance(column, Category):
        out, missing = _convert_category(values, name, column, found)
    elif isinstance(column, Date):
        out, missing = _convert_date(values, name, column, found)
    elif isinstance(column, Text):
        raise DataError(f"column {name!r} is free text, which cannot be synthesised", fix="leave the column out")
    else:
        out, missing = _convert_number(values, name, column, found)
    if not column.missing:
        found.count(name, missing, "are missing, which the schema does not allow")
    out.index = values.index
    return out


def _convert_category(
    values: pd.Series, name: str, column: Category, found: _Contradictions
) -> tuple[pd.Series, pd.Series]:
    labels = set(column.categories)
    # a declared category may itself be written "NA" or "None"
    text = values.map(lambda v: v.strip() if isinstance(v, str) and v.strip() in labels else _as_text(v).strip())
    missing = text == ""
    unknown = ~missing & ~text.isin(labels)
    found.count(name, unknown, "hold a category outside the schema")
    known = text.where(~missing & ~unknown)
    return pd.Series(pd.Categorical(known, categories=list(column.categories))), missing


def _convert_date(values: pd.Series, name: str, column: Date, found: _Contradictions) -> tuple[pd.Series, pd.Series]:
    text = values.map(
        lambda v: v.date().isoformat() if isinstance(v, dt.datetime) and not pd.isna(v) else _as_text(v).strip()
    )
    missing = text == ""
    days = pd.to_datetime(text.where(~missing), format="%Y-%m-%d", errors="coerce")
    found.count(name, ~missing & days.isna(), "are not dates of the form YYYY-MM-DD")
    outside = (days < pd.Timestamp(column.min)) | (days > pd.Timestamp(column.max))
    found.count(name, outside, "lie outside the bounds")
    return days.astype("datetime64[s]"), missing


def _convert_number(
    values: pd.Series, name: str, column: Number | Integer, found: _Contradictions
) -> tuple[pd.Series, pd.Series]:
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        missing = values.isna()
        number = values.astype("float64")
    else:
        text = values.map(_as_text).str.strip()
        missing = text == ""
        number = pd.to_numeric(text.where(~missing), errors="coerce").astype("float64")
    number = number.where(np.isfinite(number))
    found.count(name, ~missing & number.isna(), "are not finite numbers")
    found.count(name, (number < column.min) | (number > column.max), "lie outside the bounds")
    if isinstance(column, Number):
        return number, missing
    found.count(name, number.notna() & (number != number.round()), "are not whole numbers")
    return number.round().astype("Int64"), missing
