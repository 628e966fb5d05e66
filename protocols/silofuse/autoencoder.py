"""A silo's private way between its columns and the latents it uploads: the opaque form.

A row's codes (`protocols.learning.codec`) are turned by a rotation that only this silo knows, as only it knows the
codebooks. Both are drawn from the operating system's entropy when the autoencoder is fitted, never from a seed that
anybody shares, and kept with it: encoding again, after a restart too, gives the same latents again.

This hides what a latent's dimensions mean; it is not anonymity. Who holds some rows beside their latents can learn
to invert the rest, and every run's report says how well.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load, save

from protocols.learning.codec import Codec
from protocols.learning.codes import Floats, random_rotation
from protocols.learning.layout import Book
from protocols.learning.layout import blocks as layout
from protocols.learning.rows import Rows, blocks
from protocols.learning.schema import Columns
from services.files import write_atomic


@dataclass(frozen=True)
class Autoencoder:
    """A fitted codec, and the secrets that hide its layout.

    Attributes:
        center: mean codes [width] of the fitted rows.
        rotation: a uniformly random orthogonal matrix [width, width].
        seed: draws the places of values within their grid cells, the same at every encoding.
    """

    codec: Codec
    center: Floats
    rotation: Floats
    seed: NDArray[np.uint64]

    @classmethod
    def fit(cls, table: Rows, columns: Columns, *, rotated: bool = True) -> Autoencoder:
        """Fit to training rows, with fresh secrets.

        Args:
            table: the training rows [n >= 1].
            columns: this silo's part of the public schema.
            rotated: whether to hide the codes' layout; without it latents are codes.

        Raises:
            DataError: as `Codec.fit`.
        """
        rng = np.random.default_rng(secrets.randbits(256))
        codec = Codec.fit(table, columns, rng)
        rotation = random_rotation(codec.width, rng)
        seed = rng.integers(2**64, size=4, dtype=np.uint64)
        start = cls(codec, np.zeros(codec.width), rotation if rotated else np.eye(codec.width), seed)
        sums = (codec.encode(block, start.draw(number)).sum(axis=0) for number, block in enumerate(blocks(table)))
        return replace(start, center=sum(sums, np.zeros(codec.width)) / len(table))

    @property
    def width(self) -> int:
        """Dimensions of a latent: a function of the public schema."""
        return self.codec.width

    def encode(self, block: pd.DataFrame, number: int = 0) -> NDArray[np.float32]:
        """Latents [n, width] of some rows: always the same for the same rows and the same block's number.

        Raises:
            DataError: as `Codec.encode`.
        """
        codes = self.codec.encode(block, self.draw(number))
        return ((codes - self.center) @ self.rotation).astype(np.float32)

    def books(self) -> list[Book]:
        """The codewords among the latents: only where these are not rotated."""
        words = self.codec.words()
        return [
            Book(block.first, (words[name] - self.center[block.first : block.first + block.width]).astype(np.float32))
            for name, block in layout(self.codec.columns).items()
        ]

    def codes(self, latents: NDArray[np.float32], _: int = 0) -> Floats:
        """The codec's codes [n, width] of a block of latents [n, width], row by row."""
        return np.asarray(latents @ self.rotation.T + self.center)

    def decode(self, latents: NDArray[np.float32]) -> pd.DataFrame:
        """The table in canonical types that latents [n, width] stand for; any finite numbers will do."""
        return self.codec.decode(self.codes(latents))

    def draw(self, number: int) -> np.random.Generator:
        """Random numbers for a block of rows: the same whenever it comes by, secret to everybody else."""
        return np.random.default_rng([*self.seed.tolist(), number])

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All that was fitted or drawn."""
        return {"center": self.center, "rotation": self.rotation, "seed": self.seed, **self.codec.tensors()}

    @classmethod
    def restore(cls, columns: Columns, tensors: Mapping[str, NDArray[Any]]) -> Autoencoder:
        """The autoencoder for `columns` whose `tensors` these are."""
        return cls(Codec.restore(columns, tensors), tensors["center"], tensors["rotation"], tensors["seed"])

    def save(self, path: Path) -> None:
        """Write all of it to one file, whole or not at all: a secret is never drawn twice for one run."""
        write_atomic(path, save(self.tensors()))

    @classmethod
    def load(cls, path: Path, columns: Columns) -> Autoencoder:
        """Read what `save` wrote for the same `columns`."""
        return cls.restore(columns, load(path.read_bytes()))
