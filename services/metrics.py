"""Every metric that a party shows, in one place: its name, type, labels and meaning.

Two kinds. What the party keeps anyway (its state file, its trust, its disk) is *derived* when somebody asks, by
`services.observation`: it survives a restart and there is one truth. What is over in a moment is *observed* where it
happens, by the counters and histograms below; like every counter of Prometheus they begin at zero with the process.

No label ever holds a payload, a value of a table, or an identifier of a run, an artifact or a person. A label is a word
of this program (a phase, a reason), a kind of artifact, a protocol, or a name that the federation made public itself:
a member's, a data set's. Every series bears the name of its `party`, whatever scrapes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, disable_created_metrics

Kind = Literal["gauge", "counter", "histogram"]
Values = Mapping[tuple[str, ...], float]
PARTS = ("enrolment", "trust", "store", "broker", "disk")
"""What a party needs to be ready."""
QUARANTINE = ("unsigned", "equivocation", "envelope", "content")
"""Why something is set aside: no member signed it for its place; its sender contradicts itself; it is signed, but has
expired, was made for something else or cannot be opened; it was opened and is not what the protocol allows."""
OTHER = "other"
MOST_KINDS = 40  # of artifacts that are told apart: their names come from the members

_TRANSFER = (0.05, 0.2, 1, 5, 20, 60, 300, 1800)  # seconds; with the sum and the count, ten series each
_CRYPTO = (0.005, 0.02, 0.1, 0.5, 2, 10, 60)
_LAG = (0.5, 1, 2, 5, 15, 60, 300, 3600)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a time of birth for every counter would double the series
OBSERVED = CollectorRegistry()
"""The observed metrics of this process, which is one party."""


@dataclass(frozen=True)
class Entry:
    """What is written of a metric for people."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str

    def family(self, values: Values | float) -> Metric:
        """The metric with its values, by the labels' values in order; one value alone where there are no labels."""
        name = self.name.removesuffix("_total") if self.kind == "counter" else self.name
        family = Metric(name, self.meaning, self.kind)
        for labels, value in (values if isinstance(values, Mapping) else {(): values}).items():
            family.add_sample(self.name, dict(zip(self.labels, labels, strict=True)), value)
        return family


CATALOGUE: list[Entry] = []
"""Every metric, in the order in which it is documented."""


def _entry(kind: Kind, name: str, meaning: str, labels: tuple[str, ...]) -> Entry:
    CATALOGUE.append(Entry(f"silokit_{name}", kind, labels, meaning))
    return CATALOGUE[-1]


def _gauge(name: str, meaning: str, *labels: str) -> Entry:
    return _entry("gauge", name, meaning, labels)


def _total(name: str, meaning: str, *labels: str) -> Entry:
    return _entry("counter", f"{name}_total", meaning, labels)


def _counter(name: str, meaning: str, *labels: str, of: Iterable[str] = ()) -> Counter:
    entry = _total(name, meaning, *labels)
    counter = Counter(entry.name, meaning, labels, registry=OBSERVED)
    for value in of:  # known beforehand: shown as zero, so that the first one is an increase
        counter.labels(value)
    return counter


def _histogram(name: str, meaning: str, *labels: str, buckets: tuple[float, ...], of: Iterable[str] = ()) -> Histogram:
    entry = _entry("histogram", name, meaning, labels)
    histogram = Histogram(entry.name, meaning, labels, buckets=buckets, registry=OBSERVED)
    for value in of:
        histogram.labels(value)
    return histogram


# the party

INFO = _gauge("info", "Always 1; what this party is and which version it runs.", "role", "federation", "version")
READY = _gauge("ready", "1 where nothing is amiss, else 0; `/readyz` says what is.", "part")
LAST_SUCCESS = _gauge(
    "last_success_timestamp_seconds",
    "When something last went well: a run ended with its result, the store was listed, the broker was heard.",
    "what",
)
FAILURES = _counter(
    "failures", "Tries on store, broker or disk, or under stale trust, that failed.", "part", of=PARTS[1:]
)
CLOCK_SKEW = _gauge("clock_skew_seconds", "By how much the store's clock is ahead of this machine's.")
STATE_BYTES = _gauge("state_bytes", "Size of the state file, its journal included.")
DISK_FREE = _gauge("disk_free_bytes", "Free space where the state lies.")
DISK_SIZE = _gauge("disk_size_bytes", "Size of the disk on which the state lies.")
EXPIRY = _gauge(
    "expiry_timestamp_seconds",
    "When something runs out: this party's certificate, the signed roster, the root, the coordinator's last word "
    "(timestamp).",
    "what",
)

# runs

