"""What a protocol promises its host, and the host its protocol.

A protocol is two *halves*, one for the silos and one for the coordinator, that never see a key, a socket or
a store. A half answers `begin`, `receive` and `deadline` with an iterator of steps; the host runs each step
before it asks for the next one.

- `Work` is a named, lazy computation. Its name is used once per run: what a host has already sealed or
  finished under that name is never computed again, so a restart neither retrains nor spends twice. Work that spends
  privacy says so beforehand, and is refused before it begins where the ledger does not allow it.
- `Done` and `Failed` end the run at this party.

A half is crash-only: whatever it must remember lies in its workspace. After a restart the host builds a new
half, calls `begin()` and hands it everything that was received, in the order of the first time; the half
must then stand where it stood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from services.artifact import Release, Spend

ProgressCallback = Callable[[str, int, int, float | None], None]
"""Called as `progress(phase, step, total, loss)`; it raises to stop work whose run was ended."""


@dataclass(frozen=True)
class Context:
    """Everything a half may know about the run it serves.

    Attributes:
        run: the run's identifier, unique for life.
        spec: the run specification as the offer carried it, a JSON object.
        me: this party's name.
        coordinator: the coordinator's name.
        silos: the participants' names, in the specification's order.
        workspace: a private folder (mode 0700) that outlives a crash and is destroyed with the run.
        data: the silo's table (CSV or Parquet); None at the coordinator.
        minimum_rows: the fewest common records this silo's policy accepts.
        device: where to train: `auto`, `cpu` or `cuda`.
        processes: how many processes may share a training, a GPU for each.
    """

    run: str
    spec: Mapping[str, Any]
    me: str
    coordinator: str
    silos: tuple[str, ...]
    workspace: Path
    data: Path | None = None
    minimum_rows: int = 0
    device: str = "auto"
    processes: int = 1


@dataclass(frozen=True)
class Message:
    """What a computation hands to the courier: a payload and what may be said of its release."""

    kind: str
    payload: Path | bytes
    release: Release


@dataclass(frozen=True)
class Work:
    """A named computation.

    Attributes:
        key: its name.
        compute: called as `compute(progress)`; returns the message to send, or None when the work is local.
        to: who receives the message.
        spends: what the computation releases about the silo's data set; the message must say exactly this.
        publish: the message is for every member of the federation, for good, instead of `to`: it joins the pool.
    """

    key: str
    compute: Callable[[ProgressCallback], Message | None]
    to: tuple[str, ...] = ()
    spends: Spend | None = None
    publish: bool = False


@dataclass(frozen=True)
class Done:
    """The run ended well; `outputs` maps a file name to where it lies in the workspace."""

    outputs: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """The run cannot end well; `reason` is for people and holds no value of any table."""

    reason: str


Step = Work | Done | Failed


@dataclass(frozen=True)
class Received:
    """A verified, decrypted artifact as a half sees it; `path` lies in the private workspace."""

    sender: str
    kind: str
    path: Path
    digest: str


class Half(Protocol):
    """One party's side of a protocol."""

    def begin(self) -> Iterator[Step]:
        """Start, or start again after a crash."""

    def receive(self, artifact: Received) -> Iterator[Step]:
        """Take one artifact.

        Raises:
            InvalidArtifact: it is not what the protocol allows; the host quarantines it.
        """

    def deadline(self, name: str) -> Iterator[Step]:
        """The deadline of that name (today: "run") has passed; say who is still awaited."""


HalfFactory = Callable[[Context], Half]
