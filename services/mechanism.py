"""What a release did for its privacy, as data: a short tree of Gaussian mechanisms whose ε anybody can recompute.

The tree is an allow-list: Gaussian sums, Poisson-sampled ones, and compositions of those, each within limits, so that
a stranger's claim costs bounded time and means one thing. ε is never stated beside it but computed: exactly for
Gaussians (Balle and Wang, ICML 2018; Dong, Roth and Su, 2019), by privacy loss distributions for sampled ones.

dp_accounting is loaded when something is computed, not when a mechanism is only read: that takes a second.

The unit is a person. Under the adjacency *add-or-remove-one* a table has a person's record or lacks it. Under
*replace-one* it has one record or any other in its place: the values are protected, the presence is not. That is what
a release of one row for each person is about, since everybody sees how many there are. A Gaussian's noise multiplier
counts in what one person can move under the adjacency, and ε is the same function of it. For samples it is another
one, so that they are told under add-or-remove-one alone.

Both kinds add up to a statement about values. A record that holds nothing adds nothing to a sum, and may be put in the
place of another: against a table in which a person's values are blank, each kind costs at most what it costs under its
own adjacency, and so does a composition of both, which `composed` tells as add-or-remove-one.

`partition` names a public column by whose values the records were split before each part went through the event: a
person is in one part, so the parts do not add up. What replaces a record may belong to another part: under replace-one
there are none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_COUNT = 1_000_000
_IN_WORDS = {"add-or-remove-one": "add or remove one person", "replace-one": "replace one person's values"}
_OF_BOTH = "replace one person's values only (releases of both kinds)"
_MANY = 50.0
"""Beyond this ε, Rényi's bound is told instead of the exact value: nobody buys it, and it costs no time."""
if TYPE_CHECKING:
    import dp_accounting

_ORDERS = (*range(2, 64), 80, 96, 128, 192, 256, 512, 1024)
_MAX_SAMPLED = 2
_LEAST_NOISE, _MOST_NOISE = 0.1, 1e5
_TOLERANCE = 1.002
_DIGITS = 4


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Gaussian(_Part):
    """Numbers that one person moves by a vector of norm at most 1, released with normal noise of this deviation."""

    event: Literal["gaussian"] = "gaussian"
    noise_multiplier: float = Field(ge=_LEAST_NOISE, le=1e6)


class Sampled(_Part):
    """The same over a Poisson sample: each person takes part with this probability, independently."""

    event: Literal["poisson-sampled-gaussian"] = "poisson-sampled-gaussian"
    rate: float = Field(gt=0, lt=1)
    noise_multiplier: float = Field(ge=_LEAST_NOISE, le=1e6)


class Repeated(_Part):
    """One mechanism so many times, each chosen after seeing the ones before."""

    event: Literal["repeated"] = "repeated"
    count: int = Field(ge=1, le=MAX_COUNT)
    of: Annotated[Gaussian | Sampled, Field(discriminator="event")]


Single = Annotated[Gaussian | Sampled | Repeated, Field(discriminator="event")]


class Composed(_Part):
    """Several mechanisms over the same people, one after another; few of them sampled, for those cost time."""

    event: Literal["composed"] = "composed"
    of: tuple[Single, ...] = Field(min_length=1, max_length=16)

    @model_validator(mode="after")
    def _is_quick(self) -> Self:
        if sum(_as_one_gaussian(part) is None for part in self.of) > _MAX_SAMPLED:
            raise ValueError(f"at most {_MAX_SAMPLED} parts of a composition are sampled")
        return self


Event = Annotated[Gaussian | Sampled | Repeated | Composed, Field(discriminator="event")]
Adjacency = Literal["add-or-remove-one", "replace-one"]


class Mechanism(_Part):
    """A whole release.

    Attributes:
        event: what was executed, on each part where there are several.
        partition: the public column that splits the people into parts; None when they are one.
    """

    unit: Literal["person"] = "person"
    adjacency: Adjacency = "add-or-remove-one"
    partition: str | None = Field(default=None, min_length=1, max_length=128)
    event: Event

    @model_validator(mode="after")
    def _is_known_for_its_adjacency(self) -> Self:
        if self.adjacency == "replace-one" and (self.partition is not None or _as_one_gaussian(self.event) is None):
            raise ValueError("under replace-one, a mechanism is made of Gaussians over all records")
        return self

    def epsilon(self, delta: float) -> float:
        """ε at δ, an upper bound.

        Raises:
            ValueError: δ is not a probability above 0.
        """
        return _epsilon(self.event, delta)

    def within(self, epsilon: float, delta: float) -> bool:
        """Whether ε at δ is at most this; where a quick upper bound says so, the exact value is not computed.

        Raises:
            ValueError: δ is not a probability above 0.
        """
        return _quick_epsilon(self.event, delta) <= epsilon or _epsilon(self.event, delta) <= epsilon

    def rdp(self, order: int) -> float:
        """The Rényi divergence of this order (Mironov, 2017); the sum over releases bounds them all."""
        return _rdp(self.event, order)


def adjacency_in_words(mechanisms: Iterable[Mechanism]) -> str:
    """Between which tables an ε over all of these is told; of both kinds, it is about replacing values only."""
    adjacencies = {mechanism.adjacency for mechanism in mechanisms}
    return _OF_BOTH if len(adjacencies) > 1 else "".join(_IN_WORDS[one] for one in adjacencies)


