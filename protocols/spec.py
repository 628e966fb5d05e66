"""The run specification: everything a consortium agrees on before a run, all of it public.

A specification is a YAML file for people and a JSON object on the wire; the part called `training` belongs to
the protocol that the run names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from protocols.learning.schema import Columns, Identifier
from services.artifact import Name

_DURATION = re.compile(r"(\d+)\s*(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _parse_duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(str(value).strip())
    if not match:
        raise ValueError("a duration is a whole number followed by s, m, h or d, for example 2h")
    try:
        return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
    except OverflowError:
        raise ValueError("a duration of more than a billion days is none") from None


Duration = Annotated[
    timedelta,
    BeforeValidator(_parse_duration),
    PlainSerializer(lambda value: f"{int(value.total_seconds())}s", return_type=str),
]


class SiloPart(BaseModel):
    """What one participant brings: the public schema of its columns, where they are its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: Columns = Field(default_factory=dict)


class RunSpec(BaseModel):
    """One run of one protocol.

    Attributes:
        name: a label for people; the coordinator makes a unique run identifier of it.
        protocol: which protocol the run follows.
        silos: the participants in order; where each brings columns of its own (a vertical partition), these have
            distinct names.
        columns: the columns that every participant's table has (a horizontal partition).
        identifier: the column that every participant's table has and that names the person.
        holdout: the share of common records kept out of all training, to measure against.
        targets: columns that utility is measured on.
        rows: how many synthetic rows to make, where the run makes any; public, so never taken from the data.
        deadline: how long the run may take from its submission.
        training: the protocol's own parameters.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    protocol: str
    silos: dict[Name, SiloPart] = Field(min_length=1, max_length=200)
    columns: Columns = Field(default_factory=dict)
    identifier: Identifier | None = None
    holdout: float = Field(default=0.2, ge=0.05, le=0.5)
    targets: tuple[str, ...] = ()
    rows: int = Field(ge=1, le=10_000_000)
    deadline: Duration = timedelta(hours=24)
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        owners: dict[str, str] = dict.fromkeys(self.columns, "every silo")
        for silo, part in self.silos.items():
            for column in part.columns:
                if column in owners:
                    raise ValueError(f"column {column!r} is declared by both {owners[column]} and {silo}")
                owners[column] = silo
        if self.identifier and self.identifier.column in owners:
            raise ValueError(
                f"the identifier {self.identifier.column!r} is never synthesised: take it out of the columns"
            )
        if unknown := [target for target in self.targets if target not in owners]:
            raise ValueError(f"targets name no declared column: {', '.join(unknown)}")
        return self

    def columns_of(self, silo: str) -> Columns:
        """The columns of one silo's table."""
        return {**self.columns, **self.silos[silo].columns}

    @property
    def every_column(self) -> Columns:
        """All columns: what every silo has, and what each has of its own, in the order of the silos."""
        own = {name: column for part in self.silos.values() for name, column in part.columns.items()}
        return {**self.columns, **own}


def parse_spec(value: Mapping[str, Any]) -> RunSpec:
    """Read a specification that has already been through `services.config` or came in an offer.

    Raises:
        pydantic.ValidationError: the callers turn it into the error of their edge.
    """
    return RunSpec.model_validate(value)
