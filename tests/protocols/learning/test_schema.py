"""A public schema is refused when nothing could fit it, and the words say what to declare instead."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from protocols.learning.schema import Column, Columns

COLUMNS: TypeAdapter[Columns] = TypeAdapter(dict[str, Column])

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "bounds left blank": ({"type": "number", "min": None, "max": None}, "valid number"),
    "bounds the wrong way round": ({"type": "integer", "min": 9, "max": 3}, "min must lie below max"),
    "bounds that are not finite": ({"type": "number", "min": 0, "max": float("inf")}, "finite"),
    "a step with no multiple in bounds": ({"type": "number", "min": 1, "max": 4, "step": 5}, "finer step"),
    "a step that no number is fine enough for": ({"type": "number", "min": 1, "max": 4, "step": 5e-324}, "too fine"),
    "no categories": ({"type": "category", "categories": []}, "at least 1"),
    "a category twice": ({"type": "category", "categories": ["a", "a"]}, "distinct"),
    "a blank category": ({"type": "category", "categories": ["a", " "]}, "missing: true"),
    "categories YAML took for booleans": ({"type": "category", "categories": [True, False]}, "quote yes, no"),
    "dates the wrong way round": ({"type": "date", "min": "2024-01-01", "max": "2020-01-01"}, "min must lie before"),
    "free text": ({"type": "text"}, "leave the column out"),
    "an unknown key": ({"type": "integer", "min": 0, "max": 3, "unit": "mmHg"}, "not permitted"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_column_that_cannot_work_is_refused_in_words_that_help(name: str) -> None:
    column, words = REFUSED[name]
    with pytest.raises(ValidationError, match=words):
        COLUMNS.validate_python({"x": column})


def test_a_category_that_yaml_took_for_a_number_keeps_its_label() -> None:
    column = COLUMNS.validate_python({"x": {"type": "category", "categories": [0, 1]}})["x"]
    assert column.type == "category"
    assert column.categories == ("0", "1")
