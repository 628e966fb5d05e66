"""Charges, and releases in the outbox that they pay for, for whoever tests what a ledger says of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from scipy.stats import norm

from services.artifact import Header, NoData, Spend, digest
from services.keys import SealingKey, SigningKey
from services.ledger import LEDGER, Budget, Charge, Ledger
from services.mechanism import Event, Gaussian, Mechanism
from services.seal import seal
from services.state import State, now_text

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DELTA = 1e-5
BUDGET = Budget(epsilon_per_run=1, epsilon_for_life=3, delta=DELTA)
_SENDER, _RECIPIENT = SigningKey.generate(), SealingKey.generate()


def gaussian(noise: float, **facts: Any) -> Charge:
    """A charge for one Gaussian sum."""
    return charge(Gaussian(noise_multiplier=noise), **facts)


def charge(event: Event, dataset: str = "records", delta: float = DELTA, **facts: Any) -> Charge:
    """A charge."""
    return Charge(dataset, Mechanism(event=event, **facts), delta)


def put(state: State, run: str, release: Spend | NoData, folder: Path, heads: Mapping[str, str] | None = None) -> str:
    """Seal a release into the outbox, as the courier does; returns its digest."""
    sequence = len(state.rows("SELECT 1 FROM outbox WHERE run=?", run)) + 1
    header = Header(
        federation="f", run=run, sender="north", kind="generator", sequence=sequence,
        previous=None if sequence == 1 else "0" * 64, created=NOW, expires=NOW + timedelta(days=1),
        recipients=(_RECIPIENT.public.key_id,), schema_hash=None, heads=heads or {}, release=release,
    )  # fmt: skip
    manifest = seal(b"", header, [_RECIPIENT.public], _SENDER, folder / "body")
    state.write(
        "INSERT INTO outbox VALUES (?,?,?,?,?,?,?,?,?,NULL)",
        *(run, sequence, digest(manifest), "generator", "[]", "body", 0, manifest, now_text(NOW)),
    )
    return digest(manifest)


def spend(ledger: Ledger, run: str, step: str, paid: Charge, folder: Path, *, under: str = "") -> str:
    """Reserve, seal and commit one release, under another name than its run's if one is given; returns its digest."""
    ledger.reserve(run, step, paid, BUDGET, at=NOW, approver="anna")
    state = ledger._state
    with state.transaction():
        mechanism = paid.mechanism.model_dump(mode="json")
        release = Spend(mechanism=mechanism, delta=paid.delta)
        name = put(state, under or run, release, folder, {LEDGER: ledger.head})
        ledger.commit(run, step, mechanism, paid.delta, name, NOW)
    return name


def exact_delta(noises: Iterable[float], epsilon: float) -> float:
    """δ at ε of Gaussians together, with no Rényi in it: Balle and Wang (2018), theorem 8, at their joint shift."""
    shift = math.sqrt(math.fsum(noise**-2 for noise in noises))
    if not shift:
        return 0.0
    above, below = norm.cdf(shift / 2 - epsilon / shift), norm.logcdf(-shift / 2 - epsilon / shift)
    return float(above - math.exp(epsilon + below))
