"""A run's life as both programs tell it: its record in the state file, its keys, the messages that begin and end it.

offered -> joined -> queued -> running -> done | failed | declined | cancelled. Every party keeps its own record. The
offer carries the specification and the coordinator's run key; each silo answers with a join that carries its own
run key to everybody; when all have joined and none of them is busy, the coordinator says begin. That one party
orders the runs keeps two silos from waiting for each other in different ones. Run keys are destroyed after the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from services.artifact import POOL, Digest, NoData, canonical_json, digest, parse_json
from services.chain import AUDIT, Chain
from services.contract import Message, Received
from services.errors import InvalidArtifact, SilokitError
from services.files import TEMPORARY, private_folder
from services.keys import SealingKey, SealTo, destroy, load_sealing, save_private
from services.state import LIVE, Phase, State, now_text

OFFER = "run.offer"
JOIN = "run.join"
BEGIN = "run.begin"
DECLINE = "run.decline"
DONE = "run.done"
FAILED = "run.failed"
CANCEL = "run.cancel"
ENDINGS = frozenset({DECLINE, FAILED, CANCEL})

LAST_WORDS = timedelta(days=1)
"""How long after a run's deadline its last message may still be read."""
LONGEST = timedelta(days=366)
"""The longest that a run may last: whatever is reckoned from its deadline stays within the calendar."""


class UnknownRun(SilokitError):
    """There is no such run here."""


