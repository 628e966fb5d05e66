"""A whole federation in one process: n silos and a coordinator over a store and a bus in memory, and a clock to move.

The test double for everything: real keys, real seals, real state files, real desks; only the wire is made of
dictionaries. Tests play scenarios with it, lose and forge what travels, kill and restart parties.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import protocols
from coordinator.desk import CoordinatorDesk
from coordinator.trust.draft import Draft
from coordinator.trust.kept import KeptTrust
from coordinator.trust.metadata import make_root, make_targets, roster_bytes
from coordinator.trust.repository import Repository
from protocols.spec import parse_spec
from services.bus import BusError, Notice
from services.contract import Context, Message
from services.errors import StoreError
from services.keyring import KeyRing
from services.keys import SigningKey
from services.ledger import Budget
from services.party import Party
from services.runs import Run
from services.state import State
from services.store import ObjectAbsent, ObjectTooLarge, check_key
from services.trust import Roster
from services.trust.root import pin
from services.trust.tuf import News, TufTrust
from services.wiring import Assembly, BusConfig, PartyConfig, StoreConfig, assemble
from silo_agent.desk import SiloDesk
from silo_agent.policy import TABLE, TABLE_REASON, Policy
from silo_agent.spending import Spending

protocols.register("echo", "tests.echo")

FEDERATION = "testers"
HUB = "coordinator"
DATASET = "records"
BUDGET = Budget(epsilon_per_run=3.0, epsilon_for_life=10.0, delta=1e-5)


class MemoryStore:
    """An `ObjectStore` in a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.down = False
        self.gets: list[str] = []

    def put(self, key: str, source: Path | bytes) -> bool:
        self._up()
        if check_key(key) in self.objects:
            return False
        self.objects[key] = source if isinstance(source, bytes) else source.read_bytes()
        return True

    def replace(self, key: str, content: bytes) -> None:
        self._up()
        self.objects[check_key(key)] = content

    def get(self, key: str, target: Path, limit: int) -> None:
        target.write_bytes(self.read(key, limit))

    def read(self, key: str, limit: int) -> bytes:
        self._up()
        self.gets.append(key)
        if key not in self.objects:
            raise ObjectAbsent(f"there is no object {key}")
        if len(self.objects[key]) > limit:
            raise ObjectTooLarge(f"{key} is larger than {limit} bytes")
        return self.objects[key]

    def stat(self, key: str) -> int | None:
        return len(self.objects[key]) if key in self.objects else None

    def list(self, prefix: str) -> Iterator[str]:
        self._up()
        yield from sorted(key for key in self.objects if key.startswith(prefix))

    def delete(self, prefix: str) -> int:
        doomed = list(self.list(prefix))
        for key in doomed:
            del self.objects[key]
        return len(doomed)

    def time(self) -> datetime | None:
        return None

    def _up(self) -> None:
        if self.down:
            raise StoreError("the store is down")


class MemoryBus:
    """Queues for everybody; `of(name)` is one party's `EventBus`."""

    def __init__(self) -> None:
        self.queues: dict[str, list[Notice]] = defaultdict(list)
        self.lose = 0.0
        self.copies = 1
        self.shuffle = False
        self.down = False
        self.chance = random.Random(7)
        self._count = 0

    def of(self, me: str) -> _Queue:
        return _Queue(self, me)

    def send(self, recipient: str, notice: Notice) -> None:
        for _ in range(self.copies):
            self._count += 1
            if self.chance.random() >= self.lose:
                self.queues[recipient].append(Notice(notice.object, str(self._count)))


@dataclass
class _Queue:
    bus: MemoryBus
    me: str

    def announce(self, recipient: str, notice: Notice) -> None:
        self._up()
        self.bus.send(recipient, notice)

    def consume(self, limit: int = 100) -> list[Notice]:
        self._up()
        queue = self.bus.queues[self.me]
        if self.bus.shuffle:
            self.bus.chance.shuffle(queue)
        return queue[:limit]

    def acknowledge(self, notice: Notice) -> None:
        queue = self.bus.queues[self.me]
        self.bus.queues[self.me] = [one for one in queue if one.token != notice.token]

    def wait_ready(self, seconds: float) -> None:
        self._up()

    def close(self) -> None:
        pass

    def _up(self) -> None:
        if self.bus.down:
            raise BusError("the bus is down")


