"""A table in files is the table that was written, however many blocks it takes, and it is there whole or not at all."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from protocols.learning.rows import blocks
from protocols.learning.schema import Category, Columns, Date, Integer, Number
from protocols.learning.stored import Stored, storing, write_csv, write_parquet
from protocols.learning.table import conform

COLUMNS: Columns = {
    "cost": Number(type="number", min=0, max=1e6, missing=True),
    "visits": Integer(type="integer", min=0, max=99, missing=True),
    "ward": Category(type="category", categories=("A", "B", "C"), missing=True),
    "seen": Date(type="date", min="2020-01-01", max="2025-01-01", missing=True),
}
BLOCK = 10


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.learning.rows.BLOCK_ROWS", BLOCK)


def a_table(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    days = np.datetime64("2021-03-01") + rng.integers(0, 900, rows).astype("timedelta64[D]")
    table = pd.DataFrame(
        {
            "cost": rng.random(rows) * 1e6,
            "visits": pd.array(rng.poisson(2, rows), dtype="Int64"),
            "ward": rng.choice(["A", "B", "C"], rows),
            "seen": pd.Series(days).dt.strftime("%Y-%m-%d"),
        }
    )
    for name in COLUMNS:
        table.loc[rng.random(rows) < 0.2, name] = None
    return conform(table, COLUMNS)


def store(table: pd.DataFrame, folder: Path) -> Stored:
    with storing(folder, COLUMNS) as writer:
        for block in blocks(table):
            writer.append(block)
    return Stored.open(folder, COLUMNS)


@pytest.mark.parametrize("rows", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_what_was_stored_in_blocks_reads_back_by_column_by_block_and_by_place(rows: int, tmp_path: Path) -> None:
    table = a_table(rows)
    stored = store(table, tmp_path / "table")
    assert len(stored) == rows
    pd.testing.assert_frame_equal(pd.DataFrame({name: stored[name] for name in COLUMNS}), table)
    parts = list(blocks(stored))
    assert {len(part) for part in parts[:-1]} <= {BLOCK}
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), table)
    places = np.random.default_rng(1).permutation(rows)[: rows // 2]
    pd.testing.assert_frame_equal(stored.take(places), table.take(places).reset_index(drop=True))


def test_some_of_its_rows_are_a_table_too(tmp_path: Path) -> None:
    table = a_table(37)
    some = np.arange(37) % 3 == 0
    part = store(table, tmp_path / "table").at(some)
    expected = table[some].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.concat(list(blocks(part)), ignore_index=True), expected)
    pd.testing.assert_frame_equal(part.take(np.array([5, 2])), expected.take([5, 2]).reset_index(drop=True))
    pd.testing.assert_series_equal(part["ward"], expected["ward"], check_names=False)


def test_rows_can_be_brought_into_another_order(tmp_path: Path) -> None:
    table, order = a_table(25), np.random.default_rng(2).permutation(25)
    with storing(tmp_path / "table", COLUMNS) as writer:
        writer.append(table)
        writer.arrange(order)
    expected = table.take(order).reset_index(drop=True)
    pd.testing.assert_frame_equal(Stored.open(tmp_path / "table", COLUMNS).take(np.arange(25)), expected)


def test_a_storing_that_breaks_off_leaves_the_table_before_it_and_nothing_else(tmp_path: Path) -> None:
    before = store(a_table(12), tmp_path / "table")

    def broken(rows: int) -> Iterator[pd.DataFrame]:
        yield a_table(rows)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), storing(tmp_path / "table", COLUMNS) as writer:
        any(map(writer.append, broken(5)))
    assert [path.name for path in tmp_path.iterdir()] == ["table"]
    pd.testing.assert_frame_equal(before.take(np.arange(12)), a_table(12))


def test_files_for_people_hold_every_row_once_under_one_heading(tmp_path: Path) -> None:
    table = a_table(2 * BLOCK + 3)
    stored = store(table, tmp_path / "table")
    write_csv(stored, tmp_path / "table.csv")
    table.to_csv(tmp_path / "whole.csv", index=False)
    assert (tmp_path / "table.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    write_parquet(stored, tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(conform(pd.read_parquet(tmp_path / "table.parquet"), COLUMNS), table)
