"""Diffusion over a matrix of latents: trained once, resumed after a kill, sampled as often as wanted.

The formulation is EDM (Karras, Aittala, Aila and Laine 2022, arXiv 2206.00364): a denoiser with the paper's
preconditioning and loss weights, log-normal noise levels, and Heun's second-order sampler. Nothing here depends on
or touches torch's global random state, and every step draws from a generator seeded by (seed, step): a resumed
training takes the path that it would have taken.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.functional import gelu

from protocols.learning.parameters import DiffusionParameters
from services.contract import ProgressCallback
from services.errors import RunFailed
from services.files import write_atomic

# ln(sigma) ~ N(-0.4, 1): EDM's -1.2 suits images; latents of tables need more of the high noise (measured)
NOISE_MEAN, NOISE_SPREAD = -0.4, 1.0
# Heun's steps between these noise levels, at EDM's rho
SIGMA_MIN, SIGMA_MAX, RHO, HEUN_STEPS = 0.01, 20.0, 7.0, 30
WARM_UP = 100
EMA = 0.995
WEIGHT_DECAY = 0.01
CHECKPOINT_SECONDS = 10.0
REPORT_STEPS = 20
SAMPLE_ROWS = 16_384

_FEATURES = 32
_SAMPLING = 1 << 31  # the random streams before it belong to the steps of a training


class _Block(nn.Module):
    """A residual block whose normalised input is scaled and shifted by what the noise level says."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.modulate = _linear(2 * _FEATURES, 2 * width)
        self.widen = _linear(width, 2 * width, generator)
        self.narrow = _linear(2 * width, width)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.modulate(level).chunk(2, dim=-1)
        normal = nn.functional.layer_norm(x, x.shape[-1:])
        out: Tensor = x + self.narrow(gelu(self.widen(normal * (1 + scale) + shift)))
        return out


class Denoiser(nn.Module):
    """EDM's network F and its preconditioning, for latents [n, width] of unit variance."""

    frequencies: Tensor

    def __init__(self, width: int, parameters: DiffusionParameters) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(parameters.seed)
        hidden = parameters.width
        self.enter = _linear(width, hidden, generator)
        self.blocks = nn.ModuleList(_Block(hidden, generator) for _ in range(parameters.blocks))
        self.leave = _linear(hidden, width)
        frequencies = 2 * math.pi * torch.linspace(1 / 16, 2, _FEATURES)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """F [n, width] of noisy latents [n, width] at noise levels [n, 1] (EDM, table 1, with sigma_data = 1)."""
        angles = sigma.log() / 4 * self.frequencies
        level = torch.cat([angles.cos(), angles.sin()], dim=-1)
        hidden = self.enter(x / (1 + sigma**2).sqrt())
        for block in self.blocks:
            hidden = block(hidden, level)
        out: Tensor = self.leave(nn.functional.layer_norm(hidden, hidden.shape[-1:]))
        return out

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The expected latents [n, width] behind noisy ones."""
        skip = 1 / (1 + sigma**2)
        guess: Tensor = self(x, sigma).float()
        return skip * x + sigma * skip.sqrt() * guess

    def loss(self, clean: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """EDM's weighted squared error, which is the plain squared error of F: 1 for a network that knows nothing."""
        noisy = clean + sigma * noise
        skip = 1 / (1 + sigma**2)
        target = (clean - skip * noisy) / (sigma * skip.sqrt())
        guess: Tensor = self(noisy, sigma).float()
        return (guess - target).square().mean()


@dataclass(frozen=True)
class Diffusion:
    """A trained denoiser, and the mean and spread [width] of the latents it was trained on."""

    denoiser: Denoiser
    mean: Tensor
    spread: Tensor
    parameters: DiffusionParameters

    @torch.inference_mode()
    def sample(self, rows: int, progress: ProgressCallback) -> NDArray[np.float32]:
        """Draw latents [rows, width] by Heun's method (EDM, algorithm 1).

        The same model draws the same rows again: a coordinator that was killed half-way repeats itself.
        """
        ramp = torch.linspace(0, 1, HEUN_STEPS, dtype=torch.float64)
        high, low = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
        sigmas = [*((high + ramp * (low - high)) ** RHO).tolist(), 0.0]
        chunks = [range(first, min(first + SAMPLE_ROWS, rows)) for first in range(0, rows, SAMPLE_ROWS)]
        out = np.empty((rows, len(self.mean)), dtype=np.float32)
        for index, chunk in enumerate(chunks):
            generator = _generator(self.mean.device, self.parameters.seed, _SAMPLING + index)
            shape = (len(chunk), len(self.mean))
            x = sigmas[0] * torch.randn(shape, generator=generator, device=self.mean.device)
            for step, (sigma, after) in enumerate(pairwise(sigmas)):
                progress("sampling", index * HEUN_STEPS + step, len(chunks) * HEUN_STEPS, None)
                slope = self._slope(x, sigma)
                guess = x + (after - sigma) * slope
                x = x + (after - sigma) * (slope + self._slope(guess, after)) / 2 if after else guess
            out[chunk.start : chunk.stop] = (x * self.spread + self.mean).cpu().numpy()
        progress("sampling", len(chunks) * HEUN_STEPS, len(chunks) * HEUN_STEPS, None)
        return out

    def _slope(self, x: Tensor, sigma: float) -> Tensor:
        with _autocast(x.device):
            return (x - self.denoiser.denoise(x, torch.full((len(x), 1), sigma, device=x.device))) / sigma

    def save(self, path: Path) -> None:
        """Write the model for `load` at the party that trained it."""
        tensors = {f"denoiser.{name}": value for name, value in self.denoiser.state_dict().items()}
        tensors |= {"mean": self.mean, "spread": self.spread}
        write_atomic(path, save(tensors, {"parameters": self.parameters.model_dump_json()}))

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> Diffusion:
        """Read what `save` wrote."""
        place = _device(device)
        with safe_open(path, "pt") as file:
            parameters = DiffusionParameters.model_validate_json(file.metadata()["parameters"])
            tensors = {name: file.get_tensor(name).to(place) for name in file.keys()}  # noqa: SIM118 - no mapping
        denoiser = Denoiser(len(tensors["mean"]), parameters).to(place)
        denoiser.load_state_dict(_under("denoiser.", tensors))
        return cls(denoiser.eval(), tensors["mean"], tensors["spread"], parameters)


