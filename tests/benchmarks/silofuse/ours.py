"""Our model as a run makes it, a function per step: no keys and no wire, each step timed, what would travel counted."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from protocols.learning.diffusion import Diffusion
from protocols.learning.layout import Book
from protocols.learning.schema import Columns
from protocols.learning.tensors import TensorSpec, read_tensors, write_tensors
from protocols.learning.training import train
from protocols.silofuse import forms, learned
from protocols.silofuse.parameters import SiloFuseParameters
from protocols.silofuse.streams import Form, decode, encode
from services.contract import Context
from tests.benchmarks.silofuse.tables import Blocks

Latents = NDArray[np.float32]


@dataclass
class Made:
    """What a model made of training rows.

    Attributes:
        synthetic: as many rows as were trained on, in canonical types and the schema's order of columns.
        latents: of the training rows, by silo, as uploaded.
        seconds: of each step, summed over the silos.
        bytes: of all uploads together, and of all slices that come back, before sealing; none where nothing travels.
    """

    synthetic: pd.DataFrame
    latents: list[Latents]
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)


def make(
    training: pd.DataFrame,
    columns: Columns,
    silos: Blocks,
    parameters: SiloFuseParameters,
    learning_steps: int = learned.STEPS,
) -> Made:
    """Fit, encode, train, sample and decode: as many synthetic rows as there are training rows.

    Args:
        training: in canonical types.
        columns: the public schema.
        silos: which of them each silo holds.
        parameters: the run's.
        learning_steps: of a learned autoencoder.
    """
    parts = {f"silo-{place}": {name: columns[name] for name in names} for place, names in enumerate(silos)}
    with tempfile.TemporaryDirectory() as name, patch.object(learned, "STEPS", learning_steps):
        return _make(training, parts, parameters, Path(name), list(columns))


def _make(
    training: pd.DataFrame, parts: dict[str, Columns], parameters: SiloFuseParameters, folder: Path, names: list[str]
) -> Made:
    seconds: dict[str, float] = {}
    context = Context("benchmark", {}, "", "coordinator", tuple(parts), folder, device="cpu")
    uploads, slices = ([folder / f"{what}-{silo}" for silo in parts] for what in ("upload", "slice"))
    layouts = [folder / f"layout-{silo}" for silo in parts]

    with _timed(seconds, "autoencoders"):
        fitted = [forms.fit(parameters.form, training, part, context, _silent) for part in parts.values()]
        for form, upload in zip(fitted, uploads, strict=True):
            encode(form, training, upload, _silent)
    latents = [_read(path, len(training), form) for path, form in zip(uploads, fitted, strict=True)]
    books: list[Book] = []
    if parameters.form == "layout":
        firsts = np.cumsum([0, *(form.width for form in fitted)])
        for form, part, path, first in zip(fitted, parts.values(), layouts, firsts, strict=False):
            forms.write_layout(form, path)
            books += [book.after(int(first)) for book in forms.read_layout(path, part)]

    with _timed(seconds, "diffusion"):
        diffusion = _train(latents, books, parameters)
    with _timed(seconds, "sampling"):
        sampled = diffusion.sample(len(training), _silent)
        widths = np.cumsum([form.width for form in fitted])[:-1]
        for path, part in zip(slices, np.split(sampled, widths, axis=1), strict=True):
            write_tensors(path, {"latents": np.ascontiguousarray(part)})
    with _timed(seconds, "decoding"):
        stored = [
            decode(form, _read(path, len(training), form), folder / f"synthetic-{silo}", _silent)
            for silo, form, path in zip(parts, fitted, slices, strict=True)
        ]
        every = np.arange(len(training))
        synthetic = pd.concat([one.take(every).reset_index(drop=True) for one in stored], axis=1)[names]
    bytes_ = {"uploaded": _size([*uploads, *layouts]), "returned": _size(slices)} if len(parts) > 1 else {}
    return Made(synthetic, [np.array(one) for one in latents], seconds, bytes_)


def _train(latents: list[Latents], books: list[Book], parameters: SiloFuseParameters) -> Diffusion:
    return train(np.concatenate(latents, axis=1), parameters.diffusion, _silent, device="cpu", books=books)


def _read(path: Path, rows: int, form: Form) -> Latents:
    return read_tensors(path, {"latents": TensorSpec("float32", (rows, form.width))})["latents"]


def _size(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.exists())


def _silent(*_: object) -> None:
    """Nobody watches the progress."""


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - began
