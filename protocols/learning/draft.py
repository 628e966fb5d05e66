"""Drafts a table's public schema for review by people who know the columns.

Types and categories are guessed from the table, so the draft itself is private until somebody has reviewed it.
Bounds are left blank on purpose: copying a minimum and a maximum from the data would publish two patients.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml

from protocols.learning.table import MISSING_TOKENS, read_columns

FEW = 20
"""Up to so many distinct values, a column that is not numeric is drafted as a category."""

_HEAD = """\
# A draft for review, made from private data: do not publish it before somebody who knows the columns has
# - filled in the bounds from public knowledge (what can be recorded, not what was found here),
# - completed the categories with the ones that do not occur here, and removed any that would name a person,
# - taken out the identifier column, and every column that is not needed.
"""


def draft_columns(path: Path) -> str:
    """The draft as YAML, with a comment for every column that people must decide on.

    Raises:
        DataError: the table cannot be read.
    """
    raw = read_columns(path)
    return _HEAD + "columns:\n" + "".join(_draft(name, raw[name]) for name in raw.columns)


def _draft(name: str, values: pd.Series) -> str:
    text = values.map(lambda v: "" if pd.isna(v) else str(v).strip())
    present = text[~text.isin(MISSING_TOKENS)]
    missing = ", missing: true" if len(present) < len(text) else ""
    key = yaml.safe_dump(name, default_flow_style=True).removesuffix("\n...\n").strip()
    if len(present) == 0:
        return f"  # {key}: nothing but missing values: leave it out\n"
    if pd.to_datetime(present, format="%Y-%m-%d", errors="coerce").notna().all():
        return f"  {key}: {{type: date, min: , max: {missing}}}\n"
    number = pd.to_numeric(present, errors="coerce")
    distinct = sorted(present.unique())
    if number.notna().all():
        whole = (number == number.round()).all()
        if whole and len(distinct) <= 2:
            return _category(key, distinct, missing)
        return f"  {key}: {{type: {'integer' if whole else 'number'}, min: , max: {missing}}}\n"
    if len(distinct) <= FEW:
        return _category(key, distinct, missing)
    return f"  # {key}: {len(distinct)} different texts: free text is refused; leave it out or group it\n"


def _category(key: str, labels: list[str], missing: str) -> str:
    listed = yaml.safe_dump(labels, default_flow_style=True, width=10_000).strip()
    return f"  {key}: {{type: category, categories: {listed}{missing}}}\n"
