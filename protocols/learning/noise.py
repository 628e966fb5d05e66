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
_BLOCK = 8192  # pairs of normals at a time: all that is in between stays in a core's cache
_SIGN = -(1 << 63)
_PER_BLOCK = 2 * _BLOCK // _PARTS


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
        if not hasattr(self._memory, "pairs"):
            self._memory.pairs = _Pairs()
        pairs: _Pairs = self._memory.pairs
        for first in range(0, len(flat), _PER_BLOCK):
            self._stream.fill(pairs.bytes)
            part = flat[first : first + _PER_BLOCK]
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

        How many they are is private where the records are.
        """
        return np.flatnonzero(self.uniform(count) < rate)


class _Pairs:
    """The working memory of Box-Muller: filled with random bytes, it turns them into normals."""

    def __init__(self) -> None:
        shape = (_PARTS, _BLOCK // _PARTS)
        memory = np.empty(3 * _BLOCK, dtype=np.int32)
        self.bytes = memory.data.cast("B")
        # signed, since numpy turns them into floats five times as fast as unsigned ones
        self._radii = memory[: 2 * _BLOCK].view(np.int64).reshape(shape)
        self._angles = memory[2 * _BLOCK :].reshape(shape)
        self._floats = np.empty((3, *shape))
        self._normals = np.empty((2, _BLOCK // _PARTS))

    def normals(self, scale: float) -> NDArray[np.float64]:
        """[_PER_BLOCK], overwritten by the next call; one pair gives its two normals to two different sums.

        Of the tangent t of half an angle, the cosine is 2 / (1 + t²) - 1 and the sine 2 t / (1 + t²): numpy has vector
        instructions for the tangent, and one of those costs a third of a cosine and a sine. Errors stay below 1e-15.
        """
        twice, tangent, quotient = self._floats
        self._radii |= _SIGN  # a negative number is never 0, and neither is what its logarithm is taken of
        np.multiply(self._radii, -(2.0**-63), out=twice)
        np.log(twice, out=twice)
        twice *= -8 * scale**2
        np.sqrt(twice, out=twice)  # twice the radius
        np.multiply(self._angles, math.pi * 2.0**-32, out=tangent)
        np.tan(tangent, out=tangent)
        np.multiply(tangent, tangent, out=quotient)
        quotient += 1
        np.divide(twice, quotient, out=quotient)
        cosines, sines = self._normals
        np.einsum("ij,ij->j", quotient, tangent, out=sines)
        quotient.sum(axis=0, out=cosines)
        cosines -= twice.sum(axis=0) / 2
        return self._normals.ravel()


def _count(shape: Shape) -> int:
    return shape if isinstance(shape, int) else math.prod(shape)