def train(
    latents: NDArray[np.float32],
    parameters: DiffusionParameters,
    progress: ProgressCallback,
    checkpoint: Path | None = None,
    device: str = "auto",
) -> Diffusion:
    """Train a denoiser on latents [n, width].

    Args:
        latents: finite; each dimension is brought to mean 0 and variance 1 here.
        parameters: how large and how long.
        progress: called every few steps with the mean loss since; what it raises ends the training.
        checkpoint: a file to resume from where it exists, rewritten every ten seconds.
        device: "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises:
        RunFailed: the loss is no longer finite.
    """
    place = _device(device)
    data = torch.from_numpy(latents).to(place)
    mean, spread = data.mean(dim=0), data.std(dim=0, correction=0)
    spread = torch.where(spread > 1e-6, spread, 0.0)  # a dimension that is constant comes back constant
    data = (data - mean) / torch.where(spread > 0, spread, 1.0)

    training = _Training(Denoiser(data.shape[1], parameters).to(place), parameters, parameters.steps_for(len(data)))
    start = training.resume(checkpoint) if checkpoint is not None and checkpoint.exists() else 0
    saved = time.monotonic()
    losses: list[Tensor] = []
    for step in range(start, training.steps):
        losses.append(training.step(data, step))
        if (step + 1) % REPORT_STEPS and step + 1 < training.steps:
            continue
        loss = float(torch.stack(losses).mean())
        losses.clear()
        if not math.isfinite(loss):
            raise RunFailed("the diffusion's loss is no longer finite", fix="lower `learning_rate` in the next run")
        progress("diffusion", step + 1, training.steps, loss)
        if checkpoint is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
            training.save(checkpoint, step + 1)
            saved = time.monotonic()
    return Diffusion(training.average.eval(), mean, spread, parameters)


class _Training:
    """The state that a training moves on: the denoiser, its moving average, and Adam's moments."""

    def __init__(self, denoiser: Denoiser, parameters: DiffusionParameters, steps: int) -> None:
        self.steps = steps
        self.denoiser = denoiser
        self.average = copy.deepcopy(denoiser).requires_grad_(requires_grad=False)
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(denoiser.parameters(), weight_decay=WEIGHT_DECAY, fused=True)

    def step(self, data: Tensor, step: int) -> Tensor:
        """Move one gradient step on, and return its loss."""
        batch, device = self.parameters.batch, data.device
        generator = _generator(device, self.parameters.seed, step)
        rows = torch.randint(len(data), (batch,), generator=generator, device=device)
        # one noise level out of each of `batch` equal shares of their distribution: a calmer loss
        share = (torch.arange(batch, device=device) + torch.rand(batch, generator=generator, device=device)) / batch
        levels = NOISE_MEAN + NOISE_SPREAD * torch.special.ndtri(share.clamp(1e-6, 1 - 1e-6))
        noise = torch.randn((batch, data.shape[1]), generator=generator, device=device)
        with _autocast(device):
            loss = self.denoiser.loss(data[rows], levels.exp()[:, None], noise)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
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
        self.denoiser.load_state_dict(_under("denoiser.", tensors))
        self.average.load_state_dict(_under("average.", tensors))
        for name, parameter in self.denoiser.named_parameters():
            moments = {moment: tensors[f"{moment}.{name}"] for moment in ("step", "exp_avg", "exp_avg_sq")}
            self.optimizer.state[parameter] = {m: value.to(parameter.device) for m, value in moments.items()}
        return int(tensors["done"])


def _linear(inputs: int, outputs: int, generator: torch.Generator | None = None) -> nn.Linear:
    """A layer with torch's usual random weights; a zero one where there is no generator.

    What leaves a block is zero at first: each block begins as the identity, the whole network as the zero function.
    """
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")  # torch's own start draws globally
    nn.init.zeros_(layer.bias)
    if generator is None:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    return layer


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _generator(device: torch.device, seed: int, stream: int) -> torch.Generator:
    return torch.Generator(device).manual_seed((seed << 32) + stream)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _autocast(device: torch.device) -> torch.autocast:
    """Half-precision products where the hardware has them: 2.6 times the steps on AVX512-BF16, slower without."""
    if device.type == "cuda":
        pays = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        hardware = torch.cpu.get_capabilities()
        pays = bool(hardware.get("avx512_bf16") or hardware.get("amx_bf16"))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=pays)
