"""The logistic family's public form: what its budget buys, its sums' weights and noise, and what follows from them.

Everything here is computed from the schema, the run's parameters and released sums; `logistic` says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from protocols.learning.codes import Floats
from protocols.learning.scale import clipped
from protocols.learning.schema import Columns
from protocols.sgde.families.blocks import Blocks, square
from protocols.sgde.families.contract import Tensors, affordable
from protocols.sgde.parameters import SgdeParameters
from services.mechanism import Composed, Event, Gaussian, Repeated

BUDGET = (0.07, 0.2, 0.73)
"""Of the squared sensitivity that a budget buys, what each part gets."""

SHARES = {"count": 0.15, "sums": 0.8, "columns": 0.05}
"""Of the first part's squared sensitivity; categories get as much as columns are categories."""

OFFSETS = 0.3
"""Of the second part's squared sensitivity; the products get the rest."""

NEAR = 0.2
"""Blocks about their centre are clipped at this part of the greatest norm they could have."""

STEPS, CLIP, RATE = 16, 0.7, 8.0
_TRUST, _LEAST, _WIDE = 0.3, 1e-3, 0.1
"""An axis's variance is told from noise from this part of the noise's greatest on; but within these two."""


def _event(scale: float) -> Event:
    first, second, third = (scale / math.sqrt(share) for share in BUDGET)
    steps = Repeated(count=STEPS, of=Gaussian(noise_multiplier=third * math.sqrt(STEPS)))
    return Composed(of=(Gaussian(noise_multiplier=first), Gaussian(noise_multiplier=second), steps))


@dataclass(frozen=True)
class Shape:
    """Sizes and noise, all public."""

    blocks: Blocks
    event: Event
    multipliers: tuple[float, float, float]
    records: int

    @classmethod
    def of(cls, columns: Columns, parameters: SgdeParameters) -> Shape:
        """Of a checked schema.

        Raises:
            ConfigError: no noise is enough for what is asked.
        """
        event = affordable(_event, parameters)
        assert isinstance(event, Composed)  # noqa: S101 - what _event makes
        parts = [part.of if isinstance(part, Repeated) else part for part in event.of]
        first, second, third = (part.noise_multiplier for part in parts if isinstance(part, Gaussian))
        return cls(Blocks.of(columns, parameters), event, (first, second, third), parameters.records)

    @property
    def centred(self) -> bool:
        """Whether blocks are seen about a centre: where its noise is less than what they are clipped to."""
        m = len(self.blocks.places)
        n = self.records * math.sqrt(SHARES["sums"])
        return bool(m) and self.multipliers[0] * self.blocks.radius * math.sqrt(m) / n < NEAR * math.sqrt(m)

    @property
    def near(self) -> float:
        """The norm that a record's blocks are clipped to, about the centre."""
        return NEAR * math.sqrt(len(self.blocks.places)) if self.centred else self.blocks.radius

    def weights(self) -> dict[str, float]:
        """What each part of a record's vector is multiplied by, in the first part and in the second."""
        d, k, m = len(self.blocks.layout.scales), len(self.blocks.sizes), len(self.blocks.places)
        parts = {"count": (SHARES["count"], 1.0)}
        if self.centred:
            parts["sums"] = (SHARES["sums"] * d / (d + k), self.blocks.radius)
        if m < d:
            parts["columns"] = (SHARES["columns"] * d / (d + k), math.sqrt(d))
        if k:
            parts["categories"] = (k / (d + k), math.sqrt(k))
        total = sum(share for share, _ in parts.values())
        parts = {name: (share / total, norm) for name, (share, norm) in parts.items()}
        if m:
            parts |= {"offsets": (OFFSETS, self.near), "squares": (1 - OFFSETS, self.near**2)}
        return {name: math.sqrt(share) / norm for name, (share, norm) in parts.items()}

    def noise(self) -> dict[str, float]:
        """The deviation of each sum, weights taken off."""
        second = ("offsets", "squares")
        return {name: self.multipliers[name in second] / weight for name, weight in self.weights().items()}


def weightless(tensors: Tensors, shape: Shape) -> dict[str, Floats]:
    """A generator's noisy sums, weights taken off."""
    weights = shape.weights()
    return {name: tensors[name].astype(np.float64) / weights[name] for name in weights if name in tensors}


def centre(sums: Mapping[str, Floats], shape: Shape) -> Floats:
    """A generator's centre [m]."""
    if not shape.centred:
        return np.zeros(len(shape.blocks.places))
    mean = sums["sums"] / people(sums, shape.noise())
    return clipped(mean[None], shape.blocks.radius).ravel()


def people(sums: Mapping[str, Floats], noise: Mapping[str, float]) -> float:
    """How many records, not below the noise: what lies there divides nothing."""
    return max(float(sums["count"].sum()), 1 + noise["count"])


def feature_map(tensors: Tensors, shape: Shape) -> Floats:
    """What makes features of (1, blocks, categories) [k, k]: whitened blocks, and categories about their mean."""
    sums, noise, m = weightless(tensors, shape), shape.noise(), len(shape.blocks.places)
    n = people(sums, noise)
    change = np.eye(1 + m + sum(shape.blocks.sizes))
    if m:
        offset = sums["offsets"].sum(axis=0) / n
        # the largest eigenvalue of a symmetric matrix of noise whose off-diagonal has half the variance
        largest = math.sqrt(2 * m) * noise["squares"] / n
        floor = min(max(_TRUST * largest, _LEAST), _WIDE)
        size, axes = np.linalg.eigh(square(sums["squares"] / n, m) - np.outer(offset, offset))
        whiten = (axes / np.sqrt(np.maximum(size, floor))) @ axes.T
        change[1 : 1 + m, 1 : 1 + m] = whiten
        change[0, 1 : 1 + m] = -centre(sums, shape) @ whiten
    if shape.blocks.sizes:
        change[0, 1 + m :] = -np.clip(sums["categories"].sum(axis=0) / n, 0, 1)
    return change
