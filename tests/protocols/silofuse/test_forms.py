"""Three forms of latents, one promise: what a silo encodes it decodes, after a restart too; and what each lays open."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from protocols.learning.layout import blocks, width_of
from protocols.learning.schema import Number
from protocols.silofuse import forms
from protocols.silofuse.autoencoder import Autoencoder
from protocols.silofuse.learned import LearnedAutoencoder
from protocols.silofuse.parameters import SiloFuseParameters
from protocols.silofuse.streams import Form
from services.contract import Context
from services.errors import InvalidArtifact
from tests.protocols.silofuse.test_autoencoder import COLUMNS, a_table
from tests.protocols.silofuse.test_streams import silent

FORMS = ("opaque", "paper", "layout")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.silofuse.learned.STEPS", 300)


def fitted(name: forms.FormName, folder: Path) -> Form:
    context = Context(run="r", spec={}, me="a", coordinator="hub", silos=("a", "b"), workspace=folder)
    return forms.fit(name, a_table(), COLUMNS, context, silent)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_decodes_what_it_encodes_also_after_a_restart(name: forms.FormName, tmp_path: Path) -> None:
    form, table = fitted(name, tmp_path), a_table()
    form.save(tmp_path / "form")
    again = forms.load(name, tmp_path / "form", COLUMNS)
    latents = form.encode(table, 0)
    assert latents.shape == (400, form.width)
    np.testing.assert_array_equal(again.encode(table, 0), latents)
    back = again.codec.decode(again.codes(latents, 0))
    pd.testing.assert_frame_equal(back, form.codec.decode(form.codes(latents, 0)))
    assert (back["ward"] == table["ward"]).mean() > 0.9
    assert np.corrcoef(back["age"], table["age"])[0, 1] > 0.9
    assert [path.name for path in tmp_path.iterdir()] == ["form"]  # no code of a row is left behind
    assert (tmp_path / "form").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", FORMS)
def test_how_wide_latents_are_follows_from_the_schema(name: forms.FormName, tmp_path: Path) -> None:
    wide = 2 * len(COLUMNS) if name == "paper" else width_of(COLUMNS)
    assert fitted(name, tmp_path).width == wide


@pytest.mark.parametrize("name", FORMS)
def test_a_silo_of_quantities_alone_has_every_form(name: forms.FormName, tmp_path: Path) -> None:
    columns = {"cost": Number(type="number", min=-10, max=10)}
    table = pd.DataFrame({"cost": np.random.default_rng(1).standard_normal(400)})
    context = Context(run="r", spec={}, me="a", coordinator="hub", silos=("a", "b"), workspace=tmp_path)
    form = forms.fit(name, table, columns, context, silent)
    back = form.codec.decode(form.codes(form.encode(table, 0), 0))
    assert np.corrcoef(back["cost"], table["cost"])[0, 1] > 0.9
    if name == "layout":
        forms.write_layout(form, tmp_path / "layout")
        assert forms.read_layout(tmp_path / "layout", columns) == []


def test_a_known_layout_is_trained_shorter_unless_a_run_says_otherwise() -> None:
    assert SiloFuseParameters(form="layout").diffusion.steps < SiloFuseParameters().diffusion.steps
    assert SiloFuseParameters(form="layout", steps=7000).diffusion.steps == 7000


def test_only_a_layout_tells_which_dimension_is_which(tmp_path: Path) -> None:
    table = a_table()
    for name, told in (("layout", True), ("opaque", False)):
        form = fitted(name, tmp_path)
        age = np.corrcoef(form.encode(table, 0)[:, 0], table["age"])[0, 1]
        assert (age > 0.9) == told


def test_a_layout_travels_with_its_codewords(tmp_path: Path) -> None:
    form = fitted("layout", tmp_path)
    forms.write_layout(form, tmp_path / "layout")
    books = forms.read_layout(tmp_path / "layout", COLUMNS)
    latents, table = form.encode(a_table(), 0), a_table()
    book = next(book for book in books if book.first == blocks(COLUMNS)["ward"].first)
    own = latents[:, book.first : book.first + book.words.shape[1]]
    nearest = ((own[:, None] - book.words) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, table["ward"].cat.codes)


@pytest.mark.parametrize("fault", ["a book missing", "another shape", "a book too many", "not finite"])
def test_a_layout_that_the_schema_does_not_call_for_is_refused(fault: str, tmp_path: Path) -> None:
    form = fitted("layout", tmp_path)
    assert isinstance(form, Autoencoder)
    books = {str(book.first): book.words for book in form.books()}
    first = next(iter(books))
    if fault == "a book missing":
        del books[first]
    elif fault == "another shape":
        books[first] = np.zeros((3, 3), np.float32)
    elif fault == "a book too many":
        books["77"] = books[first]
    else:
        books[first] = np.full_like(books[first], np.inf)
    save_file(books, tmp_path / "layout")
    with pytest.raises(InvalidArtifact):
        forms.read_layout(tmp_path / "layout", COLUMNS)


def test_a_learned_decoder_samples_what_it_is_unsure_of(tmp_path: Path) -> None:
    form = fitted("paper", tmp_path)
    assert isinstance(form, LearnedAutoencoder)
    latents = np.zeros((500, form.width), np.float32)  # all rows alike: what differs was drawn
    drawn = form.codec.decode(form.codes(latents, 0))
    assert drawn["age"].std() > 0
    assert not drawn.equals(form.codec.decode(form.codes(latents, 1)))
