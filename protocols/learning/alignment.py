"""Which records the silos have in common, found by somebody who cannot read identifiers.

A fresh 256-bit secret per run is made by one silo and sealed to the others; the coordinator never gets it. Each silo
sends HMAC-SHA-256(secret, len(run) || run || len(identifier) || identifier) for its records, sorted, so that neither
order nor identifier shows. The coordinator intersects the sets and tells each silo the places of the common records
in its own sorted list, and which of them are held out.

Who learns what: the coordinator learns set sizes and overlaps; each silo learns which of its people are in all
silos; a silo that colludes with the coordinator can guess identifiers, one HMAC per guess.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.errors import InvalidArtifact

SECRET_BYTES = 32
PSEUDONYM_BYTES = 32
MAX_RECORDS = 50_000_000

Pseudonyms = npt.NDArray[np.void]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """The common records in their common order, as places in a silo's own sorted pseudonyms.

    Attributes:
        places: int64 [n], strictly increasing.
        held_out: bool [n], True for records that no training may see.
    """

    places: Places
    held_out: npt.NDArray[np.bool_]


def make_secret() -> bytes:
    """A fresh secret for one run."""
    return secrets.token_bytes(SECRET_BYTES)


def pseudonyms(secret: bytes, run: str, identifiers: Sequence[str]) -> tuple[Pseudonyms, Places]:
    """Keyed pseudonyms of canonical identifiers, sorted.

    Returns:
        The sorted pseudonyms [n], 32 bytes each, and for each of them its row in `identifiers`.
    """
    keyed = hmac.new(secret, digestmod=hashlib.sha256)
    keyed.update(_prefixed(run))
    digests = bytearray()
    for identifier in identifiers:
        one = keyed.copy()
        one.update(_prefixed(identifier))
        digests += one.digest()
    found = np.frombuffer(bytes(digests), dtype=f"V{PSEUDONYM_BYTES}")
    order = np.array(sorted(range(len(found)), key=lambda i: found[i].tobytes()), dtype=np.int64)
    return found[order], order


def read_pseudonyms(data: bytes) -> list[bytes]:
    """A silo's sorted pseudonyms as they came over the wire.

    Raises:
        InvalidArtifact: the list is empty, of a broken length, unsorted, or names one twice.
    """
    if not data or len(data) % PSEUDONYM_BYTES or len(data) > MAX_RECORDS * PSEUDONYM_BYTES:
        raise InvalidArtifact("a list of pseudonyms has an impossible length")
    found = [data[i : i + PSEUDONYM_BYTES] for i in range(0, len(data), PSEUDONYM_BYTES)]
    if any(a >= b for a, b in itertools.pairwise(found)):
        raise InvalidArtifact("a list of pseudonyms is not strictly sorted")
    return found


def intersect(sets: Mapping[str, Sequence[bytes]], holdout: float) -> dict[str, Order]:
    """The common order for every silo.

    Args:
        sets: each silo's sorted pseudonyms.
        holdout: the share of the common records to hold out. Pseudonyms are pseudorandom, so the last share of
            the sorted common set is a uniform choice that a restart repeats.
    """
    common = sorted(set.intersection(*(set(found) for found in sets.values())))
    held_out = np.zeros(len(common), dtype=np.bool_)
    held_out[len(common) - round(holdout * len(common)) :] = True
    orders = {}
    for silo, found in sets.items():
        place = {pseudonym: i for i, pseudonym in enumerate(found)}
        orders[silo] = Order(np.array([place[p] for p in common], dtype=np.int64), held_out)
    return orders


def check_order(order: Order, records: int) -> None:
    """Refuse an order that does not fit the records it is about.

    Raises:
        InvalidArtifact: places out of range or not strictly increasing.
    """
    places = order.places
    if len(places) and (places[0] < 0 or places[-1] >= records or (np.diff(places) <= 0).any()):
        raise InvalidArtifact("the common order does not fit this silo's records")


def _prefixed(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "big") + data
