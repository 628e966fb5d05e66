"""Diffusion over a matrix of latents: a denoiser, and rows drawn from it as often as wanted.

The formulation is EDM (Karras, Aittala, Aila and Laine 2022, arXiv 2206.00364): a denoiser with the paper's
preconditioning and loss weights, and a second-order sampler of one denoising a step; `protocols.learning.training`
trains it. Nothing here depends on or touches torch's global random state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from protocols.learning.codebook import Codebook
from protocols.learning.parameters import DiffusionParameters
from services.contract import ProgressCallback
from services.files import write_atomic

# the sampler's steps between these noise levels, spaced as EDM's
SIGMA_MIN, SIGMA_MAX, RHO, SAMPLING_STEPS = 0.01, 10.0, 7.0, 12
SAMPLE_ROWS = 1024

_FEATURES = 32
_SAMPLING = 1 << 31  # the random streams before it belong to the steps of a training


class _Block(nn.Module):
    """A residual block whose normalised input is scaled and shifted by what the noise level says."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.modulate = linear(2 * _FEATURES, 2 * width)
        self.widen = linear(width, 2 * width, generator)
        self.narrow = linear(2 * width, width)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.modulate(level).chunk(2, dim=-1)
        if len(level) == 1:  # a sampler's rows are all at one level: scaled and shifted in the same pass
            moved = layer_norm(x, x.shape[-1:], 1 + scale[0], shift[0])
        else:
            moved = layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
        out: Tensor = x + self.narrow(gelu(self.widen(moved)))
        return out


