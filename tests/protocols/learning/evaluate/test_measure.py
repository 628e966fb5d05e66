"""A report tells good tables from bad ones, warns of copies, survives odd columns, and keeps its keys."""

import importlib
import importlib.util
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

import protocols.learning.evaluate
from protocols.learning.evaluate.arrays import drawn
from protocols.learning.evaluate.measure import STEPS, evaluate
from protocols.learning.evaluate.report import Report
from protocols.learning.schema import Columns
from protocols.learning.table import conform
from services.errors import ConfigError, DataError

from .conftest import Trial, shuffled

KEYS = {
    "resemblance": {"overall", "column", "correlation", "js", "ks", "propensity"},
    "baseline_independent": {
        "overall", "column", "correlation", "js", "ks", "propensity", "utility", "detection_auc", "memorisation",
    },
    "utility": {"overall", "died"},
    "privacy": {"singling_out", "linkability", "inference"},
    "latent_inversion": {"r2_20", "r2_500", "accuracy_20", "accuracy_500", "majority"},
    "seconds": {"align", "autoencoders", "diffusion", "sampling", "total"},
    "bytes_sent": {"north", "south"},
}  # fmt: skip
FACTS = {
    "latent_inversion": {"r2_20": 0.5, "r2_500": 0.9},
    "seconds": {"align": 1.0, "autoencoders": 2.0, "diffusion": 3.0, "sampling": 4.0, "total": 10.0},
    "bytes_sent": {"north": 100, "south": 200},
}


@pytest.fixture(scope="session")
def fresh(trial: Trial) -> Report:
    return evaluate(trial.training, trial.held_out, trial.fresh, trial.columns, ["died"])


@pytest.fixture(scope="session")
def copied(trial: Trial) -> Report:
    return evaluate(trial.training, trial.held_out, trial.training, trial.columns, ["died"])


@pytest.fixture(scope="session")
def independent(trial: Trial) -> Report:
    return evaluate(trial.training, trial.held_out, shuffled(trial.training), trial.columns, ["died"])


def test_fresh_real_rows_score_near_the_ceiling_without_a_warning(fresh: Report) -> None:
    assert fresh.resemblance.overall > fresh.real_rows.overall - 3
    assert abs(fresh.detection_auc - 0.5) < 0.06
    assert abs(fresh.memorisation - 0.5) < 3 * fresh.memorisation_error < 0.12
    assert fresh.utility["overall"] is not None
    assert fresh.utility["overall"] > 93
    assert fresh.warnings() == ()


def test_copies_of_training_rows_are_called_copies(copied: Report) -> None:
    assert copied.memorisation > 0.6
    assert "repeats people" in copied.warnings()[0]
    for attack in (copied.privacy.linkability, copied.privacy.inference):
        assert attack.attack is not None
        assert attack.control is not None
        assert attack.attack > attack.control + 0.1


def test_independent_columns_keep_columns_and_lose_relations(independent: Report, fresh: Report) -> None:
    assert independent.resemblance.column > fresh.resemblance.column - 2
    assert independent.resemblance.correlation < fresh.resemblance.correlation - 2
    assert independent.resemblance.propensity < fresh.resemblance.propensity - 20
    assert independent.detection_auc > 0.8


def test_the_baseline_in_every_report_scores_as_independent_columns_do(independent: Report, fresh: Report) -> None:
    for report in (independent, fresh):
        assert report.baseline_independent.correlation == pytest.approx(independent.resemblance.correlation, abs=1.5)
        assert report.baseline_independent.propensity == pytest.approx(independent.resemblance.propensity, abs=6)
    assert fresh.utility["overall"] > fresh.baseline_independent.utility  # type: ignore[operator]


def test_missing_values_that_a_generator_forgot_cost_it_points(trial: Trial, fresh: Report) -> None:
    whole = trial.fresh.assign(pressure=trial.fresh["pressure"].fillna(130.0))
    report = evaluate(trial.training, trial.held_out, whole, trial.columns)
    assert report.resemblance.column < fresh.resemblance.column - 1
    assert report.resemblance.ks < fresh.resemblance.ks - 1
    assert report.detection_auc > 0.55


def test_keys_are_a_promise(fresh: Report) -> None:
    written = fresh.with_facts(FACTS).model_dump(mode="json")
    for part, keys in KEYS.items():
        assert set(written[part]) == keys, part
    for attack in written["privacy"].values():
        assert {"attack", "control", "baseline"} <= set(attack)
    assert isinstance(written["detection_auc"], float)
    assert isinstance(written["memorisation"], float)
    assert Report.model_validate(written) == fresh.with_facts(FACTS)


def test_a_fact_that_nobody_knows_is_refused(fresh: Report) -> None:
    with pytest.raises(ValidationError):
        fresh.with_facts({"epsilon": 1.0})


