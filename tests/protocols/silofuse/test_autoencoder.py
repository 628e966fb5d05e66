"""What the opaque autoencoder promises: it is private, stable over restarts, and decodes whatever it is given."""

from pathlib import Path

import numpy as np
import pandas as pd

from protocols.learning.schema import Category, Columns, Number
from protocols.learning.table import conform
from protocols.silofuse.autoencoder import Autoencoder

COLUMNS: Columns = {
    "age": Number(type="number", min=0, max=110, step=1),
    "weight": Number(type="number", min=0, max=300, missing=True),
    "ward": Category(type="category", categories=("A", "B", "C", "D", "E")),
}


def a_table(rows: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 99, rows),
            "weight": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(75, 15, rows).clip(0, 300)),
            "ward": rng.choice(list("ABCDE"), rows),
        }
    )
    return conform(table, COLUMNS)


def test_what_it_encodes_it_decodes() -> None:
    table = a_table()
    autoencoder = Autoencoder.fit(table, COLUMNS)
    back = autoencoder.decode(autoencoder.encode(table))
    assert (back["ward"] == table["ward"]).all()
    assert (back["age"] - table["age"]).abs().max() <= 1
    assert (back["weight"].isna() == table["weight"].isna()).all()
    assert (back["weight"] - table["weight"]).abs().median() < 1


def test_latents_are_float32_centred_and_as_wide_as_the_schema_says() -> None:
    latents = Autoencoder.fit(a_table(), COLUMNS).encode(a_table())
    assert latents.dtype == np.float32
    assert latents.shape == (400, 1 + 2 + 4)
    np.testing.assert_allclose(latents.mean(axis=0), 0, atol=1e-4)


def test_a_restart_gives_the_same_latents_to_the_bit(tmp_path: Path) -> None:
    first = Autoencoder.fit(a_table(), COLUMNS)
    first.save(tmp_path / "autoencoder")
    again = Autoencoder.load(tmp_path / "autoencoder", COLUMNS)
    np.testing.assert_array_equal(again.encode(a_table()), first.encode(a_table()))
    pd.testing.assert_frame_equal(again.decode(first.encode(a_table())), first.decode(first.encode(a_table())))


def test_what_it_keeps_is_private_to_its_owner(tmp_path: Path) -> None:
    Autoencoder.fit(a_table(), COLUMNS).save(tmp_path / "autoencoder")
    assert (tmp_path / "autoencoder").stat().st_mode & 0o077 == 0


def test_two_silos_with_the_same_rows_share_neither_rotation_nor_codebook() -> None:
    np.random.seed(0)  # noqa: NPY002 - a global seed must not decide a secret
    one = Autoencoder.fit(a_table(), COLUMNS)
    np.random.seed(0)  # noqa: NPY002
    two = Autoencoder.fit(a_table(), COLUMNS)
    assert np.abs(one.rotation - two.rotation).max() > 0.1
    assert np.abs(one.codec.tensors()["2.codewords"] - two.codec.tensors()["2.codewords"]).max() > 0.1


def test_no_latent_dimension_shows_one_column_alone() -> None:
    table = a_table()
    ages = table["age"].rank()
    strongest = []
    for _ in range(20):
        latents = Autoencoder.fit(table, COLUMNS).encode(table)
        strongest.append(max(abs(ages.corr(pd.Series(column))) for column in latents.T))
    assert np.median(strongest) < 0.95  # without the rotation it is 1


def test_any_finite_latents_decode_to_the_schema() -> None:
    autoencoder = Autoencoder.fit(a_table(), COLUMNS)
    latents = np.random.default_rng(0).normal(0, 1e6, (300, autoencoder.width)).astype(np.float32)
    back = autoencoder.decode(latents)
    pd.testing.assert_frame_equal(back, conform(back, COLUMNS))
