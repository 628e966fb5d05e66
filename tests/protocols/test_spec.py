"""Whatever a specification says, it is refused at its key or it can be run."""

from __future__ import annotations

from typing import Any

import pytest

import protocols
from services.errors import ConfigError
from tests import tables

NUMBER = {"type": "number", "min": 0, "max": 1, "step": 5e-324}

ABSURD: dict[str, tuple[dict[str, Any], str]] = {
    "a deadline beyond the calendar": ({"deadline": "99999999999999d"}, "deadline: "),
    "a grid finer than numbers are": ({"silos": {"north": {"columns": {"x": NUMBER}}}, "targets": []}, "columns.x"),
}


@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_value_is_an_error_that_names_its_key(name: str) -> None:
    changes, words = ABSURD[name]
    with pytest.raises(ConfigError, match=words):
        protocols.check_spec(tables.spec(**changes), "trial.yaml")
