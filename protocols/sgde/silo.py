"""A silo's half of SGDE: fit a generator to the whole table under differential privacy, and give it to the pool."""

from __future__ import annotations

from collections.abc import Iterator

from protocols.learning.noise import Noise
from protocols.learning.table import conform, read_table
from protocols.sgde.families import family
from protocols.sgde.generator import Description, Generator, read, write
from protocols.sgde.messages import COMPLETE, GENERATOR, PUSHED
from protocols.sgde.parameters import SgdeParameters
from protocols.spec import parse_spec
from services.artifact import NoData, Spend
from services.contract import Context, Done, Failed, Message, ProgressCallback, Received, Step, Work
from services.errors import ConfigError, InvalidArtifact

FILE = "generator.safetensors"
SAMPLE = ("synthetic.parquet", "synthetic.csv")
"""Rows of this silo's own generator, to look at."""


class Silo:
    """See `services.contract.Half`.

    Args:
        context: the run as this silo knows it.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._spec = parse_spec(context.spec)
        self._parameters = SgdeParameters.model_validate(self._spec.training)
        self._family = family(self._parameters.family)
        self._mechanism = self._family.mechanism(self._spec.columns, self._parameters)

    def begin(self) -> Iterator[Step]:
        """Fit, publish, tell the coordinator."""
        release = Spend(mechanism=self._mechanism.model_dump(mode="json"), delta=self._parameters.delta)
        yield Work("generator", self._fit, spends=release, publish=True)
        yield Work("pushed", lambda _: Message(PUSHED, b"", NoData()), to=(self._context.coordinator,))

    def receive(self, artifact: Received) -> Iterator[Step]:
        """See `services.contract.Half.receive`."""
        if (artifact.kind, artifact.sender) != (COMPLETE, self._context.coordinator):
            raise InvalidArtifact(f"{artifact.sender} has no {artifact.kind} to send to this silo")
        yield Work("sample", self._sample)
        yield Done({name: self._context.workspace / name for name in (FILE, *SAMPLE)})

    def deadline(self, name: str) -> Iterator[Step]:
        """See `services.contract.Half.deadline`."""
        yield Failed(f"the {name}'s deadline passed: {self._context.coordinator} was awaited for the end of the round")

    def _fit(self, progress: ProgressCallback) -> Message:
        if self._context.data is None:
            raise ConfigError("the agent has no table", fix="set `data` in its configuration")
        progress("fit", 0, 1, None)
        _, raw = read_table(self._context.data, self._spec.columns, self._spec.identifier)
        table = conform(raw, self._spec.columns)
        tensors, executed = self._family.fit(table, self._spec.columns, self._parameters, Noise(), progress)
        path = self._context.workspace / FILE
        write(path, Generator(Description(columns=self._spec.columns, parameters=self._parameters), tensors))
        done = self._mechanism.model_copy(update={"event": executed})
        progress("fit", 1, 1, None)
        return Message(GENERATOR, path, Spend(mechanism=done.model_dump(mode="json"), delta=self._parameters.delta))

    def _sample(self, progress: ProgressCallback) -> None:
        progress("sample", 0, 1, None)
        own = read(self._context.workspace / FILE)
        parquet, csv = (self._context.workspace / name for name in SAMPLE)
        rows = own.sample(max(1, self._spec.rows // len(own.description.classes)))
        rows.to_parquet(parquet, index=False)
        rows.to_csv(csv, index=False)
        progress("sample", 1, 1, None)


half = Silo
