"""The paper's form: for each class a β-variational autoencoder by DP-Adam, of which only the decoder leaves.

A row is a vector in [0, 1]: quantities at their public place, a missing one in the middle with an indicator beside
it, and an indicator for each label of a category. Encoder and decoder have one hidden dense layer with LeakyReLU. The
decoder's outputs are logits: of a category's labels, of missingness, and of a quantity's place, whose likelihood is a
Bernoulli's of that mean (continuous Bernoulli without its normaliser, as VAEs on grey images have it).

A class is trained on its own rows, with public steps, rate and divisor (`records` shared evenly by the classes): how
many rows it has is not read off, and a class without rows trains on noise. The classes are disjoint parts of the
people, so the mechanism is one training's, partitioned by the label.

*Sensitivity.* Each step's sum of gradients is clipped per record, as `protocols.learning.dpsgd` proves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional

from protocols.learning.codes import Floats
from protocols.learning.dpsgd import Plan, train
from protocols.learning.noise import Noise
from protocols.learning.schema import Columns
from protocols.learning.tensors import TensorSpec
from protocols.sgde.families.contract import Tensors
from protocols.sgde.families.scale import Layout, layout
from protocols.sgde.parameters import SgdeParameters
from services.contract import ProgressCallback
from services.mechanism import Event, Mechanism

CLIP = 1.0
_SLOPE = 0.01


class _Autoencoder(nn.Module):
    def __init__(self, width: int, parameters: SgdeParameters) -> None:
        super().__init__()
        hidden, latent = parameters.vae.width, parameters.vae.latent
        self.encode = nn.Sequential(nn.Linear(width, hidden), nn.LeakyReLU(_SLOPE), nn.Linear(hidden, 2 * latent))
        self.decode = nn.Sequential(nn.Linear(latent, hidden), nn.LeakyReLU(_SLOPE), nn.Linear(hidden, width))
        self.beta = parameters.vae.beta

    def forward(self, rows: Tensor, parts: Sequence[slice], numeric: int) -> Tensor:
        """The negative evidence bound [n], the divergence weighted by β (Higgins et al., ICLR 2017)."""
        mean, spread = self.encode(rows).chunk(2, dim=1)
        spread = spread.clamp(-8, 8)
        logits = self.decode(mean + torch.exp(spread / 2) * torch.randn_like(mean))
        loss = functional.binary_cross_entropy_with_logits(
            logits[:, :numeric], rows[:, :numeric], reduction="none"
        ).sum(1)
        for part in parts:
            loss = loss - (rows[:, part] * functional.log_softmax(logits[:, part], dim=1)).sum(1)
        bound: Tensor = loss + self.beta * 0.5 * (mean**2 + spread.exp() - 1 - spread).sum(1)
        return bound


class Vae:
    """The family; see the module."""

    def mechanism(self, columns: Columns, parameters: SgdeParameters) -> Mechanism:
        """One private training on each class."""
        return Mechanism(event=_plan(layout(columns, parameters), parameters).event, partition=parameters.label)

    def fit(
        self,
        table: pd.DataFrame,
        columns: Columns,
        parameters: SgdeParameters,
        noise: Noise,
        progress: ProgressCallback,
    ) -> tuple[Tensors, Event]:
        """A training for each class."""
        parts = layout(columns, parameters)
        plan, numeric, blocks = _plan(parts, parameters), _numeric(parts), _blocks(parts)
        rows, label = torch.from_numpy(_encode(table, parts)), parts.label.places(table)
        tensors: dict[str, Floats] = {}
        event = plan.event
        for place in range(parts.classes):
            model = _Autoencoder(rows.shape[1], parameters)
            mine = rows[torch.from_numpy(label == place)]
            event = train(model, lambda net, batch: net(batch, blocks, numeric), mine, plan, noise, progress)
            for name, tensor in model.decode.state_dict().items():
                tensors[f"{place}.{name}"] = tensor.numpy().astype(np.float32)
        return tensors, event

    def expected(self, columns: Columns, parameters: SgdeParameters) -> dict[str, TensorSpec]:
        """The decoders' two dense layers, by the class's place."""
        parts, hidden, latent = layout(columns, parameters), parameters.vae.width, parameters.vae.latent
        width = _numeric(parts) + sum(choice.size for choice in parts.choices)
        shapes = {"0.weight": (hidden, latent), "0.bias": (hidden,), "2.weight": (width, hidden), "2.bias": (width,)}
        return {f"{c}.{n}": TensorSpec("float32", shape) for c in range(parts.classes) for n, shape in shapes.items()}

    def check(self, columns: Columns, parameters: SgdeParameters, tensors: Tensors) -> None:
        """Any finite numbers will do."""

    def shares(
        self,
        columns: Columns,
        parameters: SgdeParameters,
        pool: Sequence[Tensors],  # noqa: ARG002 - other families' tensors tell
    ) -> Floats:
        """Even: decoders say nothing of how many rows a class has."""
        classes = layout(columns, parameters).classes
        return np.full(classes, 1 / classes)

    def sample(
        self,
        columns: Columns,
        parameters: SgdeParameters,
        pool: Sequence[Tensors],
        counts: Mapping[str, int],
        rng: np.random.Generator,
    ) -> pd.DataFrame:
        """Rows of every decoder in turn."""
        parts = layout(columns, parameters)
        chunks: list[Floats] = [np.empty((0, _numeric(parts) + sum(choice.size for choice in parts.choices)))]
        wanted = [counts.get(name, 0) for name in parts.label.column.categories]
        for place, count in enumerate(wanted):
            for share, tensors in zip(np.array_split(np.arange(count), len(pool)), pool, strict=True):
                chunks.append(_decode(tensors, place, len(share), parameters.vae.latent, rng))
        values = _values(np.concatenate(chunks), parts, rng)
        values[parts.label.name] = parts.label.values(np.repeat(np.arange(len(wanted)), wanted))
        return pd.DataFrame({name: values[name] for name in columns})


def _plan(parts: Layout, parameters: SgdeParameters) -> Plan:
    vae = parameters.vae
    return Plan.within(
        parameters.epsilon,
        parameters.delta,
        records=max(1, parameters.records // parts.classes),
        rate=vae.rate,
        steps=vae.steps,
        clip=CLIP,
        learning_rate=vae.learning_rate,
    )


def _numeric(parts: Layout) -> int:
    """Columns of a row's vector before those of categories."""
    return len(parts.scales) + sum(scale.column.missing for scale in parts.scales)


