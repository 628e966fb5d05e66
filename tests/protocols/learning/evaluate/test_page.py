"""The page stands alone, says everything, escapes what it is given, and shows no one's extremes."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from protocols.learning.evaluate.arrays import matrix
from protocols.learning.evaluate.measure import evaluate
from protocols.learning.evaluate.page import render
from protocols.learning.evaluate.pictures import matrices, panels
from protocols.learning.schema import Columns

from .conftest import Trial

SECTIONS = ("scores", "utility", "columns", "relations", "privacy", "run", "coverage")
VOID = {"meta", "br"}


class _Nesting(HTMLParser):
    """Finds tags that are closed by others than themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.fixture(scope="module")
def page(trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    report = evaluate(trial.training, trial.held_out, trial.fresh, trial.columns, ["died", "cost"]).with_facts(
        {
            "latent_inversion": {
                "r2_20": 0.55,
                "r2_500": 0.89,
                "accuracy_20": 0.9,
                "accuracy_500": 1.0,
                "majority": 0.6,
            },
            "seconds": {"align": 1.5, "total": 80.0},
            "bytes_sent": {"north": 1_234_567},
        }
    )
    real = pd.concat([trial.training, trial.held_out], ignore_index=True)
    render(
        report, real, trial.fresh, trial.columns, path, note="For this silo only.",
        title="Patients <of> the north", provenance={"Run": "trial-1", "Protocol": "SiloFuse"},
    )  # fmt: skip
    return path.read_text()


def test_all_sections_and_their_figures_are_there(page: str, trial: Trial) -> None:
    for section in SECTIONS:
        assert f'<section id="{section}">' in page
    for text in (
        "trial-1",
        "SiloFuse",
        "For this silo only.",
        "claims no differential privacy",
        "1,234,567",
        *trial.columns,
    ):
        assert text in page
    assert re.search(r"R² 0\.55.*0\.89", page)


def test_nothing_comes_from_elsewhere_and_nothing_runs(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link|<iframe|\bon[a-z]+=", page)
    assert set(re.findall(r'(?:src|href)="([^:"]*:)', page)) == {"data:"}


def test_the_page_is_well_formed_and_escapes_what_it_is_given(page: str) -> None:
    checker = _Nesting()
    checker.feed(page)
    assert checker.wrong == []
    assert checker.open == []
    assert "Patients &lt;of&gt; the north" in page


def test_warnings_stand_before_all_scores(trial: Trial, page: str, tmp_path: Path) -> None:
    report = evaluate(trial.training, trial.held_out, trial.training, trial.columns)
    path = tmp_path / "report.html"
    render(report, trial.training, trial.training, trial.columns, path, title="Copies", provenance={})
    text = path.read_text()
    assert "Before you use this table" not in page
    assert text.index("Before you use this table") < text.index('<section id="scores">')
    assert '<section id="run">' not in text


def test_axes_do_not_show_the_extremes_of_real_people(trial: Trial) -> None:
    table = trial.training.copy()
    table.loc[0, "cost"] = 87654.32
    table.loc[1, "pressure"] = 3.5
    rows = matrix(table, trial.columns)
    shown = {panel.name: panel for panel in panels(rows, rows, trial.columns)}
    for name in ("cost", "pressure", "age", "admitted"):
        panel = shown[name]
        ends = {str(table[name].min()), str(table[name].max()), f"{table[name].max():,}" if name == "cost" else ""}
        assert not ends & {panel.low, panel.high}
        assert sum(bar.real for bar in panel.bars) + (panel.missing.real if panel.missing else 0) == pytest.approx(1)


LEAKS = {"r2_20": 0.4, "r2_500": 0.9, "accuracy_20": 0.8, "accuracy_500": 0.95, "majority": 0.6}
NONE = {"r2_20": 0.0, "r2_500": 0.1, "accuracy_20": 0.6, "accuracy_500": 0.62, "majority": 0.6}


@pytest.mark.parametrize("claimed", [None, 5.0])
def test_the_page_says_aloud_whether_the_uploaded_rows_carry_a_claim(
    trial: Trial, tmp_path: Path, claimed: float | None
) -> None:
    points = [{"epsilon": None, "inversion": LEAKS}, {"epsilon": 5.0, "inversion": NONE}]
    facts = {"delta": 1e-5, "claimed": claimed, "together": claimed and 9.3, "points": points}
    report = evaluate(trial.training, trial.held_out, trial.fresh, trial.columns).with_facts(
        {"latent_inversion": LEAKS, "noise_curve": facts}
    )
    path = tmp_path / "report.html"
    render(report, trial.training, trial.fresh, trial.columns, path, title="Noise", provenance={})
    text = path.read_text()
    assert text.count("<polyline") == 3
    assert ("added no noise and makes no claim" in text) == (claimed is None)
    assert ("at most ε = 5 at δ = 1e-05" in text) == (claimed is not None)
    assert ("together tell ε = 9.3" in text) == (claimed is not None)
    assert ('fill="var(--good)"' in text) == (claimed is not None), "the run's own level is marked"
    assert "claims no differential privacy" in text, "which is about the synthetic table"


def test_odd_columns_are_drawn(trial: Trial) -> None:
    columns = TypeAdapter(Columns).validate_python(
        {
            "constant": {"type": "number", "min": 0, "max": 9},
            "never": {"type": "date", "min": "2020-01-01", "max": "2020-12-31", "missing": True},
            "many": {"type": "category", "categories": [str(number) for number in range(40)]},
            "skewed": {"type": "integer", "min": 0, "max": 10**6},
        }
    )
    rng = np.random.default_rng(0)
    rows = np.column_stack(
        [np.full(200, 3.0), np.full(200, np.nan), rng.integers(0, 40, 200), np.floor(np.exp(rng.normal(6, 2, 200)))]
    )
    found = panels(rows, rows[:100], columns)
    assert [panel.kind for panel in found] == ["quantity", "quantity", "category", "logarithmic"]
    assert found[2].bars[-1].label == "32 others"
    assert sum(bar.real for bar in found[2].bars) == pytest.approx(1)
    assert found[1].missing is not None
    assert found[1].missing.real == 1
    assert len(matrices(rows, rows, columns).pairs) == 6
