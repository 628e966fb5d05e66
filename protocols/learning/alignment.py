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
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from protocols.learning.rows import Places, spans
from services.errors import InvalidArtifact

SECRET_BYTES = 32
PSEUDONYM_BYTES = 32
MAX_RECORDS = 50_000_000

_KIND = f"V{PSEUDONYM_BYTES}"

Pseudonyms = npt.NDArray[np.void]


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


def pseudonyms(secret: bytes, run: str, identifiers: Iterable[str]) -> tuple[Pseudonyms, Places]:
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
    found = np.frombuffer(digests, dtype=_KIND)
    order = np.argsort(found)  # numpy compares such values byte by byte
    return found[order], order


def read_pseudonyms(path: Path) -> Pseudonyms:
    """A silo's sorted pseudonyms as they came over the wire, as a map of the file.

    Raises:
        InvalidArtifact: the list is empty, of a broken length, unsorted, or names one twice.
    """
    size = path.stat().st_size
    if not size or size % PSEUDONYM_BYTES or size > MAX_RECORDS * PSEUDONYM_BYTES:
        raise InvalidArtifact("a list of pseudonyms has an impossible length")
    found = np.asarray(np.memmap(path, dtype=_KIND, mode="r"))
    texts = found.view(f"S{PSEUDONYM_BYTES}")  # ends in zeros count as absent, which changes no order of equal lengths
    if not all((texts[span] < texts[span.start + 1 : span.stop + 1]).all() for span in spans(len(texts) - 1)):
        raise InvalidArtifact("a list of pseudonyms is not strictly sorted")
    return found


def intersect(sets: Mapping[str, Pseudonyms], holdout: float) -> dict[str, Order]:
    """The common order for every silo.

    Args:
        sets: each silo's sorted pseudonyms.
        holdout: the share of the common records to hold out. Pseudonyms are pseudorandom, so the last share of
            the sorted common set is a uniform choice that a restart repeats.
    """
    first, *others = sets.values()
    common = first
    for other in others:
        common = common[_among(common, other)]
    held_out = np.zeros(len(common), dtype=np.bool_)
    held_out[len(common) - round(holdout * len(common)) :] = True
    return {silo: Order(np.searchsorted(found, common).astype(np.int64), held_out) for silo, found in sets.items()}


def _among(some: Pseudonyms, others: Pseudonyms) -> npt.NDArray[np.bool_]:
    """Which [n] of some sorted pseudonyms are among others, sorted too."""
    places = np.searchsorted(others, some)
    there = places < len(others)
    there[there] = others[places[there]] == some[there]
    return there


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
