"""The coordinator's half of SiloFuse: the common order, one latent diffusion, a slice of its samples for each silo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from protocols.learning.alignment import intersect, read_pseudonyms
from protocols.learning.diffusion import Diffusion
from protocols.learning.layout import Book, width_of
from protocols.learning.ranks import CHECKPOINT, MODEL, train_in_ranks
from protocols.learning.rows import spans
from protocols.learning.tensors import TensorSpec, map_rows, read_tensors, write_tensors, writing_rows
from protocols.learning.training import train
from protocols.silofuse.claim import deviation
from protocols.silofuse.forms import read_layout
from protocols.silofuse.messages import LATENTS, LAYOUT, MAX_WIDTH, NOISED, ORDER, PSEUDONYMS, SLICE
from protocols.silofuse.parameters import SiloFuseParameters
from protocols.silofuse.shrinkage import Shrinkage
from protocols.spec import parse_spec
from services.artifact import Derived
from services.contract import Context, Done, Failed, Message, ProgressCallback, Received, Step, Work
from services.errors import InvalidArtifact

Latents = npt.NDArray[np.float32]

MINIMUM_COMMON = 10  # fewer records than that are no training set, whatever the silos' policies say


class Coordinator:
    """See `services.contract.Half`.

    Args:
        context: the run as the coordinator knows it.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._spec = parse_spec(context.spec)
        parameters = SiloFuseParameters.model_validate(self._spec.training)
        self._parameters, self._laid_out = parameters.diffusion, parameters.form == "layout"
        self._noise = parameters.noise
        self._kind = LATENTS if parameters.noise is None else NOISED
        self._pseudonyms: dict[str, Received] = {}
        self._latents: dict[str, Received] = {}
        self._layouts: dict[str, Received] = {}
        self._training_rows = 0

    def begin(self) -> Iterator[Step]:
        """Wait: the silos speak first."""
        yield from ()

    def receive(self, artifact: Received) -> Iterator[Step]:
        """See `services.contract.Half.receive`."""
        if artifact.sender not in self._context.silos:
            raise InvalidArtifact(f"{artifact.sender} takes no part in the run")
        if artifact.kind == PSEUDONYMS and artifact.sender not in self._pseudonyms:
            read_pseudonyms(artifact.path)
            self._pseudonyms[artifact.sender] = artifact
            if len(self._pseudonyms) == len(self._context.silos):
                yield from self._align()
        elif artifact.kind == self._kind and artifact.sender not in self._latents and self._training_rows:
            self._read_latents(artifact)
            self._latents[artifact.sender] = artifact
            yield from self._learn()
        elif artifact.kind == LAYOUT and artifact.sender not in self._layouts and self._laid_out:
            read_layout(artifact.path, self._spec.columns_of(artifact.sender))
            self._layouts[artifact.sender] = artifact
            yield from self._learn()
        else:
            raise InvalidArtifact(f"{artifact.sender} has no {artifact.kind} to send now")

    def deadline(self, name: str) -> Iterator[Step]:
        """See `services.contract.Half.deadline`."""
        for what, received in self._collections().items():
            if awaited := [silo for silo in self._context.silos if silo not in received]:
                yield Failed(f"the {name}'s deadline passed: {', '.join(awaited)} still awaited for their {what}")
                return
        yield Failed(f"the {name}'s deadline passed during training")

    def _collections(self) -> dict[str, dict[str, Received]]:
        """What every silo has to send before the training, in its order, and what has come of it."""
        layouts = {"layouts": self._layouts} if self._laid_out else {}
        return {"pseudonyms": self._pseudonyms, "codes": self._latents, **layouts}

    # alignment

    def _align(self) -> Iterator[Step]:
        sets = {silo: read_pseudonyms(self._pseudonyms[silo].path) for silo in self._context.silos}
        orders = intersect(sets, self._spec.holdout)
        held_out = next(iter(orders.values())).held_out
        self._training_rows = int((~held_out).sum())
        if self._training_rows < MINIMUM_COMMON:
            yield Failed(f"the silos have fewer than {MINIMUM_COMMON} training records in common")
            return
        release = Derived(digests=tuple(self._pseudonyms[silo].digest for silo in self._context.silos))

        def message(silo: str) -> Message:
            path = self._context.workspace / f"order-{silo}.safetensors"
            write_tensors(path, {"places": orders[silo].places, "held_out": held_out.astype(np.uint8)})
            return Message(ORDER, path, release)

        for silo in self._context.silos:
            yield Work(f"order.{silo}", lambda _, silo=silo: message(silo), to=(silo,))  # type: ignore[misc]

    # learning

    def _read_latents(self, artifact: Received) -> Latents:
        spec = TensorSpec("float32", (self._training_rows, None), MAX_WIDTH)
        return read_tensors(artifact.path, {"latents": spec})["latents"]

    def _learn(self) -> Iterator[Step]:
        if any(len(received) < len(self._context.silos) for received in self._collections().values()):
            return
        yield Work("diffusion", self._train)
        yield Work("sampling", self._sample)
        release = Derived(digests=tuple(self._latents[silo].digest for silo in self._context.silos))
        for silo in self._context.silos:
            message = Message(SLICE, self._slice(silo), release)
            yield Work(f"slice.{silo}", lambda _, message=message: message, to=(silo,))  # type: ignore[misc]
        yield Done()

    def _train(self, progress: ProgressCallback) -> None:
        latents = self._join()
        workspace, device, processes = self._context.workspace, self._context.device, self._context.processes
        books = self._books()
        if processes > 1:
            train_in_ranks(
                latents, self._parameters, progress, workspace, processes=processes, device=device, books=books
            )
        else:
            model = train(map_rows(latents), self._parameters, progress, workspace / CHECKPOINT, device, books=books)
            model.save(workspace / MODEL)

    def _books(self) -> list[Book]:
        """The codewords among all silos' latents, where these may be known."""
        found, first = [], 0
        for silo in self._context.silos if self._laid_out else ():
            columns = self._spec.columns_of(silo)
            found += [book.after(first) for book in read_layout(self._layouts[silo].path, columns)]
            first += width_of(columns)
        return found

    def _join(self) -> Path:
        """All silos' latents side by side in one file, of which a training takes rows as it needs them."""
        path = self._context.workspace / "latents.safetensors"
        parts = [self._read_latents(self._latents[silo]) for silo in self._context.silos]
        shrinkage = self._shrinkage(parts)
        with writing_rows(path, "latents", self._training_rows, sum(part.shape[1] for part in parts)) as write:
            for block in self._side_by_side(parts):
                write(shrinkage(block))
        return path

    def _side_by_side(self, parts: Sequence[Latents]) -> Iterator[Latents]:
        return (np.concatenate([part[span] for part in parts], axis=1) for span in spans(self._training_rows))

    def _shrinkage(self, parts: Sequence[Latents]) -> Callable[[Latents], Latents]:
        """What is done to all silos' latents, side by side: nothing, where they are without noise."""
        if self._noise is None:
            return lambda block: block
        mechanism, silos = self._noise.mechanism, self._context.silos
        noise = [
            np.full(part.shape[1], deviation(mechanism, self._spec.columns_of(silo)))
            for silo, part in zip(silos, parts, strict=True)
        ]
        return Shrinkage.of(self._side_by_side(parts), np.concatenate(noise))

    def _sample(self, progress: ProgressCallback) -> None:
        model = Diffusion.load(self._context.workspace / MODEL, device=self._context.device)
        rows, silos = self._spec.rows, self._context.silos
        widths = [map_rows(self._latents[silo].path).shape[1] for silo in silos]  # judged when they came
        with ExitStack() as stack:
            slices = [
                stack.enter_context(writing_rows(self._slice(silo), "latents", rows, width))
                for silo, width in zip(silos, widths, strict=True)
            ]
            for chunk in model.chunks(rows, progress):
                for write, part in zip(slices, np.split(chunk, np.cumsum(widths)[:-1], axis=1), strict=True):
                    write(part)

    def _slice(self, silo: str) -> Path:
        return self._context.workspace / f"slice-{silo}.safetensors"


half = Coordinator
