"""The pool as this silo knew it at the last refresh: in the state file, for every command to read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from services.errors import InvalidArtifact, SilokitError
from services.mechanism import Mechanism, composed
from services.state import State
from services.trust.catalog import Listed, Published, read_release

REFRESHED = "pool.refreshed"
"""The fact that tells when the pool was read, whose catalogs could not be, and what silos have spent."""
MAX_DELTA = 1e-3
_MOST_SAMPLED = 16  # different sampled mechanisms of one silo: each costs time to recompute

Standing = Literal["listed", "pulled", "refused", "withdrawn"]


class UnknownGenerator(SilokitError):
    """The pool lists no such generator, or several."""


@dataclass(frozen=True)
class Entry:
    """A generator as this silo sees it.

    Attributes:
        listed: what its silo says of it.
        epsilon: recomputed; None where the claim does not add up.
        state: listed, pulled, refused, or withdrawn by its silo after it was pulled.
        why: of a refusal.
    """

    listed: Listed
    epsilon: float | None
    state: Standing
    why: str = ""


@dataclass(frozen=True)
class Total:
    """What a silo's generators on one data set cost its people together; None where that cannot be told.

    Of those that it lists now, or that were pulled here before it withdrew them: the others have been spent too, but
    nobody but the silo remembers them.
    """

    silo: str
    dataset: str
    generators: int
    epsilon: float | None
    delta: float | None


class PoolIndex:
    """The index in a silo's state file.

    Args:
        state: the silo's state; for reading is enough to read.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def entries(self) -> list[Entry]:
        """Everything, by silo, run and digest."""
        return [_entry(row) for row in self._state.rows("SELECT * FROM pool ORDER BY silo, digest")]

    def summary(self) -> dict[str, Any]:
        """When the pool was read, and what could not be.

        Raises:
            UnknownGenerator: it was never read.
        """
        found = self._state.fact(REFRESHED)
        if found is None:
            raise UnknownGenerator(
                "the pool has not been read yet", fix="run `silo-agent pool refresh` while the agent serves"
            )
        return dict(found)

    def totals(self) -> list[Total]:
        """What every silo has spent on each data set, as it was reckoned at the last refresh."""
        return [Total(**one) for one in self.summary()["totals"]]

    def find(self, name: str) -> Entry:
        """One generator by its digest, `SILO/DIGEST`, or the beginning of either.

        Raises:
            UnknownGenerator: there is none, or there are several.
        """
        silo, slash, start = name.rpartition("/")
        rows = self._state.rows(
            "SELECT * FROM pool WHERE substr(digest, 1, ?)=? AND (?='' OR silo=?)", len(start), start, slash, silo
        )
        if len(rows) != 1 or not start:
            raise UnknownGenerator(
                f"{len(rows) or 'no'} generators of the pool are called {name!r}",
                fix="see `silo-agent pool list`; after `pool refresh`, if it is new",
            )
        return _entry(rows[0])

    def choose(
        self, names: Sequence[str] = (), *, run: str | None = None, silo: str | None = None, everything: bool = False
    ) -> list[Entry]:
        """The generators that people mean, whatever their state.

        Args:
            names: as for `find`.
            run: all of one run.
            silo: all of one silo.
            everything: all there are.

        Raises:
            UnknownGenerator: a name is none, or nothing was named at all.
        """
        if names:
            return [self.find(name) for name in names]
        if not (run or silo or everything):
            raise UnknownGenerator("no generator was named", fix="name some, or give --run, --silo or --all")
        return [
            one
            for one in self.entries()
            if (run is None or one.listed.about.run == run) and (silo is None or one.listed.silo == silo)
        ]

    def keep(self, entries: Iterable[Entry], summary: dict[str, Any]) -> None:
        """Put what was read in the place of what was known."""
        with self._state.transaction():
            self._state.write("DELETE FROM pool")
            for one in entries:
                self._state.write("INSERT INTO pool VALUES (?,?,?,?,?,?,?,?)", *_row(one))
            self._state.remember(REFRESHED, summary)

    def mark(self, one: Listed, state: Standing, why: str = "") -> None:
        """Write down what became of a generator."""
        self._state.write("UPDATE pool SET state=?, why=? WHERE silo=? AND digest=?", state, why, one.silo, one.digest)


