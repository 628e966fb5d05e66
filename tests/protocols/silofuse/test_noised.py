"""What a claim about every uploaded row rests on: a blind encoder, a norm that holds for any row, noise of no seed."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from protocols.learning.schema import Columns
from protocols.learning.table import conform
from protocols.learning.tensors import TensorSpec, read_tensors
from protocols.silofuse.claim import NoiseParameters, deviation, mechanism_of, norm_of
from protocols.silofuse.noised import Encoder, released, upload
from protocols.silofuse.readings import Readings, dealt
from protocols.silofuse.shrinkage import Shrinkage
from services.errors import ConfigError
from services.mechanism import Gaussian, Mechanism
from tests import tables
from tests.sgde_world import Quiet

COLUMNS: Columns = TypeAdapter(Columns).validate_python(
    {k: v for part in tables.COLUMNS.values() for k, v in part.items()}
)
MECHANISM = mechanism_of(10.0, 1e-5)
CORNERS: dict[str, list[Any]] = {
    "age": [0, 120], "sex": ["female", "male"], "admitted": ["2020-01-01", "2024-12-31"],
    "pressure": [0.0, 300.0, None], "smoker": ["no", "yes", "former", None], "cost": [0.0, 1e5], "died": ["0", "1"],
}  # fmt: skip


def people(rows: int = 300, seed: int = 1) -> pd.DataFrame:
    return conform(tables.people(rows, seed), COLUMNS)


def records(**values: Any) -> pd.DataFrame:
    return conform(pd.DataFrame({name: [values[name]] for name in COLUMNS}, dtype=object), COLUMNS)


# the claim


def test_a_row_changes_its_own_latent_and_no_other() -> None:
    encoder = Encoder.draw(COLUMNS)
    table, other = people(), people(seed=2)
    changed = table.copy()
    changed.loc[7] = other.loc[7]
    before, after = encoder.encode(table), encoder.encode(changed)
    assert not np.array_equal(before[7], after[7])
    np.testing.assert_array_equal(np.delete(before, 7, axis=0), np.delete(after, 7, axis=0))


@given(st.fixed_dictionaries({name: st.sampled_from(values) for name, values in CORNERS.items()}), st.booleans())
@settings(max_examples=30, deadline=None)
def test_no_row_at_any_corner_of_the_schema_is_longer_than_the_norm(row: dict[str, Any], skewed: bool) -> None:
    encoder = Encoder.draw(COLUMNS, ("cost", "age", "admitted") if skewed else ())
    assert np.linalg.norm(encoder.encode(records(**row))) <= norm_of(COLUMNS) * (1 + 1e-12)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
@settings(max_examples=30, deadline=None)
def test_values_that_no_check_has_seen_are_cut_to_the_norm_too(cost: float, pressure: float) -> None:
    table = people(3)
    table.loc[1, ["cost", "pressure"]] = cost, pressure
    assert np.linalg.norm(Encoder.draw(COLUMNS).encode(table), axis=1).max() <= norm_of(COLUMNS) * (1 + 1e-12)


def test_rows_are_cut_to_the_norm_whatever_the_secrets_were_read_as() -> None:
    encoder = Encoder.draw(COLUMNS)
    grown = replace(encoder, rotation=10 * encoder.rotation)
    lengths = np.linalg.norm(grown.encode(people()), axis=1)
    np.testing.assert_allclose(lengths, norm_of(COLUMNS))


def test_the_encoder_is_drawn_from_the_schema_alone_and_never_twice() -> None:
    assert list(inspect.signature(Encoder.draw).parameters) == ["columns", "skewed"]
    np.random.seed(0)  # noqa: NPY002 - a global seed must not decide a secret
    one = Encoder.draw(COLUMNS)
    np.random.seed(0)  # noqa: NPY002
    two = Encoder.draw(COLUMNS)
    assert np.abs(one.rotation - two.rotation).max() > 0.1
    assert np.abs(one.words["smoker"] - two.words["smoker"]).max() > 0.1


def test_the_noise_is_as_large_as_the_mechanism_says_and_nobody_repeats_it() -> None:
    encoder, table = Encoder.draw(COLUMNS), people(2000)
    np.random.seed(0)  # noqa: NPY002 - no seed reaches the noise
    one, executed = released(encoder, table, MECHANISM)
    np.random.seed(0)  # noqa: NPY002
    two, _ = released(encoder, table, MECHANISM)
    added = np.concatenate([one, two]) - np.concatenate([encoder.encode(table)] * 2)
    expected = deviation(MECHANISM, COLUMNS)
    assert added.std() == pytest.approx(expected, rel=0.02)
    assert (one - two).std() == pytest.approx(math.sqrt(2) * expected, rel=0.03)
    assert np.abs(np.corrcoef(added.T) - np.eye(encoder.width)).max() < 0.12
    assert executed == MECHANISM


def test_a_whole_table_is_written_in_blocks_under_the_same_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocols.learning.rows.BLOCK_ROWS", 100)
    encoder, table = Encoder.draw(COLUMNS), people(250)
    assert upload(encoder, table, MECHANISM, tmp_path / "latents", lambda *_: None) == MECHANISM
    expected = TensorSpec("float32", (250, encoder.width))
    written = read_tensors(tmp_path / "latents", {"latents": expected})["latents"]
    added = written - encoder.encode(table)
    assert added.std() == pytest.approx(deviation(MECHANISM, COLUMNS), rel=0.05)
    assert not np.array_equal(added[:100], added[100:200])


def test_epsilon_is_that_of_a_gaussian_over_the_greatest_distance() -> None:
    assert MECHANISM.adjacency == "replace-one"
    assert 9.9 < MECHANISM.epsilon(1e-5) <= 10
    assert isinstance(MECHANISM.event, Gaussian)
    assert deviation(MECHANISM, COLUMNS) == MECHANISM.event.noise_multiplier * 2 * norm_of(COLUMNS)
    parameters = NoiseParameters(epsilon=10.0)
    assert parameters.mechanism == MECHANISM
    assert NoiseParameters(epsilon=50.0).together(16) > 300, "many silos' uploads at a weak claim are told as well"
    assert parameters.together(4) == pytest.approx(
        Mechanism(event=Gaussian(noise_multiplier=MECHANISM.event.noise_multiplier / 2)).epsilon(1e-5)
    )


@pytest.mark.parametrize(
    "wrong", [{}, {"epsilon": 0}, {"epsilon": 60}, {"epsilon": 1, "delta": 0.1}, {"epsilon": 1, "seed": 3}]
)
def test_what_is_no_claim_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NoiseParameters.model_validate(wrong)
    with pytest.raises(ConfigError, match="sex"):
        NoiseParameters(epsilon=1.0, skewed=("sex",)).check(COLUMNS)


# what comes back


def test_without_noise_it_decodes_what_it_encoded() -> None:
    table, encoder = people(2000), Encoder.draw(COLUMNS, ("cost",))
    latents, _ = released(encoder, table, MECHANISM, Quiet())
    back = Readings.of(encoder, table).decode(latents)
    pd.testing.assert_frame_equal(back, conform(back, COLUMNS))
    for name in ("sex", "smoker", "died"):
        assert back[name].equals(table[name])
    assert (back["pressure"].isna() == table["pressure"].isna()).all()
    for name in ("age", "cost", "pressure"):
        assert back[name].astype("float").corr(table[name].astype("float"), method="spearman") > 0.97


def test_any_finite_latents_decode_to_the_schema_and_keep_every_column_s_distribution() -> None:
    table, encoder = people(1000), Encoder.draw(COLUMNS)
    latents = np.random.default_rng(0).normal(0, 1e6, (500, encoder.width)).astype(np.float32)
    back = Readings.of(encoder, table).decode(latents)
    pd.testing.assert_frame_equal(back, conform(back, COLUMNS))
    shares = back["smoker"].value_counts(normalize=True, dropna=False) - table["smoker"].value_counts(
        normalize=True, dropna=False
    )
    assert shares.abs().max() < 0.005
    assert back["age"].mean() == pytest.approx(table["age"].mean(), abs=1)
    one = Readings.of(encoder, table).decode(latents[:1])
    pd.testing.assert_frame_equal(one, conform(one, COLUMNS))


def test_labels_are_dealt_to_the_nearest_rows_in_their_shares() -> None:
    words = np.eye(3)
    codes = np.array([[3.0, 0, 0], [2, 0, 0], [1, 0, 0], [0, 2, 0], [0, 1, 0], [0, 0, 1]])
    assert dealt(codes, words, np.array([3, 2, 1]) / 6).tolist() == [0, 0, 0, 1, 1, 2]
    assert dealt(codes, words, np.array([0.5, 0.5, 0.0])).tolist() == [0, 0, 0, 1, 1, 1]
    assert dealt(codes, words[:1], np.array([1.0])).tolist() == [0] * 6


def test_a_restart_reads_the_same_secrets(tmp_path: Path) -> None:
    encoder, table = Encoder.draw(COLUMNS, ("cost",)), people()
    encoder.save(tmp_path / "encoder")
    again = Encoder.load(tmp_path / "encoder", COLUMNS, ("cost",))
    np.testing.assert_array_equal(again.encode(table), encoder.encode(table))
    assert (tmp_path / "encoder").stat().st_mode & 0o077 == 0


# what the coordinator takes out of it


def test_rows_under_known_noise_get_their_covariance_back() -> None:
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(2, 12))
    clean = rng.normal(size=(8000, 2)) @ axes + 0.3 * rng.normal(size=(8000, 12)) + 5
    noised = (clean + rng.normal(size=clean.shape)).astype(np.float32)
    blocks = [3 * noised[:3000], 3 * noised[3000:]]
    found = np.concatenate([*map(Shrinkage.of(blocks, np.full(12, 3.0)), blocks)]) / 3
    wanted = np.corrcoef(clean.T)
    assert np.abs(np.corrcoef(found.T) - wanted).mean() < 0.3 * np.abs(np.corrcoef(noised.T) - wanted).mean()
    np.testing.assert_allclose(found.mean(axis=0), noised.mean(axis=0), atol=1e-3)


@pytest.mark.parametrize("rows", [2, 40])
def test_where_there_is_only_noise_or_hardly_a_row_it_stays_finite(rows: int) -> None:
    noise = np.random.default_rng(0).normal(size=(rows, 30)).astype(np.float32)
    found = Shrinkage.of([noise], np.ones(30))(noise)
    assert found.shape == noise.shape
    assert np.isfinite(found).all()
