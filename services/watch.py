"""A running party as its monitor shows it: whether it lives, whether it is ready, and everything it measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.registry import Collector

from services.health import Health
from services.metrics import OBSERVED, PARTS, READY
from services.observation import Budgets, Gpu, Observation, Role
from services.party import Party
from services.wiring import Assembly


class Watch:
    """See `services.monitoring.Shown`.

    Args:
        parts: the party's parts.
        party: it, running.
        role: what it is.
        budgets: what its policy grants, by data set.
        gpu: GPU memory in bytes, by kind.
    """

    def __init__(self, parts: Assembly, party: Party, role: Role, *, budgets: Budgets, gpu: Gpu) -> None:
        self._party = party
        self._health = Health(parts.config.home, parts.ring, parts.trust, parts.bus, party.vitals)
        sources = (Observation(parts, party, role, budgets, gpu), OBSERVED, ProcessCollector(registry=None))
        self._registry = CollectorRegistry()
        self._registry.register(_Signed(parts.ring.name, (self._readiness, *(one.collect for one in sources))))

    def dead(self) -> str:
        """See `Shown.dead`."""
        return self._health.dead(computing=self._party.host.quiet is not None)

    def lacks(self) -> Mapping[str, str]:
        """See `Shown.lacks`."""
        return self._health.lacks()

    def metrics(self) -> bytes:
        """See `Shown.metrics`."""
        return generate_latest(self._registry)

    def _readiness(self) -> Iterator[Metric]:
        lacks = self.lacks()
        yield READY.family({(part,): float(part not in lacks) for part in PARTS})


class _Signed(Collector):
    """Metrics from several sources, with the party's name in every series.

    Args:
        party: the name.
        sources: each yields metrics when it is called.
    """

    def __init__(self, party: str, sources: Iterable[Callable[[], Iterable[Metric]]]) -> None:
        self._party = party
        self._sources = tuple(sources)

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        for source in self._sources:
            for metric in source():
                metric.samples = [one._replace(labels={**one.labels, "party": self._party}) for one in metric.samples]
                yield metric
