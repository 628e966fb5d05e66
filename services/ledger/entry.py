"""The records on the ledger's chain, and the rows of the state file that derive from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from pydantic import ValidationError

from services.artifact import canonical_json
from services.chain import Chain, Link
from services.errors import StateError
from services.ledger.budget import Charge
from services.mechanism import Mechanism

LEDGER = "ledger"
"""The name of the chain."""


@dataclass(frozen=True)
class Entry:
    """One record of the ledger.

    Attributes:
        number: its place in the chain, from 1.
        event: whether the charge was reserved, or what it paid for was sealed.
        approver: who let it be reserved; None in a commitment.
        digest: the release's; None in a reservation.
    """

    number: int
    event: Literal["reserved", "committed"]
    at: datetime
    run: str
    step: str
    charge: Charge
    approver: str | None = None
    digest: str | None = None


def facts(run: str, step: str, charge: Charge) -> dict[str, Any]:
    """What every record says of a charge."""
    return {
        "run": run, "step": step, "dataset": charge.dataset,
        "mechanism": charge.mechanism.model_dump(mode="json"), "delta": charge.delta,
    }  # fmt: skip


def entries(chain: Chain) -> Iterator[Entry]:
    """The ledger's records, oldest first.

    Raises:
        StateError: one is of no form that this program writes.
    """
    for link in chain.links():
        try:
            yield _entry(link)
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(
                f"record {link.number} of the ledger is of an unknown form",
                fix="install the newer program again; or find out who could write to the state folder",
            ) from error


def _entry(link: Link) -> Entry:
    record = dict(link.record)
    charge = Charge(record.pop("dataset"), Mechanism.model_validate(record.pop("mechanism")), record.pop("delta"))
    event, at = record.pop("event"), datetime.fromisoformat(record.pop("at"))
    if record.keys() != {"run", "step", {"reserved": "approver", "committed": "digest"}[event]}:
        raise ValueError("a record has other fields")
    return Entry(link.number, event, at, charge=charge, **record)


def text_of(mechanism: Mechanism) -> str:
    """A mechanism's one spelling."""
    return canonical_json(mechanism.model_dump(mode="json")).decode()


@lru_cache(maxsize=1 << 14)
def mechanism_of(text: str) -> Mechanism:
    """The mechanism of a spelling."""
    return Mechanism.model_validate_json(text)


def charge_of(row: Any) -> Charge:
    """The charge of a row."""
    return Charge(row["dataset"], mechanism_of(row["mechanism"]), row["delta"])


def same(mechanism: Mapping[str, Any] | Mechanism, delta: float, charge: Charge) -> bool:
    """Whether a release states exactly what a charge paid for."""
    try:
        return Mechanism.model_validate(mechanism) == charge.mechanism and delta == charge.delta
    except ValidationError:
        return False