def permissive(protocol: str, **changes: Any) -> Policy:
    """A policy that lets a protocol run."""
    allowed = {**protocols.sentences(protocol), TABLE: TABLE_REASON}
    return Policy(
        **{
            "protocols": (protocol,), "unprotected": allowed, "minimum_rows": 2, "approval": "automatic",
            "datasets": {DATASET: BUDGET}, **changes,
        }
    )  # fmt: skip


@dataclass
class World:
    """The federation.

    Args:
        folder: a folder for everybody's private folders.
        silos: their names.
        protocol: what the policies allow.
        store: what everybody's artifacts lie in; a dictionary unless told otherwise.
        bus: `of(name)` is one party's bus.
        skew: by how much parties' clocks are wrong.
    """

    folder: Path
    silos: tuple[str, ...] = ("north", "south", "west")
    protocol: str = "echo"
    tables: dict[str, Path] = field(default_factory=dict)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    store: Any = field(default_factory=MemoryStore)
    bus: Any = field(default_factory=MemoryBus)
    skew: dict[str, timedelta] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.holder = SigningKey.generate()
        self.repository = Repository(self.folder / "repository", FEDERATION, lambda: self.clock_of(HUB))
        self.rings = {name: KeyRing.create(self.home(name), name) for name in (HUB, *self.silos)}
        self.policies = {silo: permissive(self.protocol) for silo in self.silos}
        self.parts: dict[str, Assembly] = {}
        self.desks: dict[str, SiloDesk | CoordinatorDesk] = {}
        self.parties: dict[str, Party] = {}
        self.asleep: set[str] = set()
        self.publish_roster()
        for name in self.rings:
            pin(self.home(name) / "trust", self.repository.root_bytes)
            self.start(name)

    @property
    def hub(self) -> CoordinatorDesk:
        desk = self.desks[HUB]
        assert isinstance(desk, CoordinatorDesk)
        return desk

    def silo(self, name: str) -> SiloDesk:
        desk = self.desks[name]
        assert isinstance(desk, SiloDesk)
        return desk

    def clock(self) -> datetime:
        return self.now

    def clock_of(self, name: str) -> datetime:
        """What a party takes for the present."""
        return self.clock() + self.skew.get(name, timedelta())

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def publish_roster(self, *, without: tuple[str, ...] = (), days: float = 30, **changes: Any) -> None:
        """Have the keyholder sign the members, and show them in the store."""
        members = {name: ring.public for name, ring in self.rings.items() if name not in without}
        roster = Roster(**{"federation": FEDERATION, "coordinator": HUB, "members": members, **changes})
        before = self.repository.root if self.repository.founded else None
        online = None if before else self.repository.draw_online().public
        root = make_root(1, {"holder": self.holder.public}, 1, online, self.now) if online else None
        version = self.repository.targets.version + 1 if before else 1
        targets = make_targets(version, roster, self.now + timedelta(days=days))
        self.repository.publish(Draft.make(before, root, targets, roster_bytes(roster)).sign(self.holder))
        self.repository.upload(self.store)

    # parties

    def start(self, name: str) -> None:
        """Start a party, or start it again from its state file."""
        role = "coordinator" if name == HUB else "silo"

        def context(run: Run, workspace: Path) -> Context:
            return Context(
                run=run.run, spec=run.spec, me=name, coordinator=run.coordinator, silos=run.silos, workspace=workspace,
                data=self.tables.get(name), minimum_rows=2 if name == HUB else self.policies[name].minimum_rows,
            )  # fmt: skip

        parts = assemble(
            config=PartyConfig(
                federation=FEDERATION, name=name, home=self.home(name),
                outputs=self.folder / name / "outputs",
                store=StoreConfig(folder=self.folder / "no-store"), bus=BusConfig(sqlite=self.folder / "unused"),
            ),
            ring=self.rings[name],
            trust=lambda news: self.trust(name, news),
            store=self.store,
            bus=self.bus.of(name),
            guard=lambda run, message, to: "" if name == HUB else self.judge(name, run, message, to),
            load=lambda protocol: protocols.half(protocol, role),
            context=context,
            reserve=lambda state: self.spending(name, state).reserve,
            clock=lambda: self.clock_of(name),
        )  # fmt: skip
        self.parts[name] = parts
        self.desks[name] = (
            CoordinatorDesk(parts, self.repository.adopt)
            if name == HUB
            else SiloDesk(
                parts, lambda: self.policies[name],
                check_data=lambda run: self.check_data(name, run), check_budget=self.spending(name, parts.state).check,
                outputs=self.outputs(name),
            )
        )  # fmt: skip
        self.parties[name] = parts.party(self.desks[name])
        parts.trust.refresh()

    def judge(self, name: str, run: str, message: Message, to: Sequence[str]) -> str:
        known = self.parts[name].book.find(run)
        return self.policies[name].check_message(message, to, parse_spec(known.spec) if known else None)

    def spending(self, name: str, state: State) -> Spending:
        return Spending(state, DATASET, lambda: self.policies[name], lambda: self.clock_of(name))

    def trust(self, name: str, news: News) -> TufTrust:
        parts = {
            "federation": FEDERATION, "folder": self.home(name) / "trust", "store": self.store,
            "clock": lambda: self.clock_of(name),
            "news": news,
        }  # fmt: skip
        return KeptTrust(self.repository, **parts) if name == HUB else TufTrust(**parts)

    def home(self, name: str) -> Path:
        return self.folder / name / "state"

    def check_data(self, name: str, run: Run) -> None:
        """What a silo looks at before it joins; tests replace it."""

    def kill(self, name: str) -> None:
        """A party vanishes between two steps; what it had in memory is gone."""
        self.parts.pop(name).state.close()
        self.parties.pop(name)
        self.desks.pop(name)

    def restart(self, name: str) -> None:
        if name in self.parts:
            self.kill(name)
        self.start(name)

    def outputs(self, name: str) -> Path:
        return self.folder / name / "outputs"

    # life

    def turn(self) -> bool:
        """Everybody awake does one round; returns whether anything happened."""
        moved = False
        for name in list(self.parties):
            if name not in self.asleep and name in self.parties:
                moved |= self.parties[name].exchange()
                moved |= self.parties[name].host.work_once(self.desks[name])
        return moved

    def settle(self, rounds: int = 2000) -> None:
        """Let everybody work until nothing moves, with lost notices found by listing."""
        for _ in range(rounds):
            if self.turn():
                continue
            for name, party in self.parties.items():
                if name not in self.asleep:
                    for task in ("accept", "list"):  # whoever could not judge a moment ago tries again
                        party._paces.pop(task, None)
                    party._try("list", party.look_again)
            if not any([self.turn(), self.turn()]):
                return
        raise AssertionError("the world does not come to rest")

    def submit(self, **changes: Any) -> str:
        return self.hub.submit(self.spec(**changes))

    def spec(self, **changes: Any) -> dict[str, Any]:
        return {
            "name": "trial", "protocol": self.protocol, "silos": {silo: {} for silo in self.silos},
            "rows": 10, "deadline": "1h", **changes,
        }  # fmt: skip

    def run(self, name: str, run: str) -> Run:
        return self.parts[name].book.get(run)

    def phases(self, run: str) -> dict[str, str]:
        found = {name: parts.book.find(run) for name, parts in self.parts.items()}
        return {name: one.phase if one else "unknown" for name, one in found.items()}

    def quarantined(self, name: str) -> list[str]:
        return [row["reason"] for row in self.parts[name].state.rows("SELECT reason FROM quarantine ORDER BY id")]

    def alarms(self, name: str) -> int:
        return len(self.parts[name].state.rows("SELECT 1 FROM quarantine WHERE alarm=1"))

    def close(self) -> None:
        for name in list(self.parts):
            self.kill(name)
