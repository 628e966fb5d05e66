"""A run's columns, taken apart on their public scales."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.learning.scale import Choice, Scale
from protocols.learning.schema import Category, Columns, Text
from protocols.sgde.parameters import SgdeParameters


@dataclass(frozen=True)
class Layout:
    """A run's columns, taken apart: the label, the quantities and the categories, in the schema's order."""

    label: Choice
    scales: tuple[Scale, ...]
    choices: tuple[Choice, ...]

    @property
    def classes(self) -> int:
        """How many classes the label has."""
        return self.label.size


def layout(columns: Columns, parameters: SgdeParameters) -> Layout:
    """Take a checked schema apart."""
    label = columns[parameters.label]
    assert isinstance(label, Category)  # noqa: S101 - SgdeParameters.check has seen to it
    scales = [
        Scale(name, column, name in parameters.skewed)
        for name, column in columns.items()
        if not isinstance(column, Category | Text)
    ]
    choices = [
        Choice(name, column)
        for name, column in columns.items()
        if isinstance(column, Category) and name != parameters.label
    ]
    return Layout(Choice(parameters.label, label), tuple(scales), tuple(choices))
