"""A silo's rows to latents and back, by blocks: neither a table nor its codes need fit in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from protocols.learning.codec import Codec
from protocols.learning.codes import Floats
from protocols.learning.rows import Rows, blocks, spans
from protocols.learning.schema import Columns
from protocols.learning.stored import Stored, storing
from protocols.learning.tensors import writing_rows
from services.contract import ProgressCallback


class Part(Protocol):
    """How one column's codes are read."""

    def decode(self, codes: Floats, /) -> pd.Series:
        """Values [n] of codes [n, width]."""


class Reading(Protocol):
    """How a table's codes are read."""

    @property
    def columns(self) -> Columns:
        """The public schema."""

    @property
    def parts(self) -> Mapping[str, Part]:
        """Each column's."""

    def places(self) -> dict[str, slice]:
        """Which dimensions of a row's codes are a column's."""


class Decoder(Protocol):
    """A way from latents to a silo's columns."""

    @property
    def codec(self) -> Reading:
        """From codes to columns."""

    def codes(self, latents: NDArray[np.float32], number: int, /) -> Floats:
        """The codes [n, width] that a block of latents [n, width] stands for, always the same."""


class Form(Decoder, Protocol):
    """A fitted way between a silo's columns and its latents."""

    @property
    def codec(self) -> Codec:
        """Between columns and codes."""

    @property
    def width(self) -> int:
        """Dimensions of a latent."""

    def encode(self, block: pd.DataFrame, number: int, /) -> NDArray[np.float32]:
        """Latents [n, width] of a block of rows: always the same for the same rows and the same block's number."""

    def save(self, path: Path) -> None:
        """Write all of it to one file, whole or not at all."""


def encode(form: Form, table: Rows, path: Path, progress: ProgressCallback) -> None:
    """Write the latents of a table to a file of tensors.

    Raises:
        DataError: as `Codec.encode`.
    """
    with writing_rows(path, "latents", len(table), form.width) as write:
        for number, block in enumerate(blocks(table)):
            progress("encode", number, len(spans(len(table))), None)
            write(form.encode(block, number))


def decode(form: Decoder, latents: NDArray[np.float32], folder: Path, progress: ProgressCallback) -> Stored:
    """Store the table that sampled latents [n, width] stand for, in a folder of its own.

    A quantity is read off at its rank among all rows, so the codes lie in a file from which each column is taken whole.
    """
    rows, codec = len(latents), form.codec
    steps = len(spans(rows)) + len(codec.parts)
    with tempfile.TemporaryFile(dir=folder.parent) as file, storing(folder, codec.columns) as stored:
        for number, span in enumerate(spans(rows)):
            progress("decode", number, steps, None)
            for dimension, values in enumerate(form.codes(latents[span], number).T):
                os.pwrite(file.fileno(), values.tobytes(), 8 * (dimension * rows + span.start))
        for number, (name, where) in enumerate(codec.places().items()):
            progress("decode", len(spans(rows)) + number, steps, None)
            file.seek(8 * where.start * rows)
            codes = np.fromfile(file, count=(where.stop - where.start) * rows).reshape(-1, rows).T
            stored.extend(name, codec.parts[name].decode(codes))
    return Stored.open(folder, codec.columns)
