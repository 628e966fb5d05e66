"""How fast a silo reads a large pool: 100 silos with 10 generators each, in a folder store.

A whole trust repository is founded, and every silo's signed catalog adopted. A *cold* refresh is that of a silo that
has never read the pool, in a process that has recomputed no ε yet: fetch and verify the roster and all catalogs,
recompute every distinct mechanism and every silo's sum, write the index. A *warm* one follows it. *List* reads the
index and makes the table, as `silo-agent pool list` does in its own process.

    python -m tests.benchmarks.bench_pool --silos 100 --generators 10 --rounds 5

Prints one JSON object: medians in seconds by the clock and on the processor (`_cpu`), which another load of the machine
does not change; and how long the first round took, which loads the accounting library.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from coordinator.trust.draft import Draft
from coordinator.trust.metadata import make_root, make_targets, roster_bytes, signed
from coordinator.trust.repository import Repository
from services import mechanism
from services.artifact import digest
from services.bus.sqlite import SqliteBus
from services.errors import ConfigError
from services.keyring import KeyRing
from services.keys import Identity, SigningKey
from services.mechanism import Composed, Event, Gaussian, Mechanism, Repeated, Sampled
from services.state import State
from services.store.folder import FolderStore
from services.trust import Roster
from services.trust.catalog import GENERATOR, Listed, Published, make_catalog, release_text
from services.trust.root import pin
from services.trust.tuf import TufTrust
from services.wiring import Assembly, BusConfig, PartyConfig, StoreConfig, assemble
from silo_agent.policy import Policy
from silo_agent.pool import index as pool_index
from silo_agent.pool.board import entries_text, entry_facts, totals_text
from silo_agent.pool.index import PoolIndex
from silo_agent.pool.puller import Pool
from tests.pool import spend

FED, HUB = "bench", "coordinator"


def mechanism_of(run: int) -> Mechanism:
    """What the silos of a run executed: sums with normal noise in most runs, sampled gradients in every fifth."""
    event: Event = Gaussian(noise_multiplier=6.0 + run)
    if run % 5 == 4:
        event = Composed(of=(event, Repeated(count=150, of=Sampled(rate=0.2, noise_multiplier=8.0 + run))))
    return Mechanism(event=event, partition="label")


class Bench:
    """A federation with a full pool; `reader()` is a silo that has never read it."""

    def __init__(self, folder: Path, silos: int, generators: int) -> None:
        self.folder = folder
        self.store = FolderStore(folder / "store")
        people = {
            name: Identity.create(folder / "people" / name, name)
            for name in (HUB, *(f"silo-{number}" for number in range(silos)))
        }
        self.ring = KeyRing.create(folder / "reader" / "state", "reader")
        self.repository = Repository(folder / "repository", FED, lambda: datetime.now(UTC))
        holder, now = SigningKey.generate(), datetime.now(UTC)
        members = {name: one.public for name, one in people.items()} | {"reader": self.ring.public}
        roster = Roster(federation=FED, coordinator=HUB, members=members)
        root = make_root(1, {"holder": holder.public}, 1, self.repository.draw_online().public, now)
        targets = make_targets(1, roster, now + timedelta(days=7))
        self.repository.publish(Draft.make(None, root, targets, roster_bytes(roster)).sign(holder))
        for name, one in people.items():
            if name != HUB:
                listed = [generator(name, run) for run in range(generators)]
                catalog = make_catalog(1, listed, (now + timedelta(days=365)).replace(microsecond=0))
                self.repository.adopt(name, signed(catalog, one.signing))
        self.repository.upload(self.store)
        self._count = 0

    def reader(self) -> Assembly:
        """The silo, with a state in which nothing of the pool is known."""
        self._count += 1
        home = self.folder / f"reader-{self._count}"
        pin(home / "trust", self.repository.root_bytes)
        mechanism._epsilon.cache_clear()
        mechanism._rdp.cache_clear()
        pool_index.claim.cache_clear()
        return assemble(
            config=PartyConfig(
                federation=FED, name="reader", home=home, outputs=home / "outputs",
                store=StoreConfig(folder=self.folder / "store"), bus=BusConfig(sqlite=home / "bus.sqlite"),
            ),
            ring=self.ring, store=self.store, bus=SqliteBus(home / "bus.sqlite", "reader"),
            trust=lambda news: TufTrust(FED, home / "trust", self.store, news=news),
            guard=lambda *_: "", load=_nothing, context=_nothing,
        )  # fmt: skip


def _nothing(*_: Any) -> Any:
    raise ConfigError("this party runs nothing")


def generator(silo: str, run: int) -> Listed:
    name = digest(f"{silo} {run}".encode())
    about = Published(
        run=f"run-{run}", kind=GENERATOR, release=release_text(spend(mechanism_of(run))), seals=(name,),
        dataset="records", family="moments", label="income",
    )  # fmt: skip
    return Listed(silo, name, digest(name.encode()), 20_000, about)


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """How long a call takes, by the clock and on the processor."""
    start, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - cpu


def show(home: Path) -> None:
    """What `silo-agent pool list` does, from the state file to the text."""
    with State(home, writer=False) as state:
        index = PoolIndex(state)
        index.summary()
        _ = f"{entries_text(index.entries(), colour=True)}{totals_text(index.totals(), colour=True)}"


def show_json(home: Path) -> None:
    """The same with `--json`."""
    with State(home, writer=False) as state:
        index = PoolIndex(state)
        json.dumps([entry_facts(one) for one in index.entries()], indent=2)


def measure(silos: int, generators: int, rounds: int) -> dict[str, float]:
    """Medians in seconds, and of processor time (`_cpu`); `cold_first` is the first round's."""
    taken: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), silos, generators)
        for _ in range(rounds):
            parts = bench.reader()
            pool, home = Pool(parts, Policy, parts.config.outputs, _nothing), parts.config.home
            calls = {
                "cold": pool.refresh, "warm": pool.refresh,
                "list": partial(show, home), "list_json": partial(show_json, home),
            }  # fmt: skip
            for key, call in calls.items():
                wall, cpu = timed(call)
                taken[key].append(wall)
                taken[f"{key}_cpu"].append(cpu)
            states = [one.state for one in PoolIndex(parts.state).entries()]
            assert states == ["listed"] * silos * generators
            parts.state.close()
    return {"cold_first": taken["cold"][0], **{key: statistics.median(values) for key, values in taken.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time reading a large pool.")
    parser.add_argument("--silos", type=int, default=100)
    parser.add_argument("--generators", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = measure(options.silos, options.generators, options.rounds)
    print(json.dumps({**vars(options), **{key: round(value, 3) for key, value in found.items()}}, indent=2))


if __name__ == "__main__":
    main()
