"""One cell is one model on one split of one table: what is asked, which code answers, and what was found before.

A cell's result lies in a file of its own with the digest of its request and of the code that made it. A benchmark
that was interrupted goes on where it stopped; a result of other code, or of another request, is made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from services.files import write_atomic
from tests.benchmarks.silofuse.models import MODELS

ROOT = Path(__file__).parents[3]
HARNESS = "tests/benchmarks"
MEASURES = (
    "protocols/learning/evaluate/*.py",
    *(f"protocols/learning/{name}.py" for name in ("rows", "schema", "table")),
    "deploy/demo/support2.py",
    "deploy/demo/run.yaml",
    f"{HARNESS}/sgde_tables.py",
    *(f"{HARNESS}/silofuse/{name}.py" for name in ("tables", "models", "cell", "strict")),
)
"""The code behind every cell."""
OURS = ("protocols/learning/*.py", "protocols/silofuse/*.py", f"{HARNESS}/silofuse/ours.py")
PEERS = (f"{HARNESS}/silofuse/peer.py", f"{HARNESS}/silofuse/peers.py", f"{HARNESS}/silofuse/peers.txt")
"""The code that only our cells, or only the peers', depend on: another diffusion does not make CTGAN run again."""


class Request(BaseModel):
    """What a cell is asked.

    Attributes:
        rows: training rows at most; none for the table's own number.
        steps: of the diffusion, and of a learned autoencoder; none for their defaults.
        epochs: of a peer; none for its default.
        budget: seconds that a peer may train instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str
    model: str
    seed: int
    rows: int | None = None
    steps: int | None = None
    epochs: int | None = None
    budget: float | None = None

    @property
    def name(self) -> str:
        """Table, model and seed, as people and files name a cell."""
        return f"{self.table}/{self.model}/{self.seed}"


class Result(BaseModel):
    """What a cell found.

    Attributes:
        key: the digest of the request and of the code.
        report: what `evaluate` measured.
        strict: what XGBoost's own defaults make of the same rows, see `strict`.
        inversion: means over our silos of what leaked latents give away.
        seconds: of each step.
        bytes: that travel between our silos and the coordinator.
        memory: peak, in bytes, of the process that fitted and sampled.
        epochs: that a peer trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    request: Request
    began: str
    report: dict[str, Any]
    strict: dict[str, float]
    inversion: dict[str, float | None] = {}
    seconds: dict[str, float] = {}
    bytes: dict[str, int] = {}
    memory: int | None = None
    epochs: int | None = None
    versions: dict[str, str] = {}

    @property
    def training(self) -> float:
        """Seconds from rows to a model that can be sampled."""
        steps = ("autoencoders", "diffusion", "preprocessing", "epochs")
        return sum(self.seconds[step] for step in steps if step in self.seconds)


def key(request: Request, root: Path = ROOT) -> str:
    """The digest of a request and of the code that answers it."""
    model = MODELS[request.model]
    patterns = MEASURES + (OURS if model.form else PEERS if model.peer else ())
    digest = hashlib.sha256(request.model_dump_json().encode())
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


class Folder:
    """The results of a benchmark, a file per cell."""

    def __init__(self, path: Path) -> None:
        self.path = path / "cells"

    def read(self, table: str, model: str, seed: int) -> Result | None:
        """What was found before, by whichever code; None where there is nothing that can be read."""
        try:
            return Result.model_validate_json(self._file(table, model, seed).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def found(self, request: Request) -> Result | None:
        """What present code found when it was asked this very thing."""
        result = self.read(request.table, request.model, request.seed)
        return result if result and result.key == key(request) else None

    def write(self, result: Result) -> None:
        """Keep a result, whole or not at all."""
        asked = result.request
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self._file(asked.table, asked.model, asked.seed), result.model_dump_json(indent=1).encode())

    def _file(self, table: str, model: str, seed: int) -> Path:
        return self.path / f"{table}-{model}-{seed}.json"


def asked(
    tables: Sequence[str], models: Sequence[str], seeds: int, peer_seeds: int, options: dict[str, int | None]
) -> list[Request]:
    """All cells of a benchmark, seed by seed, each peer with a budget after the form that sets it."""
    return [
        Request(table=table, model=model, seed=seed, **options)
        for seed in range(seeds)
        for table in tables
        for model in models
        if table in (MODELS[model].tables or tables) and (seed < peer_seeds or not _slow(model))
    ]


def _slow(model: str) -> bool:
    """Whether a model is a peer at its default epochs."""
    return bool(MODELS[model].peer) and not MODELS[model].timed