class Denoiser(nn.Module):
    """EDM's network F and its preconditioning, for latents [n, width] of unit variance."""

    frequencies: Tensor

    def __init__(self, width: int, parameters: DiffusionParameters, codebook: Codebook | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(parameters.seed)
        hidden = parameters.width
        self.width = width
        self.codebook = codebook
        self.enter = linear(width, hidden, generator)
        self.blocks = nn.ModuleList(_Block(hidden, generator) for _ in range(parameters.blocks))
        self.leave = linear(hidden, width + (codebook.labels if codebook else 0))
        frequencies = 2 * math.pi * torch.linspace(1 / 16, 2, _FEATURES)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """What the network says of noisy latents [n, width] at noise levels [n, 1], or at one level [1, 1].

        Returns:
            F [n, width] (EDM, table 1, with sigma_data = 1), and the labels' logits [n, labels] of a codebook.
        """
        with half_precision(x.device):
            angles = sigma.log() / 4 * self.frequencies
            level = torch.cat([angles.cos(), angles.sin()], dim=-1)
            hidden = self.enter(x / (1 + sigma**2).sqrt())
            for block in self.blocks:
                hidden = block(hidden, level)
            out: Tensor = self.leave(layer_norm(hidden, hidden.shape[-1:])).float()
        return out[:, : self.width], out[:, self.width :]

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The expected latents [n, width] behind noisy ones."""
        guess, logits = self(x, sigma)
        skip = 1 / (1 + sigma**2)
        clean: Tensor = skip * x + sigma * skip.sqrt() * guess
        if self.codebook is not None:
            clean = torch.where(self.codebook.named, self.codebook.expected(logits, x, sigma), clean)
        return clean

    def loss(self, clean: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """EDM's weighted squared error, which is the plain squared error of F: 1 for a network that knows nothing.

        A block of codewords counts by the cross-entropy of its label instead, as much as one dimension does.
        """
        noisy = clean + sigma * noise
        guess, logits = self(noisy, sigma)
        skip = 1 / (1 + sigma**2)
        squares: Tensor = (guess - (clean - skip * noisy) / (sigma * skip.sqrt())).square()
        if self.codebook is None:
            return squares.mean()
        numbers = self.codebook.numbers_of(squares).sum(dim=1)
        total: Tensor = numbers + self.codebook.loss(logits, clean, noisy, sigma)
        return total.mean() / (self.codebook.numbers + self.codebook.count)


@dataclass(frozen=True)
class Diffusion:
    """A trained denoiser, and the mean and spread [width] of the latents it was trained on."""

    denoiser: Denoiser
    mean: Tensor
    spread: Tensor
    parameters: DiffusionParameters

    def sample(self, rows: int, progress: ProgressCallback) -> NDArray[np.float32]:
        """Draw latents [rows, width] at once, as `chunks` does."""
        return np.concatenate(list(self.chunks(rows, progress)))

    def chunks(self, rows: int, progress: ProgressCallback) -> Iterator[NDArray[np.float32]]:
        """Draw latents [rows, width], a chunk of rows after the other.

        The same model draws the same rows again: a coordinator that was killed half-way repeats itself.
        """
        starts = range(0, rows, SAMPLE_ROWS)
        for index, start in enumerate(starts):
            progress("sampling", index, len(starts), None)
            yield self._chunk(index, min(SAMPLE_ROWS, rows - start))
        progress("sampling", len(starts), len(starts), None)

    @torch.inference_mode()
    def _chunk(self, index: int, rows: int) -> NDArray[np.float32]:
        """One chunk by DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, algorithm 2), one denoising a step."""
        place = self.mean.device
        ramp = torch.linspace(0, 1, SAMPLING_STEPS, dtype=torch.float64)
        high, low = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
        sigmas = ((high + ramp * (low - high)) ** RHO).tolist()
        generator = seeded(place, self.parameters.seed, _SAMPLING + index)
        # as spread as latents of unit variance under the first level's noise
        x = math.sqrt(1 + SIGMA_MAX**2) * torch.randn((rows, len(self.mean)), generator=generator, device=place)
        before, last = None, 0.0
        for sigma, after in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
            clean = self.denoiser.denoise(x, torch.full((1, 1), sigma, device=place))
            step = math.log(sigma / after) if after else math.inf
            # the denoised rows, extrapolated along ln(sigma) from the last two of them; not at the very end
            ahead = clean if before is None or not after else clean + (clean - before) * step / (2 * last)
            x = after / sigma * x - math.expm1(-step) * ahead
            before, last = clean, step
        drawn: NDArray[np.float32] = (x * self.spread + self.mean).cpu().numpy()
        return drawn

    def save(self, path: Path) -> None:
        """Write the model for `load` at the party that trained it."""
        tensors = {f"denoiser.{name}": value for name, value in self.denoiser.state_dict().items()}
        tensors |= {"mean": self.mean, "spread": self.spread}
        write_atomic(path, save(tensors, {"parameters": self.parameters.model_dump_json()}))

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> Diffusion:
        """Read what `save` wrote."""
        place = chosen(device)
        with safe_open(path, "pt") as file:
            parameters = DiffusionParameters.model_validate_json(file.metadata()["parameters"])
            tensors = {name: file.get_tensor(name).to(place) for name in file.keys()}  # noqa: SIM118 - no mapping
        weights = under("denoiser.", tensors)
        known = under("codebook.", weights)
        codebook = Codebook(**known) if known else None
        denoiser = Denoiser(len(tensors["mean"]), parameters, codebook).to(place)
        denoiser.load_state_dict(weights)
        return cls(denoiser.eval(), tensors["mean"], tensors["spread"], parameters)


def linear(inputs: int, outputs: int, generator: torch.Generator | None = None) -> nn.Linear:
    """A layer with torch's usual random weights; a zero one where there is no generator.

    What leaves a block of a denoiser is zero at first: each block begins as the identity, the whole network as the
    zero function.
    """
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")  # torch's own start draws globally
    nn.init.zeros_(layer.bias)
    if generator is None:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    return layer


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of several tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def seeded(device: torch.device, seed: int, stream: int) -> torch.Generator:
    """The random numbers of one step or one chunk of rows: those before 2^31 belong to steps."""
    return torch.Generator(device).manual_seed((seed << 32) + stream)


def chosen(name: str) -> torch.device:
    """The device that a configuration names; `auto` is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def half_precision(device: torch.device) -> torch.autocast:
    """Half-precision products where the hardware has them: 2.6 times the steps on AVX512-BF16, slower without."""
    if device.type == "cuda":
        pays = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        hardware = torch.cpu.get_capabilities()
        pays = bool(hardware.get("avx512_bf16") or hardware.get("amx_bf16"))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=pays)
