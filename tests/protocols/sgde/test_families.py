"""What leaves a silo has public names and shapes, is covered by the mechanism, and gives rows of the schema."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.stats import chi2

from protocols.learning.noise import Noise
from protocols.learning.scale import Scale
from protocols.learning.schema import Number
from protocols.learning.table import conform
from protocols.learning.tensors import TensorSpec
from protocols.sgde.families import family, logistic, moments, tan
from protocols.sgde.families.contract import Tensors
from protocols.sgde.families.counts import groups, margins, rake, simplex
from protocols.sgde.parameters import SgdeParameters, VaeParameters
from services.errors import ConfigError, InvalidArtifact
from services.mechanism import Composed, Event, Gaussian, Mechanism, Repeated
from tests.sgde_world import FAMILIES, SCHEMA, Quiet, parameters, people, silent

CLASSES = ("well", "ill", "dead")
_COLUMNS = len(SCHEMA) - 1  # but the label


@pytest.mark.parametrize("name", FAMILIES)
def test_the_mechanism_is_known_beforehand_is_what_was_executed_and_keeps_its_ceiling(name: str) -> None:
    form, run = family(name), parameters(name, epsilon=1.2)  # type: ignore[arg-type]
    mechanism = form.mechanism(SCHEMA, run)
    _, executed = form.fit(people(50), SCHEMA, run, Noise(), silent)
    assert executed == mechanism.event
    assert 1.1 < mechanism.epsilon(run.delta) <= 1.2
    assert Mechanism.model_validate_json(mechanism.model_dump_json()) == mechanism


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("rows", "classes"), [(0, 3), (1, 1), (30, 1), (200, 3)])
@pytest.mark.parametrize("records", [30, 50_000])
def test_tensors_are_the_expected_ones_whatever_rows_there_are(
    name: str, rows: int, classes: int, records: int
) -> None:
    form, run = family(name), parameters(name, records=records)  # type: ignore[arg-type]
    tensors, _ = form.fit(people(rows, classes=classes), SCHEMA, run, Noise(), silent)
    expected = form.expected(SCHEMA, run)
    assert {n: (t.dtype.name, t.shape) for n, t in tensors.items()} == {
        n: (spec.dtype, spec.shape) for n, spec in expected.items()
    }
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    form.check(SCHEMA, run, tensors)
    made = form.sample(SCHEMA, run, [tensors], dict.fromkeys(CLASSES, 20), np.random.default_rng(0))
    assert made["outcome"].value_counts().to_dict() == dict.fromkeys(CLASSES, 20)
    assert conform(made, SCHEMA).equals(made)


def _any(rng: np.random.Generator, spec: TensorSpec, scale: float) -> np.ndarray:
    shape = tuple(size or 1 for size in spec.shape)
    return (
        rng.uniform(-1, 1, shape).astype(np.float32) * np.float32(scale) if spec.dtype == "float32" else np.zeros(shape)
    )


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scale", [1.0, 1e4, 3e38])
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_finite_numbers_that_pass_the_check_give_rows_of_the_schema(name: str, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    form, run = family(name), parameters(name, records=50_000)  # type: ignore[arg-type]
    tensors = {n: _any(rng, s, scale) for n, s in form.expected(SCHEMA, run).items()}
    if name == "tan":
        d = len(tensors["order"])
        tensors["order"] = rng.permutation(d)
        tensors["parents"] = rng.integers(0, np.arange(1, d))
        tensors["groups"] = rng.integers(0, 8, len(tensors["groups"]))
    form.check(SCHEMA, run, tensors)
    made = form.sample(SCHEMA, run, [tensors, tensors], {"well": 5, "dead": 5}, rng)
    assert conform(made, SCHEMA).equals(made)
    shares = form.shares(SCHEMA, run, [tensors])
    assert np.isclose(shares.sum(), 1)
    assert (shares >= 0).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 30), dimensions=st.integers(1, 5))
def test_one_record_moves_the_moments_by_at_most_one(seed: int, rows: int, dimensions: int) -> None:
    table, run = people(rows, seed), parameters("moments", dimensions=dimensions)
    full, less = (moments.statistic(t, SCHEMA, run) for t in (table, table.iloc[1:]))
    moved = np.sqrt(sum(((full[n] - less[n]) ** 2).sum() for n in full))
    assert 0 < moved <= 1 + 1e-9


def test_a_record_at_the_corner_of_every_bound_moves_the_moments_by_at_most_one() -> None:
    corner = people(1)
    corner["age"], corner["cost"], corner["dose"] = 100, 1000.0, 5.0
    corner = conform(corner, SCHEMA)
    full = moments.statistic(corner, SCHEMA, parameters("moments"))
    assert np.sqrt(sum((part**2).sum() for part in full.values())) <= 1 + 1e-9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 30), records=st.sampled_from([30, 50_000]))
def test_one_record_moves_each_step_of_the_regression_by_at_most_one(seed: int, rows: int, records: int) -> None:
    table, rng = people(rows, seed), np.random.default_rng(seed)
    shape = logistic.Shape.of(SCHEMA, parameters("logistic", records=records, dimensions=3))
    # whatever the noisy steps before came to
    centre, score = rng.normal(0, 1, 3), rng.normal(0, 0.1, (3, 10))
    features = rng.normal(0, 5, (rows, 10))
    seen, fewer = (logistic.Seen.of(t, shape.blocks) for t in (table, table.iloc[1:]))
    gradient = logistic.descent(score, features, seen.label)
    for full, less in [
        (logistic.opening(seen, shape), logistic.opening(fewer, shape)),
        (logistic.around(centre, seen, shape), logistic.around(centre, fewer, shape)),
        ({"gradient": gradient}, {"gradient": logistic.descent(score, features[1:], fewer.label)}),
    ]:
        assert 0 < np.sqrt(sum(((full[n] - less[n]) ** 2).sum() for n in full)) <= 1 + 1e-9


def test_a_record_at_the_corner_of_every_bound_moves_the_regression_by_at_most_one() -> None:
    corner = people(1)
    corner["age"], corner["cost"], corner["dose"] = 100, 1000.0, 5.0
    corner = conform(corner, SCHEMA)
    for records in (30, 50_000):
        shape = logistic.Shape.of(SCHEMA, parameters("logistic", records=records))
        seen = logistic.Seen.of(corner, shape.blocks)
        for part in (logistic.opening(seen, shape), logistic.around(np.full(4, -0.9), seen, shape)):
            assert np.sqrt(sum((values**2).sum() for values in part.values())) <= 1 + 1e-9
    far = logistic.descent(np.zeros((3, 4)), np.full((1, 4), 1e6), np.eye(3)[[0]])
    assert np.linalg.norm(far) == pytest.approx(1)


def test_a_skewed_quantity_is_seen_on_its_logarithm_where_its_bounds_lie_apart() -> None:
    lab = Number(type="number", min=5, max=45)
    table = pd.DataFrame({"lab": [5.0, 15.0, 45.0]})
    units, missing = Scale("lab", lab, skewed=True).units(table)
    assert units == pytest.approx([0, 0.5, 1])
    assert Scale("lab", lab, skewed=True).values(units, missing).to_numpy() == pytest.approx([5, 15, 45])
    for low, high in ((0.0, 45.0), (40.0, 45.0)):
        near = Scale("lab", Number(type="number", min=low, max=high), skewed=True)
        middle = pd.DataFrame({"lab": [low + (high - low) / 100]})
        assert near.units(middle)[0] == pytest.approx(np.log(2) / np.log(101))


def test_a_regressions_rows_follow_its_labels() -> None:
    table, run = people(4000), parameters("logistic", records=4000)
    tensors, _ = family("logistic").fit(table, SCHEMA, run, Noise(bytes(32)), silent)
    made = family("logistic").sample(SCHEMA, run, [tensors], dict.fromkeys(CLASSES, 1000), np.random.default_rng(0))
    real, drawn = _ages(table), _ages(made)
    # labels of so few steps are softer than the table's
    assert 0.4 * (real["dead"] - real["well"]) < drawn["dead"] - drawn["well"] < 1.2 * (real["dead"] - real["well"])
    assert drawn["well"] < drawn["ill"] < drawn["dead"]
    assert made["dose"].isna().mean() == pytest.approx(table["dose"].isna().mean(), abs=0.1)
    shares = family("logistic").shares(SCHEMA, run, [tensors])
    assert (shares > 0.1).all()
    assert np.array_equal(shares, family("logistic").shares(SCHEMA, run, [tensors]))


def test_scores_of_a_pool_are_averaged() -> None:
    run, noise, rng = parameters("logistic", records=60), Noise(bytes(32)), np.random.default_rng(0)
    form = family("logistic")
    pool = [form.fit(people(60, seed), SCHEMA, run, noise, silent)[0] for seed in range(30)]
    truth = _ages(people(9000))

    def error(part: list) -> float:  # type: ignore[type-arg]
        return float((_ages(form.sample(SCHEMA, run, part, dict.fromkeys(CLASSES, 1000), rng)) - truth).abs().sum())

    assert error(pool) < np.mean([error([one]) for one in pool[:5]])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 30))
def test_one_record_moves_each_step_of_the_tree_by_the_root_of_its_tables(seed: int, rows: int) -> None:
    run, table = parameters("tan", records=50_000), people(rows, seed)
    grid = tan._Grid.of(SCHEMA, run)
    d = len(grid.columns)

    def first(part: object) -> np.ndarray:
        label, places = grid.layout.label.places(part), grid.places(part)  # type: ignore[arg-type]
        tables = [tan.counts(label, [p], (3, size)).ravel() for p, size in zip(places, grid.sizes, strict=True)]
        return np.concatenate(tables)

    moved = np.linalg.norm(first(table) - first(table.iloc[1:]))
    assert moved == pytest.approx(np.sqrt(d))
    assert grid.noise(0) == pytest.approx(moved * grid.multipliers[0])
    assert grid.noise(1) == pytest.approx(np.sqrt(d * (d - 1) / 2) * grid.multipliers[1])
    assert grid.noise(2) == pytest.approx(np.sqrt(d - 1) * grid.multipliers[2])


class Asked(Noise):
    """Noise that remembers which deviations were asked for."""

    def __init__(self) -> None:
        super().__init__(bytes(32))
        self.deviations: set[float] = set()

    def normal(
        self, shape: int | tuple[int, ...], scale: float = 1.0, out: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        self.deviations.add(scale)
        return super().normal(shape, scale, out)


def _deviations(name: str, event: Event) -> dict[str, float]:
    """The noise that the executed event says is on each tensor of the small schema, and on what a family keeps back."""
    if isinstance(event, Gaussian):
        every = event.noise_multiplier
        naive = every * np.sqrt(_COLUMNS)  # a record is in each column's counts
        return {"fine": naive} if name == "tan" else dict.fromkeys(moments.SHARES.keys() | {"categories"}, every)
    assert isinstance(event, Composed)
    first, second, third = (
        one.of.noise_multiplier if isinstance(one, Repeated) else one.noise_multiplier for one in event.of
    )  # type: ignore[union-attr]
    if name == "tan":
        pairs = _COLUMNS * (_COLUMNS - 1) // 2
        of_steps = zip(("fine", "pairs", "edges"), (_COLUMNS, pairs, _COLUMNS - 1), (first, second, third), strict=True)
        return {step: multiplier * np.sqrt(tables) for step, tables, multiplier in of_steps}
    opening = dict.fromkeys(("count", "sums", "columns", "categories"), first)
    return opening | {"offsets": second, "squares": second, "steps": third}


def _steps(tensors: Tensors, run: SgdeParameters) -> np.ndarray:
    """The noise of a regression's steps over no records, worked back from its score to the deviation of one step."""
    shape = logistic.Shape.of(SCHEMA, run)
    change = logistic.feature_map({n: part for n, part in tensors.items() if n != "score"}, shape)
    late = np.linalg.solve(change, tensors["score"].T.astype(float))
    steps, half = logistic.STEPS, logistic.STEPS // 2
    weights = [min(1.0, (steps - step) / half) for step in range(steps)]  # of each step in the mean of the later half
    rate = logistic.RATE * logistic.CLIP / run.records
    return np.asarray(late / (rate * np.linalg.norm(weights)))


