"""A generator as it travels: one safetensors file with a description that is data, never code.

The description names a family, the public schema and the run's parameters; from it alone follow the names, types and
shapes that the tensors must have. Whoever reads one trusts nothing: sizes are bounded before memory is taken, numbers
are finite, and any tensors that pass can be sampled from, though not that the rows are any good.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocols.learning.codes import Floats
from protocols.learning.schema import Category, Columns
from protocols.learning.tensors import read_described, read_description, write_tensors
from protocols.sgde.families import Tensors, family
from protocols.sgde.parameters import SgdeParameters
from services.artifact import parse_json
from services.errors import ConfigError, InvalidArtifact

MAX_COLUMNS = 1000
MAX_PARAMETERS = 16_000_000
MAX_DESCRIPTION_BYTES = 1 << 19
MAX_ROWS = 10_000_000


class Description(BaseModel):
    """What a generator is, in public terms: `parameters` names its family, its label and its ceilings ε and δ."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    columns: Columns = Field(max_length=MAX_COLUMNS)
    parameters: SgdeParameters

    @property
    def classes(self) -> tuple[str, ...]:
        """The label's categories."""
        label = self.columns[self.parameters.label]
        assert isinstance(label, Category)  # noqa: S101 - SgdeParameters.check has seen to it
        return label.categories


@dataclass(frozen=True)
class Generator:
    """A description, and tensors that fit it."""

    description: Description
    tensors: Tensors

    def sample(self, counts: int | Mapping[str, int], seed: int | None = None) -> pd.DataFrame:
        """Rows of this generator; see `sample`."""
        return sample([self], counts, seed)


def write(path: Path, generator: Generator) -> None:
    """Write a generator durably.

    Raises:
        RunFailed: a number is not finite.
    """
    write_tensors(path, generator.tensors, generator.description.model_dump_json(exclude_defaults=True))


def read(path: Path) -> Generator:
    """Read a stranger's generator.

    Raises:
        InvalidArtifact: it is malformed, too large, of an unknown version or family, its label is none of its schema,
            its tensors are not exactly those of its description, or no family could sample from them.
    """
    text = read_description(path, MAX_DESCRIPTION_BYTES)
    try:
        description = Description.model_validate(parse_json(text, MAX_DESCRIPTION_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidArtifact(f"the generator's description is malformed: {where}: {first['msg']}") from None
    columns, parameters = description.columns, description.parameters
    form = family(parameters.family)
    try:
        parameters.check(columns)
        expected = form.expected(columns, parameters)
    except ConfigError as error:
        raise InvalidArtifact(f"the generator's description does not hold: {error.what}") from None
    size = sum(math.prod(length or 0 for length in spec.shape) for spec in expected.values())
    if size > MAX_PARAMETERS:
        raise InvalidArtifact(f"a generator of {size} numbers exceeds the limit of {MAX_PARAMETERS}")
    tensors = read_described(path, expected)
    form.check(columns, parameters, tensors)
    return Generator(description, tensors)


def sample(generators: Sequence[Generator], counts: int | Mapping[str, int], seed: int | None = None) -> pd.DataFrame:
    """Rows of one generator or a pool, in the schema's types, bounds and categories; sorted by class, not shuffled.

    Generators of the same description are combined as well as their family can; others give rows in proportion.

    Args:
        generators: at least one; all with the same columns and label.
        counts: rows of every class, or of each class by name.
        seed: makes it repeatable, which costs no privacy: everything here was released.

    Raises:
        ConfigError: no generator, schemas that differ, an unknown class, or too many rows.
    """
    rng = np.random.default_rng(seed)
    wanted = _wanted(generators, counts)
    groups = _groups(generators)
    tables = []
    for number, (description, pool) in enumerate(groups):
        before, after = (sum(len(p) for _, p in groups[:end]) / len(generators) for end in (number, number + 1))
        part = {name: round(count * after) - round(count * before) for name, count in wanted.items()}
        form = family(description.parameters.family)
        tables.append(form.sample(description.columns, description.parameters, pool, part, rng))
    rows = pd.concat(tables, ignore_index=True)
    return rows.sort_values(groups[0][0].parameters.label, kind="stable", ignore_index=True)


def shares(generators: Sequence[Generator]) -> dict[str, float]:
    """How large each class is among the pool's rows, as far as the generators' noisy counts tell.

    Raises:
        ConfigError: no generator, or schemas that differ.
    """
    _wanted(generators, 0)
    total: Floats = np.sum(
        [
            len(pool) * family(d.parameters.family).shares(d.columns, d.parameters, pool)
            for d, pool in _groups(generators)
        ],
        axis=0,
    )
    return dict(zip(generators[0].description.classes, (total / total.sum()).tolist(), strict=True))


def _groups(generators: Sequence[Generator]) -> list[tuple[Description, list[Tensors]]]:
    groups: list[tuple[Description, list[Tensors]]] = []
    for generator in generators:
        for description, pool in groups:
            if description == generator.description:
                pool.append(generator.tensors)
                break
        else:
            groups.append((generator.description, [generator.tensors]))
    return groups


def _wanted(generators: Sequence[Generator], counts: int | Mapping[str, int]) -> dict[str, int]:
    if not generators:
        raise ConfigError("there is no generator to sample from", fix="pull at least one")
    first = generators[0].description
    for other in (generator.description for generator in generators):
        if other.columns != first.columns or other.parameters.label != first.parameters.label:
            raise ConfigError("these generators have different schemas", fix="sample those of one run at a time")
    wanted = dict.fromkeys(first.classes, counts) if isinstance(counts, int) else dict(counts)
    if unknown := sorted(set(wanted) - set(first.classes)):
        raise ConfigError(f"no class is called {', '.join(unknown)}", fix=f"choose of: {', '.join(first.classes)}")
    if min(wanted.values(), default=0) < 0 or sum(wanted.values()) > MAX_ROWS:
        raise ConfigError(f"between 0 and {MAX_ROWS} rows can be sampled at a time")
    return wanted
