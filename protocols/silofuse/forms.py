"""The three forms that a silo's latents can have, and one way to each of them."""

from __future__ import annotations

from pathlib import Path

from protocols.learning.layout import Block, Book
from protocols.learning.layout import blocks as layout
from protocols.learning.rows import Rows
from protocols.learning.schema import Columns
from protocols.learning.tensors import TensorSpec, read_tensors, write_tensors
from protocols.silofuse.autoencoder import Autoencoder
from protocols.silofuse.parameters import FormName
from protocols.silofuse.streams import Form
from services.contract import Context, ProgressCallback


def fit(name: FormName, table: Rows, columns: Columns, context: Context, progress: ProgressCallback) -> Form:
    """Fit a form to a silo's training rows, with fresh secrets.

    Raises:
        DataError: as `Codec.fit`.
    """
    if name != "paper":
        return Autoencoder.fit(table, columns, rotated=name == "opaque")
    from protocols.silofuse.learned import LearnedAutoencoder  # noqa: PLC0415 - torch, which other silos do without

    return LearnedAutoencoder.fit(
        table, columns, context.workspace, progress, silos=len(context.silos), device=context.device
    )


def load(name: FormName, path: Path, columns: Columns) -> Form:
    """Read what a form's `save` wrote for the same `columns`."""
    if name != "paper":
        return Autoencoder.load(path, columns)
    from protocols.silofuse.learned import LearnedAutoencoder  # noqa: PLC0415

    return LearnedAutoencoder.load(path, columns)


def write_layout(form: Form, path: Path) -> None:
    """Write what the coordinator needs to read unrotated codes: the codewords, by their block's first dimension."""
    assert isinstance(form, Autoencoder)  # noqa: S101 - the only one whose latents have a layout
    write_tensors(path, {str(book.first): book.words for book in form.books()})


def read_layout(path: Path, columns: Columns) -> list[Book]:
    """Read a silo's codewords.

    Args:
        path: what the silo sent.
        columns: the silo's part of the public schema.

    Raises:
        InvalidArtifact: they are not the codewords that the schema calls for.
    """
    wanted = {str(block.first): block for block in layout(columns).values()}
    found = read_tensors(path, {name: _spec(block) for name, block in wanted.items()})
    return [Book(wanted[name].first, words) for name, words in found.items()]


def _spec(block: Block) -> TensorSpec:
    return TensorSpec("float32", (block.labels, block.width))
