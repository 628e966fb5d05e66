"""Training of a diffusion: resumed after a kill, by one process or by several that share every step.

Every step draws from a generator seeded by (seed, step): a resumed training takes the path that it would have taken.
Processes that share a training each draw the whole step and work on their own rows of it, so that their mean gradient
is the one that a single process would have found: their number changes the time that it takes, and rounding errors.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor, distributed, nn

from protocols.learning.codebook import Codebook
from protocols.learning.diffusion import Denoiser, Diffusion, chosen, seeded, under
from protocols.learning.layout import Book
from protocols.learning.parameters import DiffusionParameters
from protocols.learning.standardised import Standardised
from services.contract import ProgressCallback
from services.errors import RunFailed
from services.files import write_atomic

# ln(sigma) ~ N(-0.4, 1): EDM's -1.2 suits images; latents of tables need more of the high noise (measured)
NOISE_MEAN, NOISE_SPREAD = -0.4, 1.0
WARM_UP = 100
EMA = 0.995
WEIGHT_DECAY = 0.01
CHECKPOINT_SECONDS = 10.0
REPORT_STEPS = 20


@dataclass(frozen=True)
class Share:
    """One process's part of a training; by default, all of it.

    Attributes:
        rank: which of the processes this is; the first reports and keeps checkpoints.
        count: how many there are, joined in torch's default process group.
    """

    rank: int = 0
    count: int = 1

    def rows(self, batch: int) -> slice:
        """This process's rows of a step's."""
        return slice(self.rank, batch, self.count)

    def weight(self, batch: int) -> float:
        """What the mean over this process's rows counts in the mean over processes, to make it that over the batch."""
        return len(range(batch)[self.rows(batch)]) * self.count / batch

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Set every process's tensors to their mean over the processes."""
        if self.count == 1:
            return
        own = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in own])
        distributed.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(own, torch.split(flat, [tensor.numel() for tensor in own]), strict=True):
            tensor.copy_(mean.view_as(tensor))


ALONE = Share()


def train(
    latents: NDArray[np.float32],
    parameters: DiffusionParameters,
    progress: ProgressCallback,
    checkpoint: Path | None = None,
    device: str = "auto",
    *,
    books: Sequence[Book] = (),
    share: Share = ALONE,
) -> Diffusion:
    """Train a denoiser on latents [n, width].

    Args:
        latents: finite, in memory or a map of a file; each dimension is brought to mean 0 and variance 1 here.
        parameters: how large and how long.
        progress: called every few steps with the mean loss since; what it raises ends the training.
        checkpoint: a file to resume from where it exists, rewritten every ten seconds.
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        books: the codewords among the latents' dimensions, where they are known.
        share: this process's part of the training.

    Raises:
        RunFailed: the loss is no longer finite.
    """
    place = chosen(device)
    data = Standardised(latents, place)
    codebook = Codebook.of(books, data.mean, data.spread) if books else None
    denoiser = Denoiser(data.width, parameters, codebook).to(place)
    training = _Training(denoiser, parameters, parameters.steps_for(len(data)), share)
    start = training.resume(checkpoint) if checkpoint is not None and checkpoint.exists() else 0
    saved = time.monotonic()
    losses: list[Tensor] = []
    for step in range(start, training.steps):
        losses.append(training.step(data, step))
        if (step + 1) % REPORT_STEPS and step + 1 < training.steps:
            continue
        mean_loss = torch.stack(losses).mean()
        share.average([mean_loss])  # all end together, or none
        loss = float(mean_loss)
        losses.clear()
        if not math.isfinite(loss):
            raise RunFailed("the diffusion's loss is no longer finite", fix="lower `learning_rate` in the next run")
        if share.rank:
            continue
        progress("diffusion", step + 1, training.steps, loss)
        if checkpoint is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
            training.save(checkpoint, step + 1)
            saved = time.monotonic()
    return Diffusion(training.average.eval(), data.mean, data.spread, parameters)


class _Training:
    """The state that a training moves on: the denoiser, its moving average, and Adam's moments."""

    def __init__(self, denoiser: Denoiser, parameters: DiffusionParameters, steps: int, share: Share) -> None:
        self.steps = steps
        self.share = share
        self.denoiser = denoiser
        self.average = copy.deepcopy(denoiser).requires_grad_(requires_grad=False)
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(denoiser.parameters(), weight_decay=WEIGHT_DECAY, fused=True)

    def step(self, data: Standardised, step: int) -> Tensor:
        """Move one gradient step on, and return its loss."""
        batch, device = self.parameters.batch, data.device
        generator = seeded(device, self.parameters.seed, step)
        rows = torch.randint(len(data), (batch,), generator=generator, device=device)
        # one noise level out of each of `batch` equal shares of their distribution: a calmer loss
        share = (torch.arange(batch, device=device) + torch.rand(batch, generator=generator, device=device)) / batch
        levels = NOISE_MEAN + NOISE_SPREAD * torch.special.ndtri(share.clamp(1e-6, 1 - 1e-6))
        noise = torch.randn((batch, data.width), generator=generator, device=device)
        own = self.share.rows(batch)
        loss = self.denoiser.loss(data[rows[own]], levels[own].exp()[:, None], noise[own])
        loss = loss * self.share.weight(batch)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.share.average(one.grad for one in self.denoiser.parameters() if one.grad is not None)
        nn.utils.clip_grad_norm_(self.denoiser.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():  # a mean of all steps at first, of the last few hundred later
            for mine, new in zip(self.average.parameters(), self.denoiser.parameters(), strict=True):
                mine.lerp_(new, max(1 - EMA, 1 / (step + 1)))
        return loss.detach()

    def _rate(self, step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.parameters.learning_rate * min(1.0, (step + 1) / WARM_UP) * cosine

    def save(self, path: Path, done: int) -> None:
        """Write everything that the next step builds on."""
        tensors = {"done": torch.tensor(done)}
        for name, value in self.denoiser.state_dict().items():
            tensors[f"denoiser.{name}"] = value
            tensors[f"average.{name}"] = self.average.state_dict()[name]
        for name, parameter in self.denoiser.named_parameters():
            for moment, value in self.optimizer.state[parameter].items():
                tensors[f"{moment}.{name}"] = value
        write_atomic(path, save(tensors))

    def resume(self, path: Path) -> int:
        """Read what `save` wrote; the number of steps done."""
        tensors = load(path.read_bytes())
        self.denoiser.load_state_dict(under("denoiser.", tensors))
        self.average.load_state_dict(under("average.", tensors))
        for name, parameter in self.denoiser.named_parameters():
            moments = {moment: tensors[f"{moment}.{name}"] for moment in ("step", "exp_avg", "exp_avg_sq")}
            self.optimizer.state[parameter] = {m: value.to(parameter.device) for m, value in moments.items()}
        return int(tensors["done"])
