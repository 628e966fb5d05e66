"""Where codewords lie among a row's codes: it follows from the public schema; which label is which does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.learning.codec import label_count
from protocols.learning.codes import book_width
from protocols.learning.schema import Columns


@dataclass(frozen=True)
class Block:
    """The dimensions [first, first + width) of a row's codes that hold the codeword of one of so many labels."""

    first: int
    labels: int
    width: int


@dataclass(frozen=True)
class Book:
    """The codewords [labels, width] of a block of latents that begins with dimension `first`."""

    first: int
    words: NDArray[np.float32]

    def after(self, dimensions: int) -> Book:
        """The same book where so many other dimensions go before."""
        return Book(dimensions + self.first, self.words)


def blocks(columns: Columns) -> dict[str, Block]:
    """The blocks by column: its labels, or the flag of a score that may be missing."""
    found, first = {}, 0
    for name, column in columns.items():
        labels = label_count(column)
        if not labels:
            first += 1  # the score goes before its flag
            labels = 2 if column.missing else 0
        if labels:
            found[name] = Block(first, labels, book_width(labels))
            first += found[name].width
    return found


def width_of(columns: Columns) -> int:
    """How many dimensions a row's codes have."""
    scores = sum(not label_count(column) for column in columns.values())
    return scores + sum(block.width for block in blocks(columns).values())
