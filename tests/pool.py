"""Generators in the pool of a `World`: published as a protocol's half would, without a protocol."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from services.artifact import POOL, Spend
from services.contract import Message
from services.keyring import KeyRing
from services.mechanism import Gaussian, Mechanism
from services.state import State
from services.trust import FormerKey
from services.trust.catalog import GENERATOR
from services.trust.root import pin
from tests.world import World, permissive

MECHANISM = Mechanism(event=Gaussian(noise_multiplier=8.0))


def spend(mechanism: Mechanism = MECHANISM, delta: float = 1e-5) -> Spend:
    return Spend(mechanism=mechanism.model_dump(mode="json"), delta=delta)


def publish(
    world: World, run: str, *, silo: str = "north", step: str = "publish", payload: bytes = b"a generator"
) -> str:
    """A silo publishes a generator that it made in a run; returns the digest of its manifest."""
    parts = world.parts[silo]
    world.spending(silo, parts.state).reserve(run, step, spend())
    parts.courier.publish(
        run, step, Message(GENERATOR, payload, spend()), parts.courier.everybody(),
        seconds=0, schema_hash=world.run(silo, run).spec_hash,
    )  # fmt: skip
    return originals(parts.state)[-1]


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


def join(world: World, name: str) -> None:
    """A silo becomes a member of a federation that is under way."""
    world.rings[name] = KeyRing.create(world.home(name), name)
    world.policies[name] = permissive(world.protocol)
    world.publish_roster()
    pin(world.home(name) / "trust", world.repository.root_bytes)
    world.start(name)


def change_keys(world: World, name: str, grace: timedelta = timedelta(days=1)) -> None:
    ring = world.rings[name]
    old, new = ring.public.verify, ring.draw_next()
    members = {one: other.public for one, other in world.rings.items()} | {name: new.public}
    world.publish_roster(members=members, former={name: (FormerKey(verify=old, until=world.now + grace),)})
