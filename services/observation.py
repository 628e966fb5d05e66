"""What a party's state file, trust and disk tell when somebody asks: the derived metrics of `services.metrics`.

Reads with a connection of its own, which holds up no writer. What is over for good (an artifact that left, one that
came) is read once and remembered, so that an answer does not grow slower with a party's age.
"""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from prometheus_client import Metric
from prometheus_client.registry import Collector

from services import metrics
from services.certificates import read_certificate
from services.enrolment import TLS_CERTIFICATE
from services.errors import SilokitError
from services.health import ASK_BROKER, ASK_STORE
from services.home import STATE_FILE
from services.ledger import Budget
from services.ledger.account import divergence
from services.metrics import MOST_KINDS, OTHER, Values
from services.party import Party
from services.runs import Run, RunBook
from services.state import CALLED_OFF, LIVE, State
from services.versions import program_version
from services.wiring import Assembly

Role = Literal["coordinator", "silo"]
Budgets = Callable[[], Mapping[str, Budget]]
Gpu = Callable[[], Mapping[str, float]]
_PHASES = (*LIVE, "done", *CALLED_OFF)


class Observation(Collector):
    """The derived metrics of one party.

    Args:
        parts: its parts.
        party: it, running.
        role: what it is.
        budgets: what its policy grants, by data set.
        gpu: GPU memory in bytes, by kind; asked at each look, and quick.
    """

    def __init__(self, parts: Assembly, party: Party, role: Role, budgets: Budgets, gpu: Gpu) -> None:
        self._parts = parts
        self._party = party
        self._info = (role, parts.config.federation, program_version())
        self._budgets = budgets
        self._gpu = gpu
        self._protocols: dict[str, str] = {}
        self._sent, self._received = _Sent(), _Received()
        self._asking = threading.Lock()  # two who ask at once would both count what is new

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        now = self._parts.clock()
        config = self._parts.config
        yield metrics.INFO.family({self._info: 1.0})
        yield metrics.GPU_MEMORY.family({(kind,): size for kind, size in self._gpu().items()})
        yield from self._life()
        with self._asking, State(config.home, writer=False) as state, state.snapshot():
            yield from self._runs(state, now)
            yield from self._artifacts(state, now)
            yield from self._privacy(state)

    def _life(self) -> Iterator[Metric]:
        home, vitals, quiet = self._parts.config.home, self._party.vitals, self._party.host.quiet
        yield metrics.COMPUTING.family(float(quiet is not None))
        yield metrics.QUIET.family(quiet or 0.0)
        if vitals.skew is not None:
            yield metrics.CLOCK_SKEW.family(vitals.skew.total_seconds())
        yield metrics.STATE_BYTES.family(float(sum(path.stat().st_size for path in home.glob(f"{STATE_FILE}*"))))
        disk = shutil.disk_usage(home)
        yield metrics.DISK_FREE.family(float(disk.free))
        yield metrics.DISK_SIZE.family(float(disk.total))
        ends: dict[tuple[str, ...], float] = {}
        if (known := self._parts.trust.known) is not None:
            moments = {"roster": known.expires, "root": known.root_expires, "timestamp": known.fresh_until}
            ends = {(what,): moment.timestamp() for what, moment in moments.items()}
        if (path := home / TLS_CERTIFICATE).exists():
            ends["certificate",] = read_certificate(path).not_valid_after_utc.timestamp()
        yield metrics.EXPIRY.family(ends)

    # runs

    def _runs(self, state: State, now: datetime) -> Iterator[Metric]:
        rows = state.rows("SELECT run, phase, ended FROM runs")
        counts = Counter((self._protocol(state, row["run"]), row["phase"]) for row in rows)
        protocols = sorted({protocol for protocol, _ in counts})
        yield metrics.RUNS.family(
            {(name, phase): float(counts[name, phase]) for name in protocols for phase in _PHASES}
        )
        steps, seconds = dict.fromkeys(protocols, 0.0), dict.fromkeys(protocols, 0.0)
        for row in state.rows("SELECT run, count(*) AS steps, sum(seconds) AS seconds FROM steps GROUP BY run"):
            if (name := self._protocols.get(row["run"])) is not None:
                steps[name] += row["steps"]
                seconds[name] += row["seconds"]
        yield metrics.STEPS.family(_labelled(steps))
        yield metrics.STEP_SECONDS.family(_labelled(seconds))
        yield self._successes([row["ended"] for row in rows if row["phase"] == "done"], now)
        living = RunBook(state).live()
        yield from self._silos(living, now)
        yield from _training([run for run in living if run.phase == "running" and run.progress])

    def _protocol(self, state: State, name: str) -> str:
        if name not in self._protocols:  # specifications are large, and never change
            self._protocols[name] = RunBook(state).get(name).protocol
        return self._protocols[name]

    def _successes(self, ended: Sequence[str], now: datetime) -> Metric:
        vitals = self._party.vitals
        answers = {"store": vitals.since(*ASK_STORE), "broker": vitals.since(*ASK_BROKER)}
        found = {what: now.timestamp() - seconds for what, seconds in answers.items() if seconds is not None}
        if ended:
            found["run"] = _moment(max(ended))
        return metrics.LAST_SUCCESS.family(_labelled(found))

    def _silos(self, living: Sequence[Run], now: datetime) -> Iterator[Metric]:
        known = self._parts.trust.known
        enrolled = known.roster.members.keys() - {known.roster.coordinator} if known else set()
        awaited: Counter[str] = Counter()
        running: Counter[str] = Counter()
        shares: dict[str, float] = {}
        for run in living:
            running.update(run.silos if run.phase == "running" else ())
            awaited.update(run.awaited())
            share = (now - run.created) / (run.deadline - run.created)
            shares.update({silo: max(share, shares.get(silo, 0.0)) for silo in run.awaited()})
        invited = sum(len(run.silos) for run in living)
        contributors = {
            "enrolled": len(enrolled), "invited": invited, "joined": invited - awaited.total(),
            "awaited": awaited.total(),
        }  # fmt: skip
        yield metrics.CONTRIBUTORS.family(_labelled(contributors))
        names = sorted(enrolled | awaited.keys() | running.keys())
        yield metrics.AWAITED.family({(name,): float(awaited[name]) for name in names})
        yield metrics.AWAITED_SHARE.family({(name,): shares.get(name, 0.0) for name in names})
        yield metrics.TAKING_PART.family({(name,): float(running[name]) for name in names})

    # artifacts

    def _artifacts(self, state: State, now: datetime) -> Iterator[Metric]:
        unsent = state.rows("SELECT rowid, sealed FROM outbox WHERE sent IS NULL")
        counts, sizes = self._sent.look(state, min((row["rowid"] for row in unsent), default=None))
        yield metrics.SENT.family(_kinds(counts))
        yield metrics.SENT_BYTES.family(_kinds(sizes))
        counts, last = self._received.look(state)
        yield metrics.RECEIVED.family(_kinds(counts))
        yield metrics.LAST_HEARD.family(_labelled({silo: _moment(text) for silo, text in last.items()}))
        unjudged = state.rows("SELECT arrived FROM arrivals WHERE outcome IS NULL")
        unused = state.rows(  # what came for a run that has ended meanwhile waits for nobody
            "SELECT received FROM inbox LEFT JOIN runs USING (run) WHERE state IN ('ready', 'handed') AND ended IS NULL"
        )
        waiting = {
            "out": [row["sealed"] for row in unsent],
            "in": [row["arrived"] for row in unjudged],
            "work": [row["received"] for row in unused],
        }
        yield metrics.QUEUE.family(_labelled({queue: len(since) for queue, since in waiting.items()}))
        ages = {queue: now.timestamp() - _moment(min(since)) if since else 0.0 for queue, since in waiting.items()}
        yield metrics.QUEUE_AGE.family(_labelled(ages))

    # privacy

    def _privacy(self, state: State) -> Iterator[Metric]:
        try:
            budgets = self._budgets()
        except SilokitError:  # somebody is at work on the policy
            return
        paid: dict[str, dict[str, list[tuple[str, int]]]] = {name: {} for name in budgets}
        for row in state.rows(
            "SELECT dataset, run, mechanism, count(*) AS times FROM charges GROUP BY dataset, run, mechanism"
        ):
            if row["dataset"] in budgets:
                protocol = self._protocols.get(row["run"], OTHER)
                paid[row["dataset"]].setdefault(protocol, []).append((row["mechanism"], row["times"]))
        spent: dict[str, float] = {}
        limits: dict[str, float] = {}
        used: dict[tuple[str, ...], float] = {}
        for dataset, budget in budgets.items():
            life = budget.filter
            parts = {protocol: divergence(charges, life.order) for protocol, charges in paid[dataset].items()}
            spent[dataset] = life.epsilon(sum(parts.values()))
            limits[dataset] = budget.epsilon_for_life
            for protocol, part in parts.items():
                used[dataset, protocol] = part / life.limit if life.limit > 0 else float(part > 0)
            if not parts:
                used[dataset, OTHER] = 0.0
        yield metrics.EPSILON_SPENT.family(_labelled(spent))
        yield metrics.EPSILON_LIMIT.family(_labelled(limits))
        yield metrics.BUDGET_USED.family(used)


