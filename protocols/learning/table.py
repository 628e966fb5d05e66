"""The only way in for a table: what contradicts its public schema never gets past here.

Errors count rows and name columns; they never show a value.
"""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from protocols.learning.schema import Category, Column, Date, Identifier, Integer, Number, Text
from services.errors import DataError

MISSING_TOKENS = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "<NA>"})


def canonical(values: pd.Series, identifier: Identifier) -> pd.Series:
    """Bring identifiers into the canonical form: NFKC, trimmed, case-folded text, or a bare integer.

    Raises:
        DataError: identifiers that are missing or repeated, or are not integers where those were declared.
    """
    text = values.map(_as_text).map(lambda v: unicodedata.normalize("NFKC", v).strip().casefold())
    missing = int((text == "").sum())
    if missing:
        raise DataError(
            f"{missing} of {len(text)} rows have no identifier in column {identifier.column!r}.",
            fix="complete or remove these rows; the unit of the run is one row per person",
        )
    if identifier.form == "integer":
        bare = text.str.fullmatch(r"[+-]?\d{1,18}")
        if not bare.all():
            raise DataError(
                f"{int((~bare).sum())} of {len(text)} identifiers in column {identifier.column!r} are not integers.",
                fix="declare `form: text` in the run specification, or repair these rows",
            )
        text = text.map(lambda v: str(int(v)))
    repeated = int(text.duplicated(keep=False).sum())
    if repeated:
        raise DataError(
            f"{repeated} of {len(text)} rows share their identifier (column {identifier.column!r}) with another row.",
            fix="make it one row per person; mind that identifiers are compared trimmed and without case",
        )
    return text


def read_columns(path: Path) -> pd.DataFrame:
    """Read a CSV (as text) or Parquet table without interpreting it.

    Raises:
        DataError: the file is absent, unreadable, empty, or names a column twice.
    """
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False, encoding="utf-8-sig")
            # pandas renames a repeated heading to `x.1`: compare with the heading itself
            header = pd.read_csv(path, dtype=str, header=None, nrows=1, na_filter=False, encoding="utf-8-sig")
            table.columns = pd.Index([str(name).strip() for name in header.iloc[0]])
    except FileNotFoundError:
        raise DataError(f"there is no table at {path}", fix="set `data` to a CSV or Parquet file") from None
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise DataError(
            f"the table at {path} cannot be read ({type(error).__name__})",
            fix="give a UTF-8 CSV file with a heading line, or a Parquet file",
        ) from error
    repeated = sorted({str(c) for c in table.columns[table.columns.duplicated()]})
    if repeated:
        raise DataError(f"the table names these columns more than once: {', '.join(repeated)}")
    if table.empty:
        raise DataError(f"the table at {path} has no rows", fix="export it again; a silo joins with at least one row")
    return table


def read_table(
    path: Path, columns: Mapping[str, Column], identifier: Identifier | None
) -> tuple[pd.Series, pd.DataFrame]:
    """Read and check a silo's table.

    Returns:
        The canonical identifiers (row numbers where there is no identifier), and a table with exactly the
        schema's columns in its order: float64 for numbers, Int64 for integers, `category` with the declared
        categories for categories, datetime64[s] for dates; missing is NaN, NA or NaT. Other columns are dropped.

    Raises:
        DataError: every contradiction found, a line each, with counts and column names.
    """
    raw = read_columns(path)
    wanted = [*([identifier.column] if identifier else []), *columns]
    absent = [name for name in wanted if name not in raw.columns]
    if absent:
        raise DataError(
            f"the table lacks {len(absent)} column(s) of the schema: {', '.join(absent)}",
            fix="rename or add them, or ask for a run specification that matches your export",
        )
    ids = canonical(raw[identifier.column], identifier) if identifier else pd.Series(raw.index.astype(str))
    problems: list[str] = []
    table = pd.DataFrame({name: _convert(raw[name], name, column, problems) for name, column in columns.items()})
    if problems:
        raise DataError(
            "the table contradicts the schema:\n" + "\n".join(f"  - {p}" for p in problems),
            fix="correct the export, or ask the coordinator for wider bounds; values are never clipped silently",
        )
    return ids.reset_index(drop=True), table.reset_index(drop=True)


def conform(table: pd.DataFrame, columns: Mapping[str, Column]) -> pd.DataFrame:
    """Bring a table that is already in memory into the canonical types of `read_table`.

    Raises:
        DataError: as `read_table`.
    """
    problems: list[str] = []
    out = pd.DataFrame({name: _convert(table[name], name, column, problems) for name, column in columns.items()})
    if problems:
        raise DataError("the table contradicts the schema:\n" + "\n".join(f"  - {p}" for p in problems))
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


def _convert(values: pd.Series, name: str, column: Column, problems: list[str]) -> pd.Series:
    """One column into its canonical type; what does not fit is counted in `problems`."""
    out: pd.Series
    if isinstance(column, Category):
        out, missing = _convert_category(values, name, column, problems)
    elif isinstance(column, Date):
        out, missing = _convert_date(values, name, column, problems)
    elif isinstance(column, Text):
        raise DataError(f"column {name!r} is free text, which cannot be synthesised", fix="leave the column out")
    else:
        out, missing = _convert_number(values, name, column, problems)
    if not column.missing:
        _count(problems, name, missing, "are missing, which the schema does not allow")
    out.index = values.index
    return out


def _convert_category(
    values: pd.Series, name: str, column: Category, problems: list[str]
) -> tuple[pd.Series, pd.Series]:
    labels = set(column.categories)
    # a declared category may itself be written "NA" or "None"
    text = values.map(lambda v: v.strip() if isinstance(v, str) and v.strip() in labels else _as_text(v).strip())
    missing = text == ""
    unknown = ~missing & ~text.isin(labels)
    _count(problems, name, unknown, "hold a category outside the schema")
    known = text.where(~missing & ~unknown)
    return pd.Series(pd.Categorical(known, categories=list(column.categories))), missing


def _convert_date(values: pd.Series, name: str, column: Date, problems: list[str]) -> tuple[pd.Series, pd.Series]:
    text = values.map(
        lambda v: v.date().isoformat() if isinstance(v, dt.datetime) and not pd.isna(v) else _as_text(v).strip()
    )
    missing = text == ""
    days = pd.to_datetime(text.where(~missing), format="%Y-%m-%d", errors="coerce")
    _count(problems, name, ~missing & days.isna(), "are not dates of the form YYYY-MM-DD")
    outside = (days < pd.Timestamp(column.min)) | (days > pd.Timestamp(column.max))
    _count(problems, name, outside, "lie outside the bounds")
    return days.astype("datetime64[s]"), missing


def _convert_number(
    values: pd.Series, name: str, column: Number | Integer, problems: list[str]
) -> tuple[pd.Series, pd.Series]:
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        missing = values.isna()
        number = values.astype("float64")
    else:
        text = values.map(_as_text).str.strip()
        missing = text == ""
        number = pd.to_numeric(text.where(~missing), errors="coerce").astype("float64")
    number = number.where(np.isfinite(number))
    _count(problems, name, ~missing & number.isna(), "are not finite numbers")
    _count(problems, name, (number < column.min) | (number > column.max), "lie outside the bounds")
    if isinstance(column, Number):
        return number, missing
    _count(problems, name, number.notna() & (number != number.round()), "are not whole numbers")
    return number.round().astype("Int64"), missing


def _count(problems: list[str], name: str, bad: pd.Series, what: str) -> None:
    if count := int(bad.fillna(value=False).sum()):
        problems.append(f"column {name!r}: {count} of {len(bad)} values {what}")
