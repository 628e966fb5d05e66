"""A silo's way between its columns and latents that carry a claim: a public encoder, a norm, and noise.

The encoder is drawn from the public schema and fresh secrets alone. It never sees the table, so that a row's latent is
a function of that row and of nothing else that is private: quantities on the public scale between their bounds,
codewords for labels, flags for what is missing, turned by a rotation, cut to a public norm, and covered by noise of
the operating system's entropy. That is all that leaves (`released`); what is claimed of it stands in `claim`.

The rotation and the codewords are secret as in the opaque form; the claim does not rest on them.

Coming back, a silo reads the sampled latents with what it alone knows of its training rows (`Reader`): sampled
quantities are read off its own quantiles at their ranks, labels dealt out in its own shares. So columns keep their
distributions whatever the noise, and it is relations that noise costs. The decoded table is *not* differentially
private.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load, save
from scipy.special import ndtri
from scipy.stats import rankdata

from protocols.learning.codec import as_numbers, as_values, grid
from protocols.learning.codes import Floats, Labels, Scores, spread
from protocols.learning.noise import Noise
from protocols.learning.scale import Choice, Scale, clipped
from protocols.learning.schema import Category, Columns, Text
from protocols.silofuse.claim import deviation, norm_of
from services.files import write_atomic
from services.mechanism import Gaussian, Mechanism

REACH = 2.0
"""A quantity lies between plus and minus this. A label or a flag is a point at distance 1, and a row is cut to the
norm of that many points: values that crowd inside wide bounds, as most do, thus weigh about as much as a label."""


@dataclass(frozen=True)
class Encoder:
    """A map from rows to latents that knows the schema and its own secrets, and nothing of any table.

    Attributes:
        columns: this silo's part of the public schema.
        scales: its quantities on their public scales, in its order.
        choices: its categories, in its order.
        words: each category's codewords [labels, width], of norm 1, in the same order.
        rotation: a uniformly random orthogonal matrix [width, width].
    """

    columns: Columns
    scales: tuple[Scale, ...]
    choices: tuple[Choice, ...]
    words: tuple[Floats, ...]
    rotation: Floats

    @classmethod
    def draw(cls, columns: Columns, skewed: tuple[str, ...] = ()) -> Encoder:
        """A new encoder of the operating system's entropy.

        Args:
            columns: this silo's part of the public schema.
            skewed: quantities on a logarithmic scale.
        """
        rng = np.random.default_rng(secrets.randbits(256))
        scales, choices = _layout(columns, skewed)
        words = tuple(_unit(spread(choice.size, rng)) for choice in choices)
        width = _width(scales, words)
        # QR of a normal matrix with R's diagonal positive is uniform over rotations (Mezzadri 2007)
        q, r = np.linalg.qr(rng.standard_normal((width, width)))
        return cls(columns, scales, choices, words, q * np.sign(np.diag(r)))

    @property
    def width(self) -> int:
        """Dimensions of a latent: a function of the public schema."""
        return len(self.rotation)

    def encode(self, table: pd.DataFrame) -> Floats:
        """Latents [n, width] without noise of a table in canonical types; each from its row alone.

        Raises:
            DataError: a value is missing where the schema does not allow it.
        """
        pairs = [scale.units(table) for scale in self.scales]
        blocks = [np.empty((len(table), 0)), *(REACH * (2 * units - 1)[:, None] for units, _ in pairs)]
        blocks += [np.where(pairs[i][1], 1.0, -1.0)[:, None] for i in _flagged(self.scales)]
        blocks += [words[choice.places(table)] for choice, words in zip(self.choices, self.words, strict=True)]
        latents = np.concatenate(blocks, axis=1) @ self.rotation
        return clipped(latents, norm_of(self.columns))

    def parts(self, latents: NDArray[np.float32]) -> tuple[Floats, Floats, list[Floats]]:
        """Turned back: quantities [n, scales], flags [n, flags], and each category's codes [n, its width]."""
        codes = latents.astype(np.float64) @ self.rotation.T
        ends = np.cumsum([len(self.scales), len(_flagged(self.scales)), *(words.shape[1] for words in self.words)])
        quantities, flags, *labels = np.split(codes, ends[:-1], axis=1)
        return quantities, flags, labels

    def save(self, path: Path) -> None:
        """Write the secrets to one file, whole or not at all."""
        words = {f"words.{place}": words for place, words in enumerate(self.words)}
        write_atomic(path, save({"rotation": self.rotation, **words}))

    @classmethod
    def load(cls, path: Path, columns: Columns, skewed: tuple[str, ...] = ()) -> Encoder:
        """Read what `save` wrote for the same columns."""
        tensors, (scales, choices) = load(path.read_bytes()), _layout(columns, skewed)
        return cls(
            columns, scales, choices, tuple(tensors[f"words.{p}"] for p in range(len(choices))), tensors["rotation"]
        )


