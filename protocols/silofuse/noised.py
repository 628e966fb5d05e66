"""A silo's way between its columns and latents that carry a claim: a public encoder, a norm, and noise.

The encoder is drawn from the public schema and fresh secrets alone. It never sees the table, so that a row's latent is
a function of that row and of nothing else that is private: quantities on the public scale between their bounds,
codewords for labels, flags for what is missing, each of norm 1 at most; turned by a rotation, cut to a public norm,
and covered by noise of the operating system's entropy. That is all that leaves (`released`); what is claimed of it
stands in `claim`.

The rotation and the codewords are secret as in the opaque form; the claim does not rest on them.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load, save

from protocols.learning.codes import Floats, book_width, random_rotation, side_by_side, spread
from protocols.learning.noise import Noise
from protocols.learning.rows import Rows, blocks, spans
from protocols.learning.scale import Choice, Scale, clipped
from protocols.learning.schema import Category, Columns, Text
from protocols.learning.tensors import writing_rows
from protocols.silofuse.claim import deviation, norm_of
from services.contract import ProgressCallback
from services.files import write_atomic
from services.mechanism import Gaussian, Mechanism


@dataclass(frozen=True)
class Encoder:
    """A map from rows to latents that knows the schema and its own secrets, and nothing of any table.

    Attributes:
        columns: this silo's part of the public schema.
        skewed: its quantities on a logarithmic scale.
        words: each category's codewords [labels, width], of norm 1.
        rotation: a uniformly random orthogonal matrix [width, width].
    """

    columns: Columns
    skewed: frozenset[str]
    words: Mapping[str, Floats]
    rotation: Floats

    @classmethod
    def draw(cls, columns: Columns, skewed: tuple[str, ...] = ()) -> Encoder:
        """A new encoder of the operating system's entropy.

        Args:
            columns: this silo's part of the public schema.
            skewed: quantities on a logarithmic scale; other silos' too.
        """
        rng = np.random.default_rng(secrets.randbits(256))
        sizes = {name: Choice(name, one).size for name, one in columns.items() if isinstance(one, Category)}
        words = {name: _unit(spread(size, rng)) for name, size in sizes.items()}
        width = max(place.stop for place in _places(columns).values())
        return cls(columns, frozenset(skewed), words, random_rotation(width, rng))

    @property
    def width(self) -> int:
        """Dimensions of a latent: a function of the public schema."""
        return len(self.rotation)

    def scale(self, name: str) -> Scale:
        """A quantity's public scale."""
        column = self.columns[name]
        assert not isinstance(column, Category | Text)  # noqa: S101 - of categories nobody asks it
        return Scale(name, column, name in self.skewed)

    def encode(self, table: pd.DataFrame) -> Floats:
        """Latents [n, width] without noise of a table in canonical types; each from its row alone.

        Raises:
            DataError: a value is missing where the schema does not allow it.
        """
        codes = np.concatenate([self._column(table, name) for name in self.columns], axis=1)
        # no code is longer: the claim holds whatever the secrets were read as
        return clipped(codes @ self.rotation, norm_of(self.columns))

    def _column(self, table: pd.DataFrame, name: str) -> Floats:
        column = self.columns[name]
        if isinstance(column, Category):
            return np.asarray(self.words[name][Choice(name, column).places(table)])
        units, missing = self.scale(name).units(table)
        values = 2 * units - 1
        return np.column_stack([values, np.where(missing, 1.0, -1.0)]) if column.missing else values[:, None]

    def places(self) -> dict[str, slice]:
        """Which dimensions of a row's codes are a column's."""
        return _places(self.columns)

    def codes(self, latents: NDArray[np.float32]) -> Floats:
        """The codes [n, width] that latents [n, width] stand for, noise and all."""
        return np.asarray(latents.astype(np.float64) @ self.rotation.T)

    def save(self, path: Path) -> None:
        """Write the secrets to one file, whole or not at all."""
        words = {f"words.{name}": words for name, words in self.words.items()}
        write_atomic(path, save({"rotation": self.rotation, **words}))

    @classmethod
    def load(cls, path: Path, columns: Columns, skewed: tuple[str, ...] = ()) -> Encoder:
        """Read what `save` wrote for the same columns."""
        tensors = load(path.read_bytes())
        words = {name: tensors[f"words.{name}"] for name, one in columns.items() if isinstance(one, Category)}
        return cls(columns, frozenset(skewed), words, tensors["rotation"])


def released(
    encoder: Encoder, table: pd.DataFrame, mechanism: Mechanism, noise: Noise | None = None
) -> tuple[NDArray[np.float32], Mechanism]:
    """All that leaves of some rows: their latents [n, width] under noise, and what was executed for their privacy.

    Args:
        encoder: drawn for this run, without a look at the table.
        table: in canonical types, a row for each person.
        mechanism: what was agreed on.
        noise: the stream to draw from; by default a new one, which nobody can predict or repeat.

    Raises:
        DataError: as `Encoder.encode`.
    """
    latents = encoder.encode(table)
    scale = deviation(mechanism, encoder.columns)
    noised = latents + (noise or Noise()).normal(latents.shape, scale)
    executed = Gaussian(noise_multiplier=round(scale / (2 * norm_of(encoder.columns)), 6))
    return noised.astype(np.float32), mechanism.model_copy(update={"event": executed})


def upload(encoder: Encoder, table: Rows, mechanism: Mechanism, path: Path, progress: ProgressCallback) -> Mechanism:
    """Write what leaves of a whole table [n >= 1] to a file of tensors, block by block; returns what was executed.

    Raises:
        DataError: as `Encoder.encode`.
    """
    noise, executed = Noise(), mechanism
    with writing_rows(path, "latents", len(table), encoder.width) as write:
        for number, block in enumerate(blocks(table)):
            progress("noise", number, len(spans(len(table))), None)
            latents, executed = released(encoder, block, mechanism, noise)
            write(latents)
    return executed


def _places(columns: Columns) -> dict[str, slice]:
    return side_by_side(
        {
            name: book_width(Choice(name, one).size) if isinstance(one, Category) else 1 + one.missing
            for name, one in columns.items()
        }
    )


def _unit(words: Floats) -> Floats:
    return np.asarray(words / np.linalg.norm(words, axis=1, keepdims=True))
