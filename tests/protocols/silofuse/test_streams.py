"""A silo's rows become latents and come back block by block, and as if there had been one block."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from protocols.learning.tensors import TensorSpec, read_tensors
from protocols.silofuse.autoencoder import Autoencoder
from protocols.silofuse.streams import decode, encode
from tests.protocols.silofuse.test_autoencoder import COLUMNS, a_table

BLOCK = 10


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.learning.rows.BLOCK_ROWS", BLOCK)


def silent(phase: str, step: int, total: int, loss: float | None) -> None: ...


@pytest.mark.parametrize("rows", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_rows_come_back_in_order_over_all_blocks(rows: int, tmp_path: Path) -> None:
    table = a_table(rows)
    form = Autoencoder.fit(table, COLUMNS)
    encode(form, table, tmp_path / "latents", silent)
    latents = read_tensors(tmp_path / "latents", {"latents": TensorSpec("float32", (rows, form.width))})["latents"]
    back = decode(form, latents, tmp_path / "back", silent).take(np.arange(rows))
    assert (back["ward"] == table["ward"]).all()
    assert (back["weight"].isna() == table["weight"].isna()).all()
    pd.testing.assert_frame_equal(back, form.decode(latents))


def test_a_restart_writes_the_same_latents_to_the_bit(tmp_path: Path) -> None:
    table = a_table(3 * BLOCK + 7)
    form = Autoencoder.fit(table, COLUMNS)
    form.save(tmp_path / "form")
    encode(form, table, tmp_path / "first", silent)
    encode(Autoencoder.load(tmp_path / "form", COLUMNS), table, tmp_path / "again", silent)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()


def test_no_two_blocks_place_their_values_alike_within_the_grid() -> None:
    table = a_table(BLOCK)
    form = Autoencoder.fit(table, COLUMNS)
    assert np.abs(form.encode(table, 0) - form.encode(table, 1)).max() > 0
    np.testing.assert_array_equal(form.encode(table, 1), form.encode(table, 1))


def test_a_sample_of_many_blocks_comes_out_distributed_as_the_whole(tmp_path: Path) -> None:
    table = a_table(400)
    form = Autoencoder.fit(table, COLUMNS)
    crooked = (0.5 + 0.7 * np.random.default_rng(3).standard_normal((400, form.width))).astype(np.float32)
    back = decode(form, crooked, tmp_path / "back", silent).take(np.arange(400))
    pd.testing.assert_frame_equal(back, form.decode(crooked))
