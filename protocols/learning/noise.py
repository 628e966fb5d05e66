"""The randomness that a privacy claim rests on: normal noise and Poisson samples from cryptographic bytes.

Nothing here has a seed that a user could set, and two instances never share a stream. A uniform float64 leaves traces
in the low-order bits of a normal made from it, by which an observer can tell what it was added to (Mironov, CCS
2012). So every normal is the sum of four independent ones over two, each by Box-Muller: to trace it back, all four
would have to be guessed together (Holohan and Braghin, ESORICS 2021; the secure mode of Opacus does the same).

A radius comes from 63 random bits, of which float64 keeps the 53 that lead: tails reach 9.4 deviations, not 8.6. An
angle is one of 2^32.
"""

from __future__ import annotations

import math
import threading

import numpy as np
from numpy.typing import NDArray

from services.randomness import Stream

Shape = int | tuple[int, ...]

_PARTS = 4
_MOST = 1 << 14  # normals at a time: more leave a core's cache, and with fewer the calls cost more than the work
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
        flat = result.reshape(-1)
        columns = _columns(len(flat))
        pairs: _Pairs | None = getattr(self._memory, "pairs", None)
        if pairs is None or pairs.columns != columns:
            pairs = self._memory.pairs = _Pairs(columns)
        for first in range(0, len(flat), 2 * columns):
            self._stream.fill(pairs.bytes)
            part = flat[first : first + 2 * columns]
            part[:] = pairs.normals(scale / math.sqrt(_PARTS))[: len(part)]
        return result

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
        words = np.empty(count, dtype=np.uint32)
        self._stream.fill(words.data.cast("B"))
        limit = int(rate * 2.0**32)
        return np.flatnonzero(words <= np.uint32(limit - 1)) if limit else np.empty(0, dtype=np.intp)


class _Pairs:
    """The working memory of Box-Muller: filled with random bytes, it turns them into normals.

    Args:
        columns: half the normals that it gives at a time.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        shape, pairs = (_PARTS, columns), _PARTS * columns
        memory = np.empty(3 * pairs, dtype=np.int32)
        self.bytes = memory.data.cast("B")
        # signed, since numpy turns them into floats five times as fast as unsigned ones
        self._radii = memory[: 2 * pairs].view(np.int64).reshape(shape)
        self._angles = memory[2 * pairs :].reshape(shape)
        self._floats = np.empty((3, *shape))
        self._normals = np.empty((2, columns))

    def normals(self, scale: float) -> NDArray[np.float64]:
        """[2 columns], overwritten by the next call; one pair gives its two normals to two different sums.

        Of the tangent t of half an angle, the cosine is 2 / (1 + t²) - 1 and the sine 2 t / (1 + t²): numpy has vector
        instructions for the tangent, and one of those costs a third of a cosine and a sine. Errors stay below 1e-15.
        """
        radius, tangent, quotient = self._floats
        self._radii |= _SIGN  # a negative number is never 0, and neither is what its logarithm is taken of
        np.multiply(self._radii, -(2.0**-63), out=radius)
        np.log(radius, out=radius)
        radius *= -8 * scale**2
        np.sqrt(radius, out=radius)  # twice the radius, until it is halved
        np.multiply(self._angles, math.pi * 2.0**-32, out=tangent)
        np.tan(tangent, out=tangent)
        np.square(tangent, out=quotient)
        quotient += 1
        np.divide(radius, quotient, out=quotient)
        cosines, sines = self._normals
        np.einsum("ij,ij->j", quotient, tangent, out=sines)
        radius *= 0.5
        quotient -= radius
        np.add.reduce(quotient, axis=0, out=cosines)
        return self._normals.ravel()


def _columns(count: int) -> int:
    """How many columns the pairs for `count` normals have: a last block that is hardly needed is work for nothing."""
    blocks = max(1, -(-count // _MOST))
    return max(1, -(-count // (2 * blocks)))


def _count(shape: Shape) -> int:
    return shape if isinstance(shape, int) else math.prod(shape)
