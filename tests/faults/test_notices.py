"""Notices only hint: three in ten lost, the others ten times and shuffled, and all ends as a clean run does."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from services.bus import Notice
from services.chain import AUDIT, Chain
from tests.world import HUB, MemoryBus, World


class Unreliable(MemoryBus):
    """Loses three notices of ten for good, delivers the others ten times, and keeps no order."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.copies, self.shuffle = 10, True
        self.chance = random.Random(seed)
        self.lost = 0

    def send(self, recipient: str, notice: Notice) -> None:
        if self.chance.random() < 0.3:
            self.lost += 1
        else:
            super().send(recipient, notice)


def final_state(folder: Path, bus: MemoryBus) -> dict[str, Any]:
    """What everybody knows after a run, without what differs between two clean runs: names, moments, who came last."""
    world = World(folder, bus=bus)
    run = world.submit()
    world.settle()
    assert not any(bus.queues.values()), "a notice was never acknowledged"
    found = {name: party_state(world, name, run) for name in world.parts}
    objects = [key.split("/")[1] + key[-5:] for key in world.store.objects if run in key]
    world.close()
    return {**found, "objects": sorted(objects)}


def party_state(world: World, name: str, run: str) -> dict[str, Any]:
    state = world.parts[name].state
    outputs = (world.outputs(name) / run).glob("*") if name != HUB else []
    queries = {
        "runs": "SELECT phase, detail FROM runs",
        "steps": "SELECT step FROM steps",
        "sent": "SELECT sequence, kind, recipients, sent IS NOT NULL FROM outbox",
        "received": "SELECT sender, sequence, kind, replace(state, 'handed', 'done'), attempts FROM inbox",
        "set aside": "SELECT reason FROM quarantine",
    }
    found: dict[str, Any] = {what: sorted(map(tuple, state.rows(query))) for what, query in queries.items()}
    found["outputs"] = sorted((path.name, path.read_bytes()) for path in outputs)
    audit = [link.record for link in Chain(state, AUDIT).links()]
    found["audit"] = sorted((one["event"], one.get("kind", ""), one.get("sender", "")) for one in audit)
    return found


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return final_state(tmp_path_factory.mktemp("clean"), MemoryBus())


@pytest.mark.parametrize("seed", range(10))
def test_unreliable_notices_change_nothing_of_how_a_run_ends(tmp_path: Path, clean: dict[str, Any], seed: int) -> None:
    assert clean[HUB]["runs"] == [("done", "")]
    bus = Unreliable(seed)
    assert final_state(tmp_path, bus) == clean
    assert bus.lost
