"""The public schema of a table: types, bounds and categories are public by declaration and never taken from data."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_CATEGORIES = 1000
MAX_STEPS = 2**53
"""From here on, a float no longer tells a whole number from the next."""


class _Column(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    missing: bool = False
    """Whether a record may lack this value; what is missing is kept as information."""


class Number(_Column):
    """A real quantity in [min, max]; `step`, where declared, is the public grid it is recorded on."""

    type: Literal["number"]
    min: float = Field(allow_inf_nan=False)
    max: float = Field(allow_inf_nan=False)
    step: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min >= self.max:
            raise ValueError("min must lie below max")
        if self.step is not None and max(abs(self.min), abs(self.max)) / self.step > MAX_STEPS:
            raise ValueError("step is too fine for its bounds: numbers cannot tell its multiples apart")
        if self.step is not None and math.floor(self.max / self.step) < math.ceil(self.min / self.step):
            raise ValueError("no multiple of step lies between min and max: give a finer step")
        return self


class Integer(_Column):
    """A whole quantity in [min, max]."""

    type: Literal["integer"]
    min: int = Field(ge=-(2**53), le=2**53)
    max: int = Field(ge=-(2**53), le=2**53)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min >= self.max:
            raise ValueError("min must lie below max")
        return self


class Category(_Column):
    """One of a public list of labels; a yes/no column is a category of two."""

    type: Literal["category"]
    categories: tuple[str, ...] = Field(min_length=1, max_length=MAX_CATEGORIES)

    @model_validator(mode="before")
    @classmethod
    def _labels_are_text(cls, values: Any) -> Any:
        # YAML reads an unquoted 0, 1 or 2.5 as a number and yes/no as a boolean: the first is harmless, the
        # second silently renames a category.
        if isinstance(values, Mapping) and isinstance(values.get("categories"), list):
            labels = values["categories"]
            if any(isinstance(label, bool) for label in labels):
                raise ValueError('quote yes, no, true and false in categories ("yes"): YAML takes them for booleans')
            return {**values, "categories": [str(label) for label in labels]}
        return values

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.categories)) != len(self.categories):
            raise ValueError("categories must be distinct")
        if any(not label.strip() for label in self.categories):
            raise ValueError("a category is never blank: declare `missing: true` instead")
        return self


class Date(_Column):
    """A calendar day in [min, max], ISO 8601."""

    type: Literal["date"]
    min: dt.date
    max: dt.date

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min >= self.max:
            raise ValueError("min must lie before max")
        return self


class Text(_Column):
    """Free text: recognised so that it can be refused in words that help."""

    type: Literal["text"]

    @model_validator(mode="after")
    def _refused(self) -> Self:
        raise ValueError(
            "free text can carry names and cannot be synthesised safely: leave the column out, "
            "or declare it as a category with a public list of labels"
        )


Column = Annotated[Number | Integer | Category | Date | Text, Field(discriminator="type")]
Columns = dict[str, Column]


class Identifier(BaseModel):
    """The column that says which person a row is about, and the form in which two silos would write it alike."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    form: Literal["text", "integer"] = "text"
