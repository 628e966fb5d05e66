"""The ceiling for life as a Rényi filter: a limit on one sum that holds although mechanisms are chosen as one goes.

What a silo releases next depends on what it released before. For such *fully adaptive* composition the Rényi
divergences of one order, fixed beforehand, still add up (Feldman and Zrnic, NeurIPS 2021; Lécuyer, 2021): as long as
the sum at this order stays within the limit, everything that was ever released is (ε, δ)-differentially private. The
limit is what the conversion of Canonne, Kamath and Steinke (NeurIPS 2020) leaves of ε:

    ε = sum + log(1 - 1/α) - log(δα) / (α - 1)

Why one order and not, at the end, the best of many: which one looks best then depends on the mechanisms, which depend
on what was released, and no single order need bound the divergence over all courses that things could have taken. The
price is small; it is paid by choosing the order from ε and δ alone, the one that lets through the most of a Gaussian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

_MOST = 1 << 14
"""The largest order: it serves ε = 0.001; a sampled mechanism's divergence takes time in proportion to it."""


@dataclass(frozen=True)
class Filter:
    """A limit on the sum of Rényi divergences of one order.

    Attributes:
        order: α, an integer.
        limit: the most that the divergences may add up to; not positive when nothing fits under ε and δ.
        delta: δ of the guarantee.
    """

    order: int
    limit: float
    delta: float

    def epsilon(self, total: float) -> float:
        """The ε at δ that a sum of divergences amounts to; nothing for nothing."""
        return max(0.0, total + _offset(self.order, self.delta)) if total else 0.0


@lru_cache(maxsize=1024)
def life_filter(epsilon: float, delta: float) -> Filter:
    """The filter of the guarantee (ε, δ); it depends on nothing else."""
    # a Gaussian's divergence of order α is in proportion to α: the best order leaves the largest limit for each unit
    order = max(range(2, _MOST), key=lambda one: (epsilon - _offset(one, delta)) / one)
    return Filter(order, epsilon - _offset(order, delta), delta)


def _offset(order: int, delta: float) -> float:
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
