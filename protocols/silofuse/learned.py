"""A silo's private way between its columns and the latents it uploads: the paper's learned autoencoder.

As SiloFuse describes it (arXiv 2404.03299, section IV): an encoder and a decoder with two hidden GELU layers each,
Gaussian heads for quantities and softmax heads for categories, of which a decoded row is a sample. The codes of
`protocols.learning.codec` stand in for the paper's embeddings and quantile-normalised numbers.

Weights come from the operating system's entropy and never leave the silo. That hides nothing from somebody who holds
a few rows beside their latents; every run's report says how much such latents give away.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import gaussian_nll_loss

from protocols.learning.codebook import Codebook
from protocols.learning.codec import Codec
from protocols.learning.codes import Floats
from protocols.learning.diffusion import chosen, half_precision, linear, under
from protocols.learning.rows import Rows
from protocols.learning.schema import Columns
from protocols.learning.tensors import map_rows
from protocols.silofuse.autoencoder import Autoencoder
from protocols.silofuse.streams import encode
from services.contract import ProgressCallback
from services.errors import RunFailed
from services.files import write_atomic

LATENTS_PER_COLUMN = 2
HIDDEN = 1024
"""Units of a hidden layer, shared out over the silos (the paper, section V)."""
STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 2000, 512, 2e-3, 0.01
NOISE = 0.05
"""Noise on the latents while training, of their spread: what decodes alike lies together."""
REPORT_STEPS = 50
_CODES = "autoencoder-codes"


@dataclass(frozen=True)
class LearnedAutoencoder:
    """A trained network between unrotated codes and latents.

    Attributes:
        inner: between columns and codes.
        network: between codes and latents.
    """

    inner: Autoencoder
    network: _Network

    @classmethod
    def fit(
        cls,
        table: Rows,
        columns: Columns,
        folder: Path,
        progress: ProgressCallback,
        *,
        silos: int,
        device: str = "auto",
    ) -> LearnedAutoencoder:
        """Train on a silo's training rows.

        Args:
            table: the training rows [n >= 1].
            columns: this silo's part of the public schema.
            folder: private, for the codes while training goes by them.
            progress: called every few steps; what it raises ends the training.
            silos: how many share out the hidden units.
            device: "auto" (CUDA where there is one), "cpu" or "cuda".

        Raises:
            DataError: as `Codec.fit`.
        """
        inner = Autoencoder.fit(table, columns, rotated=False)
        path = folder / _CODES
        try:
            encode(inner, table, path, lambda *_: None)
            network = _Network(inner, max(32, HIDDEN // silos), torch.Generator().manual_seed(secrets.randbits(63)))
            _train(network.to(chosen(device)), map_rows(path), progress)
        finally:
            path.unlink(missing_ok=True)
        return cls(inner, network.cpu().eval())

    @property
    def codec(self) -> Codec:
        """Between columns and codes."""
        return self.inner.codec

    @property
    def width(self) -> int:
        """Dimensions of a latent: a function of the public schema."""
        return self.network.width

    @torch.inference_mode()
    def encode(self, block: pd.DataFrame, number: int = 0) -> NDArray[np.float32]:
        """Latents [n, width] of some rows: always the same for the same rows and the same block's number.

        Raises:
            DataError: as `Codec.encode`.
        """
        latents: NDArray[np.float32] = self.network.encode(torch.from_numpy(self.inner.encode(block, number))).numpy()
        return latents

    @torch.inference_mode()
    def codes(self, latents: NDArray[np.float32], number: int = 0) -> Floats:
        """A sample of the codes [n, codec.width] that a block of latents [n, width] may stand for, always the same."""
        generator = torch.Generator().manual_seed(int(self.inner.draw(number).integers(2**63)))
        return self.inner.codes(self.network.sample(torch.tensor(latents), generator).numpy(), number)

    def save(self, path: Path) -> None:
        """Write all of it to one file, whole or not at all."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        inner = {f"inner.{name}": torch.from_numpy(value) for name, value in self.inner.tensors().items()}
        write_atomic(path, save({**tensors, **inner}))

    @classmethod
    def load(cls, path: Path, columns: Columns) -> LearnedAutoencoder:
        """Read what `save` wrote for the same `columns`."""
        tensors = load_file(path)
        inner = Autoencoder.restore(columns, {n: t.numpy() for n, t in under("inner.", tensors).items()})
        weights = under("network.", tensors)
        network = _Network(inner, len(weights["encoder.0.bias"]), torch.Generator())
        network.load_state_dict(weights)
        return cls(inner, network.eval())


class _Network(nn.Module):
    """Encoder and decoder between codes [n, codes] and latents [n, width]."""

    def __init__(self, codes: Autoencoder, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.width = LATENTS_PER_COLUMN * len(codes.codec.columns)
        self.books = Codebook.of(codes.books(), torch.zeros(codes.width), torch.ones(codes.width))
        self.encoder = _layers((codes.width, hidden, hidden, self.width), generator)
        heads = 2 * codes.width + self.books.labels  # a mean and a logarithm of the spread, or labels' logits
        self.decoder = _layers((self.width, hidden, hidden, heads), generator)
        self.normal = nn.BatchNorm1d(self.width, affine=False)

    def encode(self, codes: Tensor) -> Tensor:
        """Latents of unit variance."""
        latents: Tensor = self.normal(self.encoder(codes))
        return latents

    def heads(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The means and variances of codes [n, codes], and the labels' logits [n, labels]."""
        out = self.decoder(latents).float()
        means, spreads, logits = out.tensor_split((len(self.books.named), 2 * len(self.books.named)), dim=1)
        return means, spreads.clamp(-7, 2).exp().square(), logits

    def sample(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        """Codes [n, codes] drawn from the heads."""
        means, variances, logits = self.heads(latents)
        drawn = means + variances.sqrt() * torch.randn(means.shape, generator=generator)
        return torch.where(self.books.named, self.books.drawn(logits, generator), drawn)

    def loss(self, codes: Tensor, noise: Tensor) -> Tensor:
        """The negative log-likelihood of codes [n, codes] behind their latents with noise [n, width]."""
        means, variances, logits = self.heads(self.encode(codes) + noise)
        numbers = self.books.numbers_of(gaussian_nll_loss(means, codes, variances, reduction="none")).sum(dim=1)
        total: Tensor = (numbers + self.books.entropy(logits, codes)).mean()
        return total


def _layers(widths: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [linear(inputs, outputs, generator), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def _train(network: _Network, codes: NDArray[np.float32], progress: ProgressCallback) -> None:
    device = network.books.words.device
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    # fresh entropy, of this training alone
    generator = torch.Generator(device).manual_seed(secrets.randbits(63))
    for step in range(STEPS):
        rows = torch.randint(len(codes), (BATCH,), generator=generator, device=device)
        noise = NOISE * torch.randn((BATCH, network.width), generator=generator, device=device)
        with half_precision(device):
            loss = network.loss(torch.from_numpy(codes[rows.cpu().numpy()]).to(device), noise)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        plan.step()
        if (step + 1) % REPORT_STEPS == 0:
            if not math.isfinite(value := loss.item()):
                raise RunFailed("the autoencoder's loss is no longer finite", fix="check the table for odd values")
            progress("autoencoder", step + 1, STEPS, value)