class _Sent:
    """What was sent, by kind: artifacts and bytes. Rows before the first unsent one never change again."""

    def __init__(self) -> None:
        self._row = 0
        self._counts: Counter[str] = Counter()
        self._sizes: Counter[str] = Counter()

    def look(self, state: State, unsent: int | None) -> tuple[Counter[str], Counter[str]]:
        counts, sizes = Counter[str](), Counter[str]()  # of what comes after it, counted again next time
        for row in state.rows(
            "SELECT rowid, kind, bytes FROM outbox WHERE sent IS NOT NULL AND rowid > ? ORDER BY rowid", self._row
        ):
            settled = unsent is None or row["rowid"] < unsent
            (self._counts if settled else counts)[row["kind"]] += 1
            (self._sizes if settled else sizes)[row["kind"]] += row["bytes"]
            self._row = row["rowid"] if settled else self._row
        return self._counts + counts, self._sizes + sizes


class _Received:
    """What was opened, by kind, and when each sender was heard last. A row never changes in that."""

    def __init__(self) -> None:
        self._row = 0
        self._counts: Counter[str] = Counter()
        self._last: dict[str, str] = {}

    def look(self, state: State) -> tuple[Counter[str], Mapping[str, str]]:
        for row in state.rows(
            "SELECT rowid, kind, sender, received, path FROM inbox WHERE rowid > ? ORDER BY rowid", self._row
        ):
            self._counts[row["kind"]] += row["path"] is not None
            self._last[row["sender"]] = max(row["received"], self._last.get(row["sender"], ""))
            self._row = row["rowid"]
        return self._counts, self._last


def _training(running: Sequence[Run]) -> Iterator[Metric]:
    done: dict[tuple[str, ...], float] = {}
    total: dict[tuple[str, ...], float] = {}
    loss: dict[tuple[str, ...], float] = {}
    for run in running:
        labels = (run.protocol, str(run.progress["phase"]))
        done[labels], total[labels] = float(run.progress["done"]), float(run.progress["total"])
        if run.progress["loss"] is not None:
            loss[labels] = float(run.progress["loss"])
    yield metrics.PROGRESS.family(done)
    yield metrics.PROGRESS_OF.family(total)
    yield metrics.LOSS.family(loss)


def _labelled(values: Mapping[str, float]) -> Values:
    return {(name,): float(value) for name, value in values.items()}


def _kinds(counts: Counter[str]) -> Values:
    """By kind, the rarest together: whoever invents kinds makes no more series."""
    common = dict(counts.most_common(MOST_KINDS))
    rest: Any = counts.total() - sum(common.values())
    return _labelled({**common, **({OTHER: rest} if rest else {})})


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
