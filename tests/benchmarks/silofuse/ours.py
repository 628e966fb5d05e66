"""Our model as a run makes it, a function per step: no keys and no wire, each step timed, what would travel counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import save

from protocols.learning.diffusion import Diffusion
from protocols.learning.parameters import DiffusionParameters
from protocols.learning.schema import Columns
from protocols.learning.training import train
from protocols.silofuse.autoencoder import Autoencoder
from tests.benchmarks.silofuse.models import Form
from tests.benchmarks.silofuse.tables import Blocks

Latents = NDArray[np.float32]


@dataclass
class Made:
    """What a model made of training rows.

    Attributes:
        synthetic: as many rows as were asked, in canonical types and the schema's order of columns.
        latents: of the training rows, by silo, as uploaded.
        seconds: of each step, summed over the silos.
        bytes: of all uploads together, and of all slices that come back, before sealing.
    """

    synthetic: pd.DataFrame
    latents: list[Latents]
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)


def make(training: pd.DataFrame, columns: Columns, silos: Blocks, form: Form, parameters: DiffusionParameters) -> Made:
    """Fit, encode, train, sample and decode: as many synthetic rows as there are training rows."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "autoencoders"):
        coders = [_fit(form, training, {name: columns[name] for name in names}) for names in silos]
        latents = [coder.encode(training) for coder in coders]
    with _timed(seconds, "diffusion"):
        diffusion = _train(latents, parameters)
    with _timed(seconds, "sampling"):
        sampled = diffusion.sample(len(training), _silent)
    slices = np.split(sampled, np.cumsum([one.shape[1] for one in latents])[:-1], axis=1)
    with _timed(seconds, "decoding"):
        parts = [coder.decode(part) for coder, part in zip(coders, slices, strict=True)]
    synthetic = pd.concat(parts, axis=1)[list(columns)]
    travel = {"uploaded": _bytes(latents), "returned": _bytes(slices)} if len(silos) > 1 else {}
    return Made(synthetic, latents, seconds, travel)


def _fit(form: Form, training: pd.DataFrame, columns: Columns) -> Autoencoder:
    """One silo's autoencoder of a form."""
    return {"opaque": Autoencoder.fit}[form](training, columns)


def _train(latents: list[Latents], parameters: DiffusionParameters) -> Diffusion:
    return train(np.concatenate(latents, axis=1), parameters, _silent, device="cpu")


def _bytes(parts: list[Latents]) -> int:
    return sum(len(save({"latents": np.ascontiguousarray(part)})) for part in parts)


def _silent(*_: object) -> None:
    """Nobody watches the progress."""


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - began
