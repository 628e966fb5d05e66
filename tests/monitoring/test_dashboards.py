"""The dashboards in the repository are what the code makes, and lie well on Grafana's grid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.monitoring.__main__ import generated
from deploy.monitoring.panels import COLUMNS

DASHBOARDS = [path for path in generated() if path.suffix == ".json"]


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_what_is_committed_is_what_the_code_makes(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == generated()[path], "write it anew: python -m deploy.monitoring"


def test_there_is_no_dashboard_that_no_code_makes() -> None:
    assert sorted(DASHBOARDS[0].parent.iterdir()) == sorted(DASHBOARDS)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_lie_side_by_side_and_say_what_to_read_from_them(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads(path.read_text(encoding="utf-8"))["panels"]
    for panel in panels:
        place = panel["gridPos"]
        columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        assert columns.stop <= COLUMNS
        cells = {(x, y) for x in columns for y in lines}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"].endswith(".")
    identifiers = [panel["id"] for panel in panels]
    assert len(set(identifiers)) == len(identifiers)
