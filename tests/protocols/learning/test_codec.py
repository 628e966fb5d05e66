"""What the codec promises: every canonical table comes back in type, bounds, grid, categories and shape."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from protocols.learning.codec import Codec
from protocols.learning.codes import Book, Scores
from protocols.learning.schema import Category, Columns, Date, Integer, Number
from protocols.learning.table import conform
from services.errors import DataError

COLUMNS: Columns = {
    "pressure": Number(type="number", min=0, max=200, step=0.5),
    "cost": Number(type="number", min=0, max=1e6, missing=True),
    "visits": Integer(type="integer", min=0, max=99, missing=True),
    "ward": Category(type="category", categories=("A", "B", "C", "unused"), missing=True),
    "sex": Category(type="category", categories=("female", "male")),
    "site": Category(type="category", categories=("only",)),
    "admitted": Date(type="date", min=dt.date(1960, 1, 1), max=dt.date(2020, 12, 31), missing=True),
}


def a_table(rows: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    days = np.datetime64("1965-03-01") + rng.integers(0, 9000, rows).astype("timedelta64[D]")
    table = pd.DataFrame(
        {
            "pressure": np.round(rng.normal(90, 20, rows).clip(0, 200) * 2) / 2,
            "cost": np.where(rng.random(rows) < 0.4, 0.0, rng.lognormal(7, 1, rows).clip(0, 1e6)),
            "visits": pd.array(rng.poisson(2, rows), dtype="Int64"),
            "ward": rng.choice(["A", "B", "C"], rows, p=[0.7, 0.25, 0.05]),
            "sex": rng.choice(["female", "male"], rows),
            "site": "only",
            "admitted": pd.Series(days).dt.strftime("%Y-%m-%d"),
        }
    )
    for name in ("cost", "visits", "ward", "admitted"):
        table.loc[rng.random(rows) < 0.2, name] = None
    return conform(table, COLUMNS)


def fitted(table: pd.DataFrame, columns: Columns = COLUMNS) -> Codec:
    return Codec.fit(table, columns, np.random.default_rng(1))


def there_and_back(table: pd.DataFrame, columns: Columns = COLUMNS) -> pd.DataFrame:
    codec = fitted(table, columns)
    return codec.decode(codec.encode(table, np.random.default_rng(2)))


def test_what_is_exact_comes_back_exactly() -> None:
    table = a_table(3000)
    back = there_and_back(table)
    labels, counts = ["ward", "sex", "site"], ["pressure", "visits"]
    pd.testing.assert_frame_equal(back[labels], table[labels])
    same = (back[counts] == table[counts]) | table[counts].isna()
    assert same.mean().min() > 0.95  # a value at a cell's edge may fall into the next one
    assert (back["admitted"] - table["admitted"]).abs().max() < pd.Timedelta(days=100)
    assert (back.isna() == table.isna()).all(axis=None)


def test_a_number_off_any_grid_comes_back_within_its_quantile_and_its_spike_exactly() -> None:
    table = a_table(3000)
    back = there_and_back(table)
    spike = (table["cost"] == 0).to_numpy()
    assert (back["cost"][spike] == 0).mean() > 0.99
    ranks, again = table["cost"].rank(pct=True)[~spike], back["cost"].rank(pct=True)[~spike]
    assert (ranks - again).abs().max() < 0.01


def test_types_bounds_grid_and_categories_hold_for_any_codes_at_all() -> None:
    table = a_table(300)
    codec = fitted(table)
    back = codec.decode(np.random.default_rng(3).normal(0, 30, (500, codec.width)))
    written = back.assign(admitted=back["admitted"].dt.strftime("%Y-%m-%d"))
    pd.testing.assert_frame_equal(back, conform(written, COLUMNS))
    assert dict(back.dtypes) == dict(table.dtypes)
    assert (back["pressure"] * 2 % 1 == 0).all()


def test_the_width_follows_from_the_schema_alone() -> None:
    assert fitted(a_table(3)).width == fitted(a_table(500)).width


def test_a_label_that_no_fitted_row_held_never_comes_back() -> None:
    codec = fitted(a_table(500))
    back = codec.decode(np.random.default_rng(3).normal(0, 2, (2000, codec.width)))
    assert "unused" not in set(back["ward"].dropna())


def test_a_sample_with_crooked_scores_comes_out_distributed_as_fitted() -> None:
    values = np.random.default_rng(0).lognormal(0, 1, 4000)
    scores = Scores.fit(values, 0, 0, 1e6, np.random.default_rng(1))
    crooked = 0.3 + 0.7 * np.random.default_rng(2).standard_normal(4000)
    back = scores.decode(crooked)
    np.testing.assert_allclose(np.quantile(back, [0.1, 0.5, 0.9]), np.quantile(values, [0.1, 0.5, 0.9]), rtol=0.05)
    assert (np.argsort(back) == np.argsort(crooked)).all()


def test_one_sample_says_what_its_score_says() -> None:
    scores = Scores.fit(np.linspace(0, 100, 1000), 0, 0, 100, np.random.default_rng(1))
    assert scores.decode(np.array([2.0]))[0] > 95


def test_scores_are_normal_however_crowded_the_values_are() -> None:
    table = a_table(5000)
    part = fitted(table).parts["visits"]
    scores = part.encode(table["visits"], np.random.default_rng(4))[:, 0]
    quarters = np.quantile(scores, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quarters, [-0.674, 0, 0.674], atol=0.06)


def test_a_missing_number_shows_in_its_flag_alone() -> None:
    table = a_table(5000)
    codes = fitted(table).parts["visits"].encode(table["visits"], np.random.default_rng(4))
    missing = table["visits"].isna().to_numpy()
    assert set(codes[missing, 1]).isdisjoint(codes[~missing, 1])
    assert abs(codes[missing, 0].mean()) < 0.1
    assert abs(codes[missing, 0].std() - 1) < 0.1


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_few_rows_are_enough(rows: int) -> None:
    back = there_and_back(a_table(rows))
    assert len(back) == rows


def test_a_column_that_is_all_missing_stays_missing() -> None:
    table = a_table(50)
    for name in ("cost", "visits", "ward", "admitted"):
        table[name] = conform(pd.DataFrame({name: [None] * 50}), {name: COLUMNS[name]})[name]
    codec = fitted(table)
    back = codec.decode(np.random.default_rng(3).normal(0, 5, (200, codec.width)))
    assert back[["cost", "visits", "ward", "admitted"]].isna().all(axis=None)


def test_a_constant_column_stays_constant() -> None:
    columns: Columns = {"x": Number(type="number", min=0, max=10)}
    back = there_and_back(conform(pd.DataFrame({"x": [3.25] * 40}), columns), columns)
    assert (back["x"] == 3.25).all()


def test_a_grid_keeps_its_decimals() -> None:
    columns: Columns = {"x": Number(type="number", min=0, max=1, step=0.1)}
    back = there_and_back(conform(pd.DataFrame({"x": [0.1, 0.2, 0.3, 0.6, 0.7] * 20}), columns), columns)
    assert set(back["x"]) <= {k / 10 for k in range(11)}


def test_rows_beyond_the_fitted_ones_are_encoded_as_the_outermost() -> None:
    columns: Columns = {"x": Number(type="number", min=0, max=100)}
    codec = fitted(conform(pd.DataFrame({"x": np.linspace(40, 60, 200)}), columns), columns)
    codes = codec.encode(conform(pd.DataFrame({"x": [0.0, 100.0]}), columns), np.random.default_rng(2))
    assert codes[:, 0].tolist() == [-4.0, 4.0]


def test_missing_against_the_schema_is_refused() -> None:
    table = a_table(20)
    table.loc[3, "sex"] = None
    with pytest.raises(DataError, match="1 of 20 values are missing"):
        fitted(table)


def test_another_generator_draws_another_book() -> None:
    labels = np.arange(5)
    books = [Book.fit(labels, 5, np.random.default_rng(seed)).codewords for seed in (1, 2)]
    assert np.abs(books[0] - books[1]).max() > 0.1


@pytest.mark.parametrize("count", [1, 2, 3, 10, 100])
def test_codewords_lie_apart_on_their_sphere(count: int) -> None:
    words = Book.fit(np.zeros(1, dtype=np.int64), count, np.random.default_rng(0)).codewords
    width = words.shape[1]
    np.testing.assert_allclose((words**2).sum(axis=1), width)
    distance = np.linalg.norm(words[:, None] - words[None], axis=-1) + 9 * np.eye(count)
    assert distance.min() > 0.9


def test_a_restored_codec_is_the_same_codec() -> None:
    table = a_table(200)
    codec = fitted(table)
    again = Codec.restore(COLUMNS, codec.tensors())
    codes = codec.encode(table, np.random.default_rng(2))
    np.testing.assert_array_equal(again.encode(table, np.random.default_rng(2)), codes)
    pd.testing.assert_frame_equal(again.decode(codes), codec.decode(codes))