@pytest.mark.parametrize("dimensions", [3, 4])
@pytest.mark.parametrize(
    ("name", "records"), [("moments", 50_000), ("tan", 50_000), ("tan", 30), ("logistic", 50_000), ("logistic", 30)]
)
def test_noise_is_as_large_as_the_event_says_on_everything_that_is_released(
    name: str, records: int, dimensions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = parameters(name, records=records, epsilon=0.5, dimensions=dimensions)
    noise, drawn = Asked(), defaultdict[str, list[np.ndarray]](list)
    score = tan._score

    def seen(pair: np.ndarray, *others: Any) -> Any:
        drawn["pairs"].append(pair)
        return score(pair, *others)

    monkeypatch.setattr(tan, "_score", seen)
    for _ in range(40):
        tensors, event = family(name).fit(people(0), SCHEMA, run, noise, silent)  # type: ignore[arg-type]
        for kind, tensor in tensors.items():  # of no records: what is not noise is 0
            if tensor.dtype.kind == "f" and kind != "score":
                drawn[kind].append(tensor)
        if name == "logistic":
            drawn["steps"].append(_steps(tensors, run))
    wanted = _deviations(name, event)
    assert drawn.keys() <= wanted.keys()
    assert sorted(noise.deviations) == pytest.approx(sorted({wanted[kind] for kind in drawn}))
    for kind, parts in drawn.items():
        squares = (np.concatenate([part.ravel() for part in parts]).astype(float) / wanted[kind]) ** 2
        assert chi2.ppf(1e-12, squares.size) < squares.sum() < chi2.isf(1e-12, squares.size), kind


@pytest.mark.parametrize("name", ["moments", "tan"])
def test_without_noise_a_generator_gives_back_what_it_saw(name: str) -> None:
    table, form, run = people(4000), family(name), parameters(name, records=50_000, dimensions=4)  # type: ignore[arg-type]
    tensors, _ = form.fit(table, SCHEMA, run, Quiet(), silent)
    made = form.sample(SCHEMA, run, [tensors], dict.fromkeys(CLASSES, 2000), np.random.default_rng(0))
    for outcome in CLASSES:
        real, drawn = (t[t["outcome"] == outcome] for t in (table, made))
        assert drawn["age"].mean() == pytest.approx(float(real["age"].mean()), abs=4)
        assert drawn["sex"].eq("m").mean() == pytest.approx(real["sex"].eq("m").mean(), abs=0.05)
        assert drawn["smoker"].isna().mean() == pytest.approx(real["smoker"].isna().mean(), abs=0.05)
        assert drawn["dose"].isna().mean() == pytest.approx(real["dose"].isna().mean(), abs=0.05)
    shares = form.shares(SCHEMA, run, [tensors])
    assert shares == pytest.approx(table["outcome"].value_counts(normalize=True).reindex(CLASSES).to_numpy(), abs=0.02)


def test_a_dependence_within_the_class_survives_in_the_tree() -> None:
    table, run = people(6000), parameters("tan", records=50_000)
    table["sex"] = table["sex"].where(table["age"] < 40, "m")
    tensors, _ = family("tan").fit(table, SCHEMA, run, Noise(bytes(32)), silent)
    made = family("tan").sample(SCHEMA, run, [tensors], dict.fromkeys(CLASSES, 3000), np.random.default_rng(0))
    ill = made[made["outcome"] == "ill"]
    old = ill["age"] >= 45
    assert ill.loc[old, "sex"].eq("m").mean() > ill.loc[~old, "sex"].eq("m").mean() + 0.1


def _ages(table: pd.DataFrame) -> pd.Series:
    return table.astype({"age": float}).groupby("outcome", observed=True)["age"].mean()


def test_pooled_moments_are_better_than_one_silos() -> None:
    run, rng = parameters("moments", records=60), np.random.default_rng(0)
    noise = Noise(bytes(32))
    pool = [family("moments").fit(people(60, seed), SCHEMA, run, noise, silent)[0] for seed in range(40)]

    def error(part: list) -> float:  # type: ignore[type-arg]
        made = family("moments").sample(SCHEMA, run, part, dict.fromkeys(CLASSES, 2000), rng)
        means = made.astype({"age": float}).groupby("outcome", observed=True)["age"].mean()
        return float(
            (means - people(9000).astype({"age": float}).groupby("outcome", observed=True)["age"].mean()).abs().sum()
        )

    assert error(pool) < error(pool[:1])


@pytest.mark.parametrize(
    "change",
    [{"order": [0, 0, 1, 2, 3, 4]}, {"order": [9, 0, 1, 2, 3, 4]}, {"parents": [1, 0, 0, 0, 0]}, {"groups": None}],
)
def test_a_tree_that_is_none_is_refused(change: dict[str, list[int] | None]) -> None:
    run = parameters("tan", records=50_000)
    tensors = dict(family("tan").fit(people(10), SCHEMA, run, Noise(), silent)[0])
    for name, value in change.items():
        tensors[name] = np.array(value) if value else np.full_like(tensors[name], 8)
    with pytest.raises(InvalidArtifact):
        family("tan").check(SCHEMA, run, tensors)


@pytest.mark.parametrize("changes", [{"label": "age"}, {"label": "smoker"}, {"label": "none"}, {"skewed": ("sex",)}])
def test_a_schema_without_a_generator_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        parameters("tan").model_copy(update=changes).check(SCHEMA)


@pytest.mark.parametrize("changes", [{"epsilon": 0}, {"epsilon": -1}, {"epsilon": 11}, {"delta": 0}, {"other": 1}])
def test_ceilings_outside_the_format_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        parameters("tan", **changes)


def test_what_no_noise_can_buy_is_refused() -> None:
    vae = VaeParameters(steps=100_000, rate=0.99)
    with pytest.raises(ConfigError):
        family("vae").mechanism(SCHEMA, parameters("vae", epsilon=0.01, delta=1e-15).model_copy(update={"vae": vae}))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_noisy_counts_become_distributions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = simplex(rng.normal(0, 10 ** rng.uniform(-3, 12), 7))
    assert np.isclose(values.sum(), 1)
    assert (values >= 0).all()
    totals, shares = margins([rng.normal(5, 20, (2, k)) for k in (3, 9)])
    assert (totals >= 1).all()
    fitted = rake(np.maximum(rng.normal(0, 1, (2, 3, 9)), 0), *shares)
    assert np.allclose(fitted.sum(axis=1), shares[1], atol=1e-9)
    assert set(groups(shares[1], 4, ordered=True)) <= set(range(4))
    assert (np.diff(groups(shares[1], 4, ordered=True)) >= 0).all()