class Judge:
    """Recomputes claims, with bounded time for each silo; one judge for one reading of the pool.

    Args:
        ceiling: the most ε that this silo's policy takes.
    """

    def __init__(self, ceiling: float) -> None:
        self._ceiling = ceiling
        self._sampled: dict[str, set[str]] = {}

    def judge(self, one: Listed) -> Entry:
        """A generator with its recomputed ε, refused where its claim does not add up or asks too much."""
        try:
            mechanism, delta = claim(one.about.release)
        except InvalidArtifact as error:
            return Entry(one, None, "refused", error.what)
        known = self._sampled.setdefault(one.silo, set())
        if "sampled" in one.about.release:
            known.add(one.about.release)
        if len(known) > _MOST_SAMPLED:
            return Entry(one, None, "refused", f"{one.silo} claims more kinds of mechanisms than are recomputed")
        epsilon = mechanism.epsilon(delta)
        if delta > MAX_DELTA:
            return Entry(one, epsilon, "refused", f"δ = {delta:g} is above {MAX_DELTA:g}")
        if not epsilon <= self._ceiling:
            return Entry(one, epsilon, "refused", f"ε = {epsilon:.3g} is above this silo's ceiling, {self._ceiling:g}")
        return Entry(one, epsilon, "listed")


def totals(entries: Iterable[Entry]) -> list[Total]:
    """What each silo's generators on one data set cost together: the composition of them all, refused ones too."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for one in entries:
        groups.setdefault((one.listed.silo, one.listed.about.dataset or ""), []).append(one)
    return [_total(silo, dataset, group) for (silo, dataset), group in sorted(groups.items())]


def _total(silo: str, dataset: str, group: Sequence[Entry]) -> Total:
    if any(one.epsilon is None for one in group):
        return Total(silo, dataset, len(group), None, None)
    claims = [claim(one.listed.about.release) for one in group]
    delta = min(one for _, one in claims)
    try:
        return Total(silo, dataset, len(group), composed(one for one, _ in claims).epsilon(delta), delta)
    except ValueError:  # too many kinds to be composed: sums are a bound too
        return Total(silo, dataset, len(group), sum(one.epsilon or 0 for one in group), sum(one for _, one in claims))


@lru_cache(maxsize=4096)
def claim(release: str) -> tuple[Mechanism, float]:
    """The mechanism and the δ of a release as the catalog carries it.

    Raises:
        InvalidArtifact: it is malformed, or its mechanism is none of those whose ε is recomputed, or it claims nothing
            about who took part.
    """
    spend = read_release(release)
    try:
        mechanism = Mechanism.model_validate(spend.mechanism)
    except ValidationError:
        raise InvalidArtifact("its mechanism is none of those whose ε is recomputed, or malformed") from None
    if mechanism.adjacency != "add-or-remove-one":
        raise InvalidArtifact("its claim does not cover who took part, as the pool's do")
    return mechanism, spend.delta


def own_copy(outputs: Path, one: Listed) -> Path:
    """Where a pulled generator is kept."""
    return outputs / "pool" / one.silo / f"{one.digest}.generator"


def _entry(row: Any) -> Entry:
    # what the state file holds was checked when it was written
    about = json.loads(row["about"])
    about["seals"] = tuple(about["seals"])
    said = Published.model_construct(**about)
    listed = Listed(row["silo"], row["digest"], row["sha256"], row["length"], said)
    return Entry(listed, row["epsilon"], row["state"], row["why"])


def _row(one: Entry) -> tuple[Any, ...]:
    listed = one.listed
    about = listed.about.model_dump_json()
    return (listed.silo, listed.digest, listed.sha256, listed.length, about, one.epsilon, one.state, one.why)