def composed(mechanisms: Iterable[Mechanism]) -> Mechanism:
    """One mechanism in the place of several over the same people: Gaussians become one, equal ones are counted.

    Raises:
        ValueError: there is none, or they are of more different kinds than an ε is computed for.
    """
    counts: Counter[Gaussian | Sampled] = Counter()
    adjacencies: set[Adjacency] = set()
    for mechanism in mechanisms:
        adjacencies.add(mechanism.adjacency)
        for single, count in _singles(mechanism.event):
            counts[single] += count
    sums = {single: count for single, count in counts.items() if isinstance(single, Gaussian)}
    parts: list[Single] = [Repeated(count=counts[one], of=one) for one in counts if isinstance(one, Sampled)]
    if sums:
        precision = math.fsum(count / one.noise_multiplier**2 for one, count in sums.items())
        parts.append(Gaussian(noise_multiplier=1 / math.sqrt(precision)))
    adjacency: Adjacency = "replace-one" if adjacencies == {"replace-one"} else "add-or-remove-one"
    return Mechanism(adjacency=adjacency, event=parts[0] if len(parts) == 1 else Composed(of=tuple(parts)))


def _singles(event: Event) -> Iterator[tuple[Gaussian | Sampled, int]]:
    if isinstance(event, Composed):
        for part in event.of:
            yield from _singles(part)
    elif isinstance(event, Repeated):
        yield event.of, event.count
    else:
        yield event, 1


@lru_cache(maxsize=4096)
def _epsilon(event: Event, delta: float) -> float:
    bound = _quick_epsilon(event, delta)
    if bound > _MANY or _as_one_gaussian(event) is not None:
        return bound
    from dp_accounting.pld import PLDAccountant  # noqa: PLC0415 - see above

    return float(min(bound, PLDAccountant().compose(_dp_event(event)).get_epsilon(delta)))


@lru_cache(maxsize=4096)
def _quick_epsilon(event: Event, delta: float) -> float:
    if not 0 < delta < 1:
        raise ValueError("δ must lie strictly between 0 and 1")
    import dp_accounting  # noqa: PLC0415 - see above
    from dp_accounting.rdp import RdpAccountant  # noqa: PLC0415

    if (whole := _as_one_gaussian(event)) is not None:
        return float(dp_accounting.get_epsilon_gaussian(whole, delta))
    return float(RdpAccountant(orders=_ORDERS).compose(_dp_event(event)).get_epsilon(delta))


@lru_cache(maxsize=4096)
def _rdp(event: Event, order: int) -> float:
    if isinstance(event, Gaussian):
        return order / (2 * event.noise_multiplier**2)
    if isinstance(event, Repeated):
        return event.count * _rdp(event.of, order)
    if isinstance(event, Composed):
        return sum(_rdp(part, order) for part in event.of)
    from dp_accounting.rdp import RdpAccountant  # noqa: PLC0415 - see above

    accountant = RdpAccountant(orders=[order]).compose(_dp_event(event))
    return float(accountant._rdp[0])  # noqa: SLF001 - the accountant shows ε only


def _as_one_gaussian(event: Event) -> float | None:
    """The noise multiplier of the one Gaussian that equals the composition of Gaussians; None if there is another."""
    if isinstance(event, Gaussian):
        return event.noise_multiplier
    if isinstance(event, Repeated):
        inner = _as_one_gaussian(event.of)
        return None if inner is None else inner / math.sqrt(event.count)
    if isinstance(event, Composed):
        parts = [_as_one_gaussian(part) for part in event.of]
        known = [part for part in parts if part is not None]
        return 1 / math.sqrt(sum(part**-2 for part in known)) if len(known) == len(parts) else None
    return None


def _dp_event(event: Event) -> dp_accounting.DpEvent:
    import dp_accounting  # noqa: PLC0415 - see above

    if isinstance(event, Gaussian):
        return dp_accounting.GaussianDpEvent(event.noise_multiplier)
    if isinstance(event, Sampled):
        return dp_accounting.PoissonSampledDpEvent(event.rate, dp_accounting.GaussianDpEvent(event.noise_multiplier))
    if isinstance(event, Repeated):
        return dp_accounting.SelfComposedDpEvent(_dp_event(event.of), event.count)
    return dp_accounting.ComposedDpEvent([_dp_event(part) for part in event.of])


@lru_cache(maxsize=256)
def calibrated(event_of: Callable[[float], Event], epsilon: float, delta: float) -> Event:
    """The event with hardly more noise than keeps within ε at δ; the same on every machine.

    Args:
        event_of: makes the event of a scale from 0.1 on; more scale must mean more noise. Hashable: answers are kept.
        epsilon: at most this.
        delta: at this δ.

    Raises:
        ValueError: no scale up to 100,000 is enough.
    """
    low, high = _LEAST_NOISE, 2 * _LEAST_NOISE
    while _quick_epsilon(event_of(high), delta) > epsilon:
        low, high = high, high * 2
        if high > _MOST_NOISE:
            raise ValueError(f"no noise is enough for ε = {epsilon} at δ = {delta}")
    # the quick bound is never below the exact value: its scale is enough, and about half of it may be
    low = max(_LEAST_NOISE, low / 2)
    while high / low > _TOLERANCE:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _epsilon(event_of(middle), delta) <= epsilon else (middle, high)
    return event_of(math.ceil(high * 10**_DIGITS) / 10**_DIGITS)