RUNS = _gauge("runs", "Runs that this party knows, by how far they are.", "protocol", "phase")
STEPS = _total("steps_finished", "Steps of runs (fit, seal, sample ...) that were finished here.", "protocol")
STEP_SECONDS = _total("step_seconds", "Seconds that finished steps took to compute.", "protocol")
CONTRIBUTORS = _gauge(
    "contributors",
    "Silos: enrolled in the roster; invited to, joined to and awaited by the runs that have not ended.",
    "state",
)
AWAITED = _gauge("awaited", "Runs that wait for this member to join.", "silo")
AWAITED_SHARE = _gauge(
    "awaited_deadline_ratio",
    "How much of its time a run has spent waiting for this member to join: 1 is its deadline. The largest counts.",
    "silo",
)
TAKING_PART = _gauge("taking_part", "Running runs in which this member takes part.", "silo")
LAST_HEARD = _gauge("last_heard_timestamp_seconds", "When the last artifact from this member came.", "silo")

# training

COMPUTING = _gauge("computing", "1 while a step of a run is being computed.")
QUIET = _gauge("computing_quiet_seconds", "For how long the step under way has not reported; 0 when there is none.")
PROGRESS = _gauge("progress_steps", "Training steps that the work under way has done.", "protocol", "phase")
PROGRESS_OF = _gauge("progress_of_steps", "Training steps that the work under way has in all.", "protocol", "phase")
LOSS = _gauge("training_loss", "The loss that was last reported, where it is no secret.", "protocol", "phase")
TRAINED = _counter("training_steps", "Training steps done; their rate is the throughput.", "protocol", "phase")
GPU_MEMORY = _gauge(
    "gpu_memory_bytes", "GPU memory that this process uses, has reserved, and there is in all; 0 without GPU.", "kind"
)

# artifacts

SENT = _total("artifacts_sent", "Artifacts that were sent.", "kind")
SENT_BYTES = _total("artifacts_sent_bytes", "Sealed bytes of the artifacts that were sent.", "kind")
RECEIVED = _total("artifacts_received", "Artifacts that came for this party and were opened.", "kind")
QUARANTINED = _counter("quarantined", "What came and was set aside.", "reason", of=QUARANTINE)
QUEUE = _gauge(
    "queue_depth", "What waits: sealed and unsent (out), heard of and not judged (in), opened and not used (work).",
    "queue",
)  # fmt: skip
QUEUE_AGE = _gauge("queue_oldest_seconds", "For how long the oldest of them has waited.", "queue")
HEARD = _counter(
    "heard", "Artifacts for this party, by how they were heard of: by a notice, or only by listing the store.", "way",
    of=("notice", "listing"),
)  # fmt: skip
NOTICE_LAG = _histogram(
    "notice_lag_seconds", "From an artifact's sealing at its sender until it was heard of here, its upload included.",
    buckets=_LAG,
)  # fmt: skip
SEALING = _histogram("seal_seconds", "To seal an artifact.", buckets=_CRYPTO)
OPENING = _histogram("open_seconds", "To verify and open an artifact's body.", buckets=_CRYPTO)
TRANSFER = _histogram(
    "transfer_seconds", "To bring an artifact's body to the store (up) or from it (down).", "direction",
    buckets=_TRANSFER, of=("up", "down"),
)  # fmt: skip
TRANSFER_BYTES = _counter("transfer_bytes", "Bytes of those bodies.", "direction", of=("up", "down"))

# privacy

EPSILON_SPENT = _gauge("epsilon_spent", "ε that a data set has paid for life, at its policy's δ.", "dataset")
EPSILON_LIMIT = _gauge("epsilon_limit", "ε that the policy grants a data set for life.", "dataset")
BUDGET_USED = _gauge(
    "budget_used_ratio",
    "The part of a data set's budget for life that a protocol's runs have used. The parts add up, ε does not: "
    "1 minus their sum is left.",
    "dataset",
    "protocol",
)
REFUSED = _counter("budget_refusals", "Runs and releases refused because the budget does not allow them.", "dataset")


@contextmanager
def transferring(direction: Literal["up", "down"], size: int) -> Iterator[None]:
    """Observe the transfer of a body of `size` bytes; one that fails is not counted."""
    began = time.perf_counter()
    yield
    TRANSFER.labels(direction).observe(time.perf_counter() - began)
    TRANSFER_BYTES.labels(direction).inc(size)


def table() -> str:
    """The catalogue as a Markdown table."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for entry in CATALOGUE:
        labels = ", ".join(f"`{label}`" for label in entry.labels)
        lines.append(f"| `{entry.name}` | {entry.kind} | {labels} | {entry.meaning} |")
    return "\n".join(lines) + "\n"