def test_the_same_seed_gives_the_same_report_whatever_the_global_generators_do(trial: Trial, fresh: Report) -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the point is that nobody listens to it
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    again = evaluate(trial.training, trial.held_out, trial.fresh, trial.columns, ["died"])
    assert again == fresh
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_progress_reaches_its_total_and_an_exception_in_it_ends_the_measuring(trial: Trial) -> None:
    class EndedError(Exception):
        pass

    seen: list[tuple[str, int, int]] = []

    def progress(phase: str, step: int, total: int, _: float | None) -> None:
        seen.append((phase, step, total))
        if step == 2:
            raise EndedError

    with pytest.raises(EndedError):
        evaluate(trial.training, trial.held_out, trial.fresh, trial.columns, progress=progress)
    assert seen == [("measuring", step, STEPS) for step in range(3)]
    seen.clear()
    small = [table.head(60) for table in (trial.training, trial.held_out, trial.fresh)]
    evaluate(*small, trial.columns, progress=lambda phase, step, total, _: seen.append((phase, step, total)))
    assert seen == [("measuring", step, STEPS) for step in range(STEPS + 1)]


ODD: dict[str, dict[str, Any]] = {
    "constant": {"type": "number", "min": 0, "max": 9},
    "never": {"type": "integer", "min": 0, "max": 9, "missing": True},
    "unknown": {"type": "category", "categories": ["a", "b"], "missing": True},
    "single": {"type": "category", "categories": ["only"]},
    "one-sided": {"type": "category", "categories": ["no", "yes"]},
    "late": {"type": "date", "min": "2020-01-01", "max": "2020-12-31", "missing": True},
    "^c.*$": {"type": "category", "categories": ['it\'s "quoted"', "plain"]},
    "flat": {"type": "integer", "min": -5, "max": 5},
}


def _odd(rows: int, columns: Columns, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    raw = pd.DataFrame(
        {
            "constant": 3.5,
            "never": "",
            "unknown": "",
            "single": "only",
            "one-sided": "no",
            "late": np.where(rng.random(rows) < 0.5, "2020-06-01", ""),
            "^c.*$": rng.choice(['it\'s "quoted"', "plain"], rows),
            "flat": rng.integers(-5, 6, rows),
        },
        index=range(rows),
    )
    return conform(raw, columns)


def test_constants_missing_columns_and_single_labels_are_measured_without_a_crash() -> None:
    columns = TypeAdapter(Columns).validate_python(ODD)
    tables = [_odd(rows, columns, seed) for seed, rows in enumerate((120, 40, 100))]
    report = evaluate(*tables, columns, list(ODD))
    assert 0 <= report.resemblance.overall <= 100
    assert report.utility["constant"] is None
    assert report.utility["never"] is None
    assert report.utility["single"] is None
    assert any("never" in note for note in report.notes)
    assert Report.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize("name", ["flat", "^c.*$"])
def test_a_single_column_is_measured_and_what_needs_two_says_so(name: str) -> None:
    columns = TypeAdapter(Columns).validate_python({name: ODD[name]})
    tables = [
        _odd(rows, TypeAdapter(Columns).validate_python(ODD), seed)[[name]] for seed, rows in enumerate((60, 30, 60))
    ]
    report = evaluate(*tables, columns, [name])
    assert report.utility == {"overall": None, name: None}
    assert report.privacy.linkability.attack is None
    assert report.privacy.linkability.reason


def test_an_attack_that_could_not_be_made_is_null_with_its_reason() -> None:
    columns = TypeAdapter(Columns).validate_python({name: ODD[name] for name in ("constant", "single", "one-sided")})
    tables = [_odd(60, TypeAdapter(Columns).validate_python(ODD), seed)[list(columns)] for seed in range(3)]
    report = evaluate(*tables, columns)
    assert report.privacy.singling_out.attack is None
    assert report.privacy.singling_out.risk is None
    assert report.privacy.singling_out.reason
    assert any(note.startswith("singling out") for note in report.notes)


@pytest.mark.parametrize("short", [0, 1, 2])
def test_too_few_rows_are_an_error_that_says_which(trial: Trial, short: int) -> None:
    tables = [trial.training, trial.held_out, trial.fresh]
    tables[short] = tables[short].head(9)
    with pytest.raises(DataError, match=("training", "held-out", "synthetic")[short]):
        evaluate(*tables, trial.columns)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "xgboost" else found(name, *rest)
    )
    with pytest.raises(ConfigError, match="xgboost") as error:
        importlib.reload(protocols.learning.evaluate)
    assert "silokit[evaluation]" in error.value.fix


def test_a_table_too_large_to_measure_whole_is_measured_on_rows_drawn_from_it_and_says_so(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocols.learning.evaluate.arrays.MOST_ROWS", 700)
    first, again = (evaluate(trial.training, trial.held_out, trial.fresh, trial.columns) for _ in range(2))
    assert first == again
    assert first.rows.model_dump() == {"training": 700, "held_out": 600, "synthetic": 700}
    assert "measured on 700 of the 900 training rows, drawn at random" in first.notes
    assert "measured on 700 of the 900 synthetic rows, drawn at random" in first.notes
    assert not [note for note in first.notes if "held-out" in note]
    places = drawn(trial.training)
    assert len(set(places)) == 700
    assert (np.diff(places) > 0).all()
    assert places[-1] > 850  # from all of the table, not its beginning