def _blocks(parts: Layout) -> list[slice]:
    """Where each category's indicators lie."""
    ends = np.cumsum([_numeric(parts), *(choice.size for choice in parts.choices)])
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


def _encode(table: pd.DataFrame, parts: Layout) -> Floats:
    pairs = [scale.units(table) for scale in parts.scales]
    units = [units for units, _ in pairs]
    missing = [gaps.astype(float) for scale, (_, gaps) in zip(parts.scales, pairs, strict=True) if scale.column.missing]
    chosen = [row for choice in parts.choices for row in np.eye(choice.size)[choice.places(table)].T]
    return np.column_stack([*units, *missing, *chosen]).astype(np.float32)


def _decode(tensors: Tensors, place: int, count: int, latent: int, rng: np.random.Generator) -> Floats:
    """Logits [count, width] of normal latents."""
    weights = [tensors[f"{place}.{name}"].astype(np.float64) for name in ("0.weight", "0.bias", "2.weight", "2.bias")]
    hidden = rng.standard_normal((count, latent)) @ weights[0].T + weights[1]
    return np.asarray(np.where(hidden > 0, hidden, _SLOPE * hidden) @ weights[2].T + weights[3])


def _values(logits: Floats, parts: Layout, rng: np.random.Generator) -> dict[str, pd.Series]:
    """Values of rows of logits: the mean place of a quantity, and draws of what is missing and of labels."""
    means = expit(logits)
    values: dict[str, pd.Series] = {}
    flag = len(parts.scales)
    for i, scale in enumerate(parts.scales):
        missing = np.zeros(len(logits), dtype=np.bool_)
        if scale.column.missing:
            missing, flag = rng.random(len(logits)) < means[:, flag], flag + 1
        values[scale.name] = scale.values(means[:, i], missing)
    for choice, block in zip(parts.choices, _blocks(parts), strict=True):
        # the largest logit with Gumbel noise is a draw from the softmax
        values[choice.name] = choice.values((logits[:, block] + rng.gumbel(size=logits[:, block].shape)).argmax(axis=1))
    return values


FAMILY = Vae()
