"""The randomness that a privacy claim rests on: normal noise and Poisson samples from cryptographic bytes.

Nothing here has a seed that a user could set, and two instances never share a stream. A uniform float64 leaves traces
in the low-order bits of a normal made from it, by which an observer can tell what it was added to (Mironov, CCS
2012). So every normal is the sum of four independent ones over two, each by Box-Muller: to trace it back, all four
would have to be guessed together (Holohan and Braghin, ESORICS 2021; the secure mode of Opacus does the same).

Of six pairs of Box-Muller, as complex numbers z, there are three such sums, each of two normals:

    z1 + z2 + z3 + z4,    z1 - z2 + z5 + z6,    z3 - z4 + i (z5 - z6)

They are orthogonal, so the six normals are independent. Nor does it help to observe several of them: whatever they are
multiplied by before they are added up, at least four pairs remain, since no three columns of these coefficients are
dependent.

A radius comes from 63 random bits, of which float64 keeps the 53 that lead: tails reach 9.4 deviations, not 8.6. An
angle is one of 2^32.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from services.randomness import Stream

Shape = int | tuple[int, ...]

_PARTS = 4
_PAIRS = 6
_MOST = 1 << 15  # normals at a time: more leave a core's cache, and with fewer the calls cost more than the work
_SIGN = -(1 << 63)


class Noise:
    """Normal noise, uniform numbers and Poisson samples that nobody can predict or repeat.

    Args:
        key: 32 bytes that determine everything drawn; for tests only.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._stream = Stream(key)
        self._memory = threading.local()  # each thread's own, kept: fresh pages would cost more than some of the work

    def normal(self, shape: Shape, scale: float = 1.0, out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Independent normals of mean 0.

        Args:
            shape: of the result.
            scale: their standard deviation.
            out: contiguous memory of that shape to write them to, for whoever draws often.
        """
        result = np.empty(shape) if out is None else out
        flat, first = result.reshape(-1), 0
        for piece in self.pieces(len(flat), scale):
            flat[first : first + len(piece)] = piece
            first += len(piece)
        return result

    def pieces(self, count: int, scale: float = 1.0) -> Iterator[NDArray[np.float64]]:
        """The numbers [count] that `normal` would draw, in pieces that are still in the core's cache.

        A piece [n] is overwritten by whatever this thread draws next.
        """
        columns = _columns(count)
        pairs: _Pairs | None = getattr(self._memory, "pairs", None)
        if pairs is None or pairs.columns != columns:
            pairs = self._memory.pairs = _Pairs(columns)
        for first in range(0, count, _PAIRS * columns):
            self._stream.fill(pairs.bytes)
            yield pairs.normals(scale / math.sqrt(_PARTS))[: count - first]

    def uniform(self, shape: Shape) -> NDArray[np.float64]:
        """Independent multiples of 2^-53, each in [0, 1) with the same probability."""
        words = np.empty(_count(shape), dtype=np.uint64)
        self._stream.fill(words.data.cast("B"))
        words >>= np.uint64(11)
        return (words.view(np.int64) * 2.0**-53).reshape(shape)

    def poisson_sample(self, count: int, rate: float) -> NDArray[np.intp]:
        """The places, ascending, of the records that take part: each of `count` with probability `rate`, independently.

        The rate is rounded down to a multiple of 2^-32, which can only hide more. How many places there are is private
        where the records are.
        """
        if rate == 1:
            return np.arange(count)
        words = np.empty(count, dtype=np.uint32)
        self._stream.fill(words.data.cast("B"))
        limit = int(rate * 2.0**32)
        return np.flatnonzero(words <= np.uint32(limit - 1)) if limit else np.empty(0, dtype=np.intp)


class _Pairs:
    """The working memory of Box-Muller: filled with random bytes, it turns them into normals.

    Args:
        columns: how often six pairs, and as many normals, are made at a time.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        shape, pairs = (3, 2, columns), _PAIRS * columns
        memory = np.empty(3 * pairs, dtype=np.int32)
        self.bytes = memory.data.cast("B")
        # signed, since numpy turns them into floats five times as fast as unsigned ones
        self._radii = memory[: 2 * pairs].view(np.int64).reshape(shape)
        self._angles = memory[2 * pairs :].reshape(shape)
        self._radius = np.empty(shape)
        self._parts = np.empty((2, *shape))
        self._normals = np.empty((2, 3, columns))

    def normals(self, scale: float) -> NDArray[np.float64]:
        """[6 columns], six of each column's pairs; overwritten by the next call.

        Of the tangent t of half an angle, the cosine is 2 / (1 + t²) - 1 and the sine 2 t / (1 + t²): numpy has vector
        instructions for the tangent, and one of those costs a third of a cosine and a sine. Errors stay below 1e-15.
        """
        radius, (x, y) = self._radius, self._parts
        self._radii |= _SIGN  # a negative number is never 0, and neither is what its logarithm is taken of
        np.multiply(self._radii, -(2.0**-63), out=radius)
        np.log(radius, out=radius)
        radius *= -8 * scale**2
        np.sqrt(radius, out=radius)  # twice the radius, until it is halved
        np.multiply(self._angles, math.pi * 2.0**-32, out=y)
        np.tan(y, out=y)
        np.square(y, out=x)
        x += 1
        np.divide(radius, x, out=x)
        y *= x
        radius *= 0.5
        x -= radius
        return self._added()

    def _added(self) -> NDArray[np.float64]:
        """The three sums, real parts before imaginary ones."""
        plus, other = self._parts[:, :, 0], self._parts[:, :, 1]
        minus = np.subtract(plus, other, out=self._radius.reshape(plus.shape))
        plus += other
        first, second, third = self._normals.swapaxes(0, 1)
        np.add(plus[:, 0], plus[:, 1], out=first)
        np.add(minus[:, 0], plus[:, 2], out=second)
        np.subtract(minus[0, 1], minus[1, 2], out=third[0])
        np.add(minus[1, 1], minus[0, 2], out=third[1])
        return self._normals.ravel()


def _columns(count: int) -> int:
    """How many columns the pairs for `count` normals have: a last block that is hardly needed is work for nothing."""
    blocks = max(1, -(-count // _MOST))
    return max(1, -(-count // (_PAIRS * blocks)))


def _count(shape: Shape) -> int:
    return shape if isinstance(shape, int) else math.prod(shape)
