"""A training that several processes share is the one that a single process does, and ends with whoever watches it."""

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from protocols.learning.diffusion import Diffusion
from protocols.learning.parameters import DiffusionParameters
from protocols.learning.ranks import CHECKPOINT, MODEL, train_in_ranks
from protocols.learning.training import Share, train
from services.contract import ProgressCallback
from services.errors import RunFailed
from tests.programs.federation import until

SMALL = DiffusionParameters(steps=60, batch=63, width=32, blocks=2)  # 63 rows are no two equal parts


ENDLESS = SMALL.model_copy(update={"steps": 10**6, "epochs": 10**6})
WATCHER = """
import sys
from pathlib import Path
from tests.protocols.learning.test_ranks import ENDLESS, filed, latents, train_in_ranks
folder = Path(sys.argv[1])
train_in_ranks(
    filed(latents(), folder), ENDLESS, lambda *told: told[1] and (folder / "trains").touch(), folder,
    processes=2, device="cpu",
)
"""


def silent(phase: str, step: int, total: int, loss: float | None) -> None: ...


def stops_at(last: int, said: list[int] | None = None) -> ProgressCallback:
    def progress(_phase: str, step: int, _total: int, _loss: float | None) -> None:
        if said is not None:
            said.append(step)
        if step >= last:
            raise KeyboardInterrupt

    return progress


def running(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().decode(errors="replace")
            if str(folder) in line and "learning.ranks" in line:
                found.append(line)
    return found


def latents(rows: int = 500) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((rows, 5)).astype(np.float32)


def filed(latents: NDArray[np.float32], folder: Path) -> Path:
    (folder / "latents").write_bytes(save({"latents": latents}))
    return folder / "latents"


@pytest.mark.parametrize(("batch", "count"), [(63, 2), (64, 2), (7, 3)])
def test_shares_are_disjoint_cover_the_batch_and_average_to_its_mean(batch: int, count: int) -> None:
    values = np.random.default_rng(1).standard_normal(batch)
    shares = [Share(rank, count) for rank in range(count)]
    assert sorted(row for share in shares for row in range(batch)[share.rows(batch)]) == list(range(batch))
    means = [share.weight(batch) * values[share.rows(batch)].mean() for share in shares]
    assert sum(means) / count == pytest.approx(values.mean())


@pytest.mark.slow
def test_two_processes_train_what_one_does_and_leave_nothing_but_model_and_checkpoint(tmp_path: Path) -> None:
    said: list[int] = []
    train_in_ranks(
        filed(latents(), tmp_path), SMALL, lambda *told: said.append(told[1]), tmp_path, processes=2, device="cpu"
    )
    shared = Diffusion.load(tmp_path / MODEL, "cpu").sample(50, silent)
    alone = train(latents(), SMALL, silent, device="cpu").sample(50, silent)
    assert np.abs(shared - alone).mean() < 0.05 * np.abs(alone).mean()  # half precision rounds its own way in each
    assert said[-1] == 60
    assert {path.name for path in tmp_path.iterdir()} <= {MODEL, CHECKPOINT, "latents"}


@pytest.mark.slow
def test_processes_go_on_from_a_checkpoint_and_end_when_nobody_watches_any_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocols.learning.training.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train(latents(), ENDLESS, stops_at(40), tmp_path / CHECKPOINT, "cpu")
    said: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        train_in_ranks(filed(latents(), tmp_path), ENDLESS, stops_at(60, said), tmp_path, processes=2, device="cpu")
    assert next(step for step in said if step) == 40  # step 20 was kept, and the next report came 20 later
    assert not running(tmp_path)


@pytest.mark.slow
def test_processes_end_when_whoever_watched_them_is_killed(tmp_path: Path) -> None:
    watcher = subprocess.Popen([sys.executable, "-c", WATCHER, str(tmp_path)])
    try:
        until("they train", (tmp_path / "trains").exists, 240)
    finally:
        watcher.kill()
        watcher.wait()
    until("they end", lambda: not running(tmp_path), 240)


@pytest.mark.slow
def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="no longer finite"):
        train_in_ranks(
            filed(np.full((10, 2), np.nan, dtype=np.float32), tmp_path),
            SMALL, silent, tmp_path, processes=2, device="cpu",
        )  # fmt: skip