def released(
    encoder: Encoder, table: pd.DataFrame, mechanism: Mechanism, noise: Noise | None = None
) -> tuple[NDArray[np.float32], Mechanism]:
    """All that leaves: the latents [n, width] of private rows under noise, and what was executed for their privacy.

    Args:
        encoder: drawn for this run, before the table was looked at.
        table: in canonical types, a row for each person.
        mechanism: what was agreed on.
        noise: for tests only; by default a stream that nobody can predict or repeat.

    Raises:
        DataError: as `Encoder.encode`.
    """
    latents = encoder.encode(table)
    scale = deviation(mechanism, encoder.columns)
    noised = latents + (noise or Noise()).normal(latents.shape, scale)
    executed = Gaussian(noise_multiplier=round(scale / (2 * norm_of(encoder.columns)), 6))
    return noised.astype(np.float32), mechanism.model_copy(update={"event": executed})


@dataclass(frozen=True)
class Reader:
    """What a silo knows of its own training rows, to read sampled latents with: private, and never sent.

    Attributes:
        quantiles: of each quantity.
        missing: the share of each flagged quantity's values that is missing.
        shares: of each category's labels.
    """

    encoder: Encoder
    quantiles: tuple[Scores, ...]
    missing: tuple[float, ...]
    shares: tuple[Floats, ...]

    @classmethod
    def fit(cls, encoder: Encoder, table: pd.DataFrame) -> Reader:
        """Look at the training rows [n >= 1] in canonical types."""
        rng = np.random.default_rng(secrets.randbits(256))
        quantiles, missing = [], []
        for scale in encoder.scales:
            numbers, absent = as_numbers(table[scale.name], scale.column)
            quantiles.append(Scores.fit(numbers[~absent], *grid(scale.column), rng))
            missing.append(float(absent.mean()))
        shares = tuple(np.bincount(c.places(table), minlength=c.size) / len(table) for c in encoder.choices)
        return cls(encoder, tuple(quantiles), tuple(missing), shares)

    def decode(self, latents: NDArray[np.float32]) -> pd.DataFrame:
        """The table in canonical types that sampled latents [n, width] stand for; any finite numbers will do.

        Decode a sample as a whole: it is the ranks within it that are read off.
        """
        quantities, flags, labels = self.encoder.parts(latents)
        gaps = dict(zip(_flagged(self.encoder.scales), flags.T, strict=True))
        values: dict[str, pd.Series] = {}
        for i, scale in enumerate(self.encoder.scales):
            absent = np.zeros(len(latents), dtype=np.bool_)
            if i in gaps:
                share = self.missing[i]
                absent = dealt(np.column_stack([-gaps[i], gaps[i]]), np.array([1 - share, share])) == 1
            numbers = np.full(len(latents), np.nan)
            numbers[~absent] = self.quantiles[i].decode(_scores(quantities[~absent, i]))
            values[scale.name] = as_values(numbers, scale.column)
        for i, choice in enumerate(self.encoder.choices):
            values[choice.name] = choice.values(dealt(labels[i] @ self.encoder.words[i].T, self.shares[i]))
        return pd.DataFrame({name: values[name] for name in self.encoder.columns})


def dealt(nearness: Floats, shares: Floats) -> Labels:
    """Labels [n] in the given shares: each goes to the rows nearest to it that are left, the rarest label first."""
    most = np.diff(np.round(np.cumsum(shares) * len(nearness)).astype(int), prepend=0)
    *rare, last = np.argsort(most, kind="stable")
    out = np.full(len(nearness), last, dtype=np.int64)
    left = np.arange(len(nearness))
    for label in rare:
        ahead = nearness[left, label] - np.delete(nearness[left], label, axis=1).max(axis=1)
        order = np.argsort(-ahead, kind="stable")
        out[left[order[: most[label]]]] = label
        left = left[np.sort(order[most[label] :])]
    return out


def _scores(values: Floats) -> Floats:
    """The normal scores [n] of values' ranks: of noised quantities nothing but their order tells."""
    return np.asarray(ndtri((rankdata(values, method="ordinal") - 0.5) / len(values))) if len(values) else values


def _layout(columns: Columns, skewed: tuple[str, ...]) -> tuple[tuple[Scale, ...], tuple[Choice, ...]]:
    scales = [
        Scale(name, column, name in skewed)
        for name, column in columns.items()
        if not isinstance(column, Category | Text)
    ]
    return tuple(scales), tuple(Choice(name, c) for name, c in columns.items() if isinstance(c, Category))


def _flagged(scales: tuple[Scale, ...]) -> list[int]:
    """Places of the quantities that may be missing."""
    return [place for place, scale in enumerate(scales) if scale.column.missing]


def _width(scales: tuple[Scale, ...], words: tuple[Floats, ...]) -> int:
    return len(scales) + len(_flagged(scales)) + sum(part.shape[1] for part in words)


def _unit(words: Floats) -> Floats:
    return np.asarray(words / np.linalg.norm(words, axis=1, keepdims=True))
