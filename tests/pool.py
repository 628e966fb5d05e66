"""Generators in the pool of a `World`: published as a protocol's half would, without a protocol."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from services.artifact import POOL, Spend
from services.contract import Message
from services.files import private_folder
from services.ledger import Budget, Charge, Ledger
from services.mechanism import Gaussian, Mechanism
from services.state import State
from services.trust import sealing_keys
from services.trust.catalog import GENERATOR
from tests.world import World

MECHANISM = Mechanism(event=Gaussian(noise_multiplier=8.0))
BUDGET = Budget(epsilon_per_run=100, epsilon_for_life=100, delta=1e-4)


def spend(mechanism: Mechanism = MECHANISM, delta: float = 1e-5) -> Spend:
    return Spend(mechanism=mechanism.model_dump(mode="json"), delta=delta)


def publish(
    world: World, run: str, *, silo: str = "north", step: str = "publish", payload: bytes = b"a generator",
    mechanism: Mechanism = MECHANISM, dataset: str = "visits",
) -> str:  # fmt: skip
    """A silo publishes a generator that it made in a run; returns the digest of its manifest."""
    parts = world.parts[silo]
    ledger, release = Ledger(parts.state), spend(mechanism)
    charge = Charge(dataset, mechanism, release.delta)
    ledger.reserve(run, step, charge, BUDGET, at=world.now, approver="somebody")
    parts.courier.outgoing._guard = lambda *_: ""  # what may leave is not asked here
    members = tuple(name for name in parts.trust.roster.members if name != silo)
    parts.courier.send(
        *(run, step, Message(GENERATOR, payload, release), sealing_keys(parts.trust, members)),
        expires=world.now + timedelta(days=3650), schema_hash=world.run(silo, run).spec_hash, under=POOL,
    )  # fmt: skip
    digest = originals(parts.state)[-1]
    (private_folder(parts.state.folder / POOL / "own") / digest).write_bytes(payload)
    ledger.commit(run, step, mechanism, release.delta, digest, world.now)
    return digest


def originals(state: State) -> list[str]:
    """Everything that a party has sealed for the pool, oldest first."""
    rows: Any = state.rows("SELECT digest FROM outbox WHERE run=? ORDER BY sequence", POOL)
    return [row["digest"] for row in rows]


def settle(world: World, minutes: float = 2) -> None:
    """Let time pass and everybody work until nothing moves; the coordinator shows what it adopted."""
    for _ in range(2):
        world.pass_time(minutes * 60)
        world.repository.upload(world.store)
        for party in world.parties.values():
            party._paces.clear()
            party.look_again()
        world.settle()