class _Words(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Offer(_Words):
    """The coordinator's invitation; the specification's exact JSON text keeps the order of silos and columns."""

    spec: str
    deadline: AwareDatetime
    run_key: SealTo


class Join(_Words):
    """A silo's yes to one specification, with the key that this run's artifacts for it are sealed to."""

    run_key: SealTo
    spec: Digest


class Ending(_Words):
    """Why a run ended before its result; from a silo it never says more than that the silo cannot go on."""

    reason: str = Field(max_length=500)


Words = TypeVar("Words", bound=_Words)


def say(kind: str, words: BaseModel | None = None) -> Message:
    """A control message: nothing in it derives from private rows."""
    return Message(kind, canonical_json(words.model_dump(mode="json") if words else {}), NoData())


def hear(path: Path, model: type[Words]) -> Words:
    """Read a control message.

    Raises:
        InvalidArtifact: it is not of the model's form.
    """
    try:
        return model.model_validate(parse_json(path.read_bytes()))
    except ValidationError as error:
        raise InvalidArtifact(f"a control message is malformed ({model.__name__})") from error


@dataclass(frozen=True)
class Run:
    """One run as this party knows it.

    Attributes:
        text: the run specification, exactly as the coordinator wrote it.
        spec: the same, parsed.
        parties: those who joined, and their public run keys.
    """

    run: str
    phase: Phase
    text: str
    spec: Mapping[str, Any]
    coordinator: str
    created: datetime
    deadline: datetime
    detail: str
    parties: Mapping[str, str]
    progress: Mapping[str, Any]
    ended: datetime | None
    attempts: int

    @property
    def protocol(self) -> str:
        """The protocol's name."""
        return str(self.spec["protocol"])

    @property
    def silos(self) -> tuple[str, ...]:
        """The participants, in the specification's order."""
        return tuple(self.spec["silos"])

    @property
    def spec_hash(self) -> str:
        """What every artifact of the run is bound to."""
        return digest(self.text.encode())

    def may_end(self, sender: str, kind: str, *, me: str) -> bool:
        """Whether a message ends the run here: at a silo its coordinator's, at the coordinator a participant's."""
        if me == self.coordinator:
            return sender in self.silos and kind in {DECLINE, FAILED}
        return sender == self.coordinator and kind in {FAILED, CANCEL}

    def awaited(self) -> tuple[str, ...]:
        """Participants that have not joined."""
        return tuple(silo for silo in self.silos if silo not in self.parties)

    def keys(self, names: tuple[str, ...]) -> dict[str, SealTo]:
        """The run keys of some parties.

        Raises:
            UnknownRun: one of them has not joined.
        """
        if absent := [name for name in names if name not in self.parties]:
            raise UnknownRun(f"{', '.join(absent)} did not join run {self.run}")
        return {name: SealTo(self.parties[name]) for name in names}


class RunBook:
    """The runs in a party's state file."""

    def __init__(self, state: State) -> None:
        self._state = state

    def open(self, run: str, text: str, coordinator: str, created: datetime, deadline: datetime) -> None:
        """Write a new run down as offered; an older record of the same name stays as it is.

        Raises:
            InvalidArtifact: no run may have this name.
        """
        if run == POOL:
            raise InvalidArtifact(f"no run may be called {POOL!r}: published generators lie under that name")
        self._state.write(
            "INSERT OR IGNORE INTO runs (run, phase, spec, coordinator, created, deadline) VALUES (?,?,?,?,?,?)",
            *(run, "offered", text, coordinator, now_text(created), now_text(deadline)),
        )

    def find(self, run: str) -> Run | None:
        """A run, if this party knows it."""
        row = self._state.row("SELECT * FROM runs WHERE run=?", run)
        return _run(row) if row else None

    def get(self, run: str) -> Run:
        """A run that this party knows.

        Raises:
            UnknownRun: it knows no such run.
        """
        found = self.find(run)
        if found is None:
            known = ", ".join(r.run for r in self.all()[-5:]) or "none"
            raise UnknownRun(f"there is no run {run!r} here", fix=f"known runs: {known}")
        return found

    def all(self) -> list[Run]:
        """Every run, oldest first."""
        return [_run(row) for row in self._state.rows("SELECT * FROM runs ORDER BY created, run")]

    def live(self, *phases: Phase) -> list[Run]:
        """Runs in these phases (all that have not ended by default), oldest first."""
        wanted = phases or LIVE
        marks = ",".join("?" * len(wanted))
        rows = self._state.rows(f"SELECT * FROM runs WHERE phase IN ({marks}) ORDER BY created, run", *wanted)
        return [_run(row) for row in rows]

    def unsettled(self) -> list[Run]:
        """Runs that have not ended, and those whose end this party has not told yet; oldest first."""
        rows = self._state.rows(
            "SELECT * FROM runs WHERE NOT EXISTS (SELECT 1 FROM steps WHERE steps.run=runs.run AND step='ending') "
            "ORDER BY created, run"
        )
        return [_run(row) for row in rows]

    def move(self, run: str, to: Phase, at: datetime, detail: str = "", *, only: tuple[Phase, ...] = LIVE) -> bool:
        """Move a run to another phase; returns False, changing nothing, unless it is in one of `only`."""
        marks = ",".join("?" * len(only))
        with self._state.transaction():
            moved = self._state.write(
                f"UPDATE runs SET phase=?, detail=?, ended=? WHERE run=? AND phase IN ({marks})",
                *(to, detail, None if to in LIVE else now_text(at), run, *only),
            )
            if moved:
                Chain(self._state, AUDIT).append(f"run {to}", at, run=run, detail=detail)
        return bool(moved)

    def admit(self, run: str, party: str, key: str) -> None:
        """Write down that a party joined under its run key; a second, different key is not taken.

        Raises:
            InvalidArtifact: the party joined before with another key.
        """
        with self._state.transaction():
            parties = dict(self.get(run).parties)
            if parties.setdefault(party, key) != key:
                raise InvalidArtifact(f"{party} joined run {run} twice, with different keys")
            self._state.write("UPDATE runs SET parties=? WHERE run=?", json.dumps(parties), run)

    def welcome(self, run: Run, artifact: Received) -> None:
        """Take a silo's join. One that overtook the offer was never compared with it: its own words tell.

        Raises:
            InvalidArtifact: it is malformed, says yes to something else, or contradicts an earlier one.
        """
        join = hear(artifact.path, Join)
        if join.spec != run.spec_hash:
            raise InvalidArtifact(f"{artifact.sender} joined another run specification under the name {run.run}")
        self.admit(run.run, artifact.sender, join.run_key.hex)

    def note_progress(self, run: str, progress: Mapping[str, Any]) -> None:
        """Keep what `status` shows of the work under way."""
        self._state.write("UPDATE runs SET progress=? WHERE run=?", json.dumps(progress), run)

    def note_crash(self, run: str, change: int) -> int:
        """Count a crash of the half outside any artifact; returns how many there were."""
        self._state.write("UPDATE runs SET attempts=attempts+? WHERE run=?", change, run)
        return self.get(run).attempts


class RunKeys:
    """The private halves of this party's run keys, one file per run."""

    def __init__(self, folder: Path, grace: timedelta = timedelta(hours=1)) -> None:
        self._folder = private_folder(folder)
        self._grace = grace
        for half_written in self._folder.glob(f"{TEMPORARY}*"):  # a crash left it: no run knows it, none destroys it
            destroy(half_written)

    def make(self, run: str) -> SealTo:
        """The public half of the run's key, made now unless it exists."""
        path = self._path(run)
        if not path.exists():
            save_private(path, SealingKey.generate())
        return load_sealing(path).public

    def find(self, run: str) -> SealingKey | None:
        """The private key of a run; None when there is none (any more)."""
        path = self._path(run)
        return load_sealing(path) if path.exists() else None

    def destroy(self, run: str) -> None:
        """Destroy the run's key: what was sealed to it can never be opened again."""
        if self._path(run).exists():
            destroy(self._path(run))

    def sweep(self, find: Callable[[str], Run | None], now: datetime) -> None:
        """Destroy the keys of runs that ended longer ago than the grace period."""
        for path in self._folder.glob("*.key"):
            run = find(path.stem)
            if run is not None and run.ended is not None and now >= run.ended + self._grace:
                self.destroy(run.run)

    def _path(self, run: str) -> Path:
        return self._folder / f"{run}.key"


def _run(row: Any) -> Run:
    return Run(
        run=row["run"],
        phase=row["phase"],
        text=row["spec"],
        spec=json.loads(row["spec"]),
        coordinator=row["coordinator"],
        created=datetime.fromisoformat(row["created"]),
        deadline=datetime.fromisoformat(row["deadline"]),
        detail=row["detail"],
        parties=json.loads(row["parties"]),
        progress=json.loads(row["progress"]),
        ended=datetime.fromisoformat(row["ended"]) if row["ended"] else None,
        attempts=row["attempts"],
    )
