"""What decides something in the benchmark: blocks of columns, which cells are made anew, what a budget buys."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from services.errors import ConfigError
from tests.benchmarks.silofuse import cells
from tests.benchmarks.silofuse.cells import Folder, Request, Result, asked, key
from tests.benchmarks.silofuse.gates import Gate, figure, judged
from tests.benchmarks.silofuse.models import FORMS, MODELS, POOLED, TIMEKEEPER
from tests.benchmarks.silofuse.peer import Clock
from tests.benchmarks.silofuse.summary import EVERYWHERE, Figure, summarise
from tests.benchmarks.silofuse.tables import blocks, permuted

NAMES = [f"c{number}" for number in range(15)]


def result(request: Request, resemblance: float = 90.0) -> Result:
    parts = dict.fromkeys(("overall", "column", "correlation", "js", "ks", "propensity"), resemblance)
    report = {
        "rows": {"synthetic": 100},
        "resemblance": parts,
        "detection_auc": 0.6,
        "memorisation": 0.5,
        "utility": {"overall": 80.0, "label": 90.0},
        "privacy": {name: {"risk": None} for name in ("singling_out", "linkability", "inference")},
    }
    strict = {"resemblance": 80.0, "propensity": 50.0, "detection_auc": 0.7}
    seconds = {"autoencoders": 1.0, "diffusion": 2.0, "sampling": 0.5, "decoding": 0.5}
    return Result(key=key(request), request=request, began="2026", report=report, strict=strict, seconds=seconds)


def test_columns_are_shared_out_in_contiguous_blocks_of_sizes_that_differ_by_one_at_most() -> None:
    shared = blocks(NAMES, 4)
    assert list(itertools.chain(*shared)) == NAMES
    assert [len(part) for part in shared] == [4, 4, 4, 3]
    assert blocks(NAMES, 1) == (tuple(NAMES),)


def test_a_silo_without_columns_is_refused() -> None:
    with pytest.raises(ConfigError):
        blocks(NAMES, 16)


def test_a_seed_shuffles_columns_always_alike_and_loses_none() -> None:
    assert sorted(permuted(NAMES, 1)) == sorted(NAMES)
    assert permuted(NAMES, 1) == permuted(NAMES, 1) != permuted(NAMES, 2)


def test_a_peer_ends_with_the_epoch_during_which_its_time_runs_out() -> None:
    seconds = itertools.count()  # a look at the clock is a second later than the one before
    clock = Clock(budget=2.5, now=lambda: float(next(seconds)))
    assert list(clock(range(300), disable=True)) == [0, 1, 2]
    assert (clock.epochs, clock.seconds) == (3, 3.0)


def test_a_peer_may_train_more_than_its_default_epochs_in_the_same_time() -> None:
    seconds = itertools.count()
    assert len(list(Clock(budget=10, now=lambda: float(next(seconds)))(range(5)))) == 10


def test_a_peer_without_a_budget_trains_its_own_number_of_epochs() -> None:
    clock = Clock(budget=None)
    assert list(clock(range(5))) == [0, 1, 2, 3, 4]
    assert clock.epochs == 5


def test_a_result_is_found_again_until_what_was_asked_changes(tmp_path: Path) -> None:
    folder, request = Folder(tmp_path), Request(table="adult", model="ctgan-timed", seed=0, budget=30.0)
    assert folder.found(request) is None
    folder.write(result(request))
    assert folder.found(request) == result(request)
    assert folder.found(request.model_copy(update={"budget": 31.0})) is None
    assert folder.read("adult", "ctgan-timed", 0) == result(request)


def test_a_torn_result_is_as_good_as_none(tmp_path: Path) -> None:
    folder, request = Folder(tmp_path), Request(table="adult", model="opaque", seed=0)
    folder.write(result(request))
    (file,) = folder.path.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    assert folder.found(request) is None


@pytest.mark.parametrize(
    ("changed", "anew"),
    [
        ("protocols/learning/diffusion.py", {"opaque"}),
        ("protocols/silofuse/autoencoder.py", {"opaque"}),
        ("protocols/learning/evaluate/trees.py", {"opaque", "ctgan", "real"}),
        ("tests/benchmarks/silofuse/tables.py", {"opaque", "ctgan", "real"}),
        ("tests/benchmarks/silofuse/peers.txt", {"ctgan"}),
        ("tests/benchmarks/silofuse/page.py", set()),
    ],
)
def test_other_code_makes_those_cells_anew_that_it_may_change(tmp_path: Path, changed: str, anew: set[str]) -> None:
    def keys() -> dict[str, str]:
        return {model: key(Request(table="adult", model=model, seed=0), tmp_path) for model in MODELS}

    for pattern in (*cells.MEASURES, *cells.OURS, *cells.PEERS):
        for real in cells.ROOT.glob(pattern):
            copy = tmp_path / real.relative_to(cells.ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(real.read_bytes())
    before = keys()
    (tmp_path / changed).write_text("something else")
    after = keys()
    assert {model for model in ("opaque", "ctgan", "real") if before[model] != after[model]} == anew


def test_every_pattern_of_the_fingerprint_names_code_that_there_is() -> None:
    for pattern in (*cells.MEASURES, *cells.OURS, *cells.PEERS):
        assert list(cells.ROOT.glob(pattern)), pattern


def test_who_sets_a_budget_runs_before_who_is_given_it_and_slow_peers_run_on_fewer_seeds() -> None:
    requests = asked(("adult", "abalone"), tuple(MODELS), seeds=3, peer_seeds=1, options={})
    names = [request.name for request in requests]
    for seed in range(3):
        assert names.index(f"adult/{TIMEKEEPER}/{seed}") < names.index(f"adult/ctgan-timed/{seed}")
    assert {request.seed for request in requests if request.model == "ctgan"} == {0}
    assert not any(request.table == "abalone" for request in requests if request.model == "opaque-8")


def test_figures_are_means_and_spreads_over_seeds_and_means_over_tables() -> None:
    found = summarise(
        result(Request(table=table, model="opaque", seed=seed), value)
        for table, seed, value in [("adult", 0, 90.0), ("adult", 1, 92.0), ("abalone", 0, 80.0)]
    )
    assert found["adult", "opaque"]["resemblance"] == Figure(91.0, pytest.approx(2**0.5), 2)
    assert found["abalone", "opaque"]["resemblance"] == Figure(80.0, None, 1)
    assert found[EVERYWHERE, "opaque"]["resemblance"].mean == 85.5
    assert found["adult", "opaque"]["training"].mean == 3.0
    assert found["adult", "opaque"]["speed"].mean == 100.0
    assert "r2_20" not in found["adult", "opaque"]


def test_a_gate_is_met_at_its_bound_and_silent_where_nothing_was_measured() -> None:
    summary = summarise([result(Request(table="adult", model="opaque", seed=0), 91.0)])
    read = figure("adult", "opaque", "resemblance")
    gates = (Gate("", read, 91, 93), Gate("", read, 90, least=False), Gate("", figure("adult", "real", "speed"), 1))
    assert [(one.met, one.reached) for one in judged(gates, summary)] == [(True, False), (False, None), (None, None)]


def test_every_form_of_ours_is_a_model_of_its_name() -> None:
    assert all(MODELS[form].form == form for form in FORMS)
    assert POOLED in MODELS
