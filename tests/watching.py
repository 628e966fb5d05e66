"""How tests look at a party of a world in memory as Prometheus would."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from protocols.learning import gpu
from services.watch import Watch
from tests.world import HUB, World


def watch(world: World, name: str) -> Watch:
    """A party of the world, watched."""
    budgets = dict if name == HUB else lambda: world.policies[name].datasets
    role = "coordinator" if name == HUB else "silo"
    return Watch(world.parts[name], world.parties[name], role, budgets=budgets, gpu=gpu.memory)  # type: ignore[arg-type]


def samples(text: bytes) -> list[Sample]:
    """Every series of an answer."""
    return [one for family in text_string_to_metric_families(text.decode()) for one in family.samples]


def value(text: bytes, name: str, **labels: str) -> float:
    """The one series of a name that has these labels."""
    found = [one.value for one in samples(text) if one.name == name and _has(one.labels, labels)]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def _has(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(found.get(key) == word for key, word in wanted.items())
