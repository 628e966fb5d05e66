"""One training shared by several processes of this machine, a GPU for each: torchrun starts them, this end watches.

What passes between the two ends lies in files: the latents, which every process maps, and in a private folder the
parameters, checkpoints and the model. The first process says on its standard output how far the training is. When the
watching end is gone, that fails, and torchrun ends them all; the next start goes on from the checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import torch
from safetensors.numpy import load_file, save
from torch import distributed

from protocols.learning.diffusion import chosen
from protocols.learning.layout import Book
from protocols.learning.parameters import DiffusionParameters
from protocols.learning.tensors import map_rows
from protocols.learning.training import Share, train
from services.contract import ProgressCallback
from services.errors import ConfigError, RunFailed
from services.files import write_atomic

CHECKPOINT, MODEL = "checkpoint", "diffusion"
_PARAMETERS, _BOOKS, _LOG = "ranks-parameters", "ranks-books", "ranks-log"
_LOOK = 1.0  # seconds between two looks while nothing is said
_PATIENCE = 20.0  # seconds for the processes to end


def train_in_ranks(
    latents: Path,
    parameters: DiffusionParameters,
    progress: ProgressCallback,
    folder: Path,
    *,
    processes: int,
    device: str = "auto",
    books: Sequence[Book] = (),
) -> None:
    """Train a denoiser as `protocols.learning.training.train` does, and leave it in `folder`.

    Args:
        latents: the file with the matrix `latents` [n, width], which every process maps.
        parameters: how large and how long.
        progress: called every few steps, and while nothing happens; what it raises ends the training.
        folder: private; holds the checkpoint to resume from, and the model at the end.
        processes: how many share the training; no more do than a batch has rows.
        device: "auto" (CUDA where there is one), "cpu" or "cuda": a GPU for each process.
        books: the codewords among the latents' dimensions, where they are known.

    Raises:
        ConfigError: there are fewer GPUs than processes.
        RunFailed: the loss is no longer finite, or a process broke down.
    """
    if chosen(device).type == "cuda" and processes > torch.cuda.device_count():
        raise ConfigError(
            f"{processes} processes were asked for, and there are {torch.cuda.device_count()} GPUs",
            fix="lower `processes`, or give this machine or pod more GPUs",
        )
    processes = min(processes, parameters.batch)
    write_atomic(folder / _PARAMETERS, parameters.model_dump_json().encode())
    write_atomic(folder / _BOOKS, save({str(book.first): book.words for book in books}))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "-m", __name__, str(folder), str(latents), device,
    ]  # fmt: skip
    threads = str(max(1, len(os.sched_getaffinity(0)) // processes))  # torchrun would allow each process only one
    with (folder / _LOG).open("wb") as log, _started(command, {"OMP_NUM_THREADS": threads}, log) as running:
        failure = _watch(running, progress, parameters.steps_for(len(map_rows(latents))))
        status = running.wait()
    if failure or status:
        raise RunFailed(failure or f"training in {processes} processes ended with {_last(folder / _LOG, status)}")
    for name in (_PARAMETERS, _BOOKS, _LOG):
        (folder / name).unlink()


@contextlib.contextmanager
def _started(command: list[str], more: Mapping[str, str], log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(  # noqa: S603 - this interpreter, with our own arguments
        command, env={**more, **os.environ}, stdout=subprocess.PIPE, stderr=log, start_new_session=True
    )
    try:
        yield running
    finally:
        with running:  # closes its pipe
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(running.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(_PATIENCE)
                    break


def _watch(running: subprocess.Popen[bytes], progress: ProgressCallback, total: int) -> str:
    """Pass on what is said until there is no more; returns why the training failed, if it said so."""
    assert running.stdout is not None  # noqa: S101 - a pipe, as asked for
    said: tuple[int, float | None] = (0, None)
    with selectors.DefaultSelector() as selector:
        selector.register(running.stdout, selectors.EVENT_READ)
        while True:
            if selector.select(_LOOK):
                if not (line := running.stdout.readline()):
                    return ""
                told = json.loads(line)
                if "failed" in told:
                    return str(told["failed"])
                said = told["step"], told["loss"]
            progress("diffusion", said[0], total, said[1])


def _last(log: Path, status: int) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if "Error" in line]
    return f"status {status}" + (f": {lines[-1][:300]}" if lines else "")


def _rank(folder: Path, latents: Path, device: str) -> None:
    """What each process does."""
    place = chosen(device)
    share = Share(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        parameters = DiffusionParameters.model_validate_json((folder / _PARAMETERS).read_bytes())
        books = [Book(int(first), words) for first, words in load_file(folder / _BOOKS).items()]
        checkpoint = folder / CHECKPOINT
        model = train(map_rows(latents), parameters, _tell, checkpoint, str(place), books=books, share=share)
        if share.rank == 0:
            model.save(folder / MODEL)
    except RunFailed as error:
        if share.rank == 0:
            _say({"failed": error.what})
    finally:
        distributed.destroy_process_group()


def _tell(_phase: str, step: int, _total: int, loss: float | None) -> None:
    _say({"step": step, "loss": loss})


def _say(facts: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _rank(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
