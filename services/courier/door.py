"""What both halves of the courier stand on: the ports, and the words that say what of a run still counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services import chunks
from services.artifact import MAX_ARTIFACT_BYTES
from services.bus import EventBus
from services.contract import Message
from services.errors import InvalidArtifact, SilokitError
from services.keyring import KeyRing
from services.state import CALLED_OFF, LIVE, State
from services.store import ObjectStore
from services.trust import CATALOG, MAX_CATALOG_BYTES, Trust

OUTLIVING = ("run.done", "product.")
"""Kinds that are still taken after their run has ended here."""
CONTROL = "run."
"""How the kinds begin that may speak of a run before its offer was read; they are small."""
SAFE = (CONTROL, CATALOG)
"""How the kinds begin that hold no data of anybody: they leave although their run was called off meanwhile."""
MAX_CONTROL_BYTES = 2 << 20
_NAME = r"([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
MANIFEST_KEY = re.compile(rf"{_NAME}/{_NAME}/{_NAME}/([0-9a-f]{{64}})\.manifest")
"""A manifest's name in the store: federation, sender, run, digest."""

Guard = Callable[[str, Message, Sequence[str]], str]
"""Called as `guard(run, message, recipients)` before anything is sealed; returns the version of the policy that allows
it, for the audit log, or raises PolicyRefusal."""


class Equivocation(InvalidArtifact):
    """A sender said two different things in one place of its chain."""


class RunOver(SilokitError):
    """The run ended here while something was made for it: it does not leave."""


@dataclass(frozen=True)
class Door:
    """What a courier stands between: this party's keys and the federation's store, bus and trust."""

    federation: str
    ring: KeyRing
    store: ObjectStore
    bus: EventBus
    trust: Trust


def is_over(state: State, run: str, kind: str) -> bool:
    """Whether the run has ended here, and with it what is of this kind."""
    phase = _phase(state, run)
    return phase is not None and phase not in LIVE and not kind.startswith(OUTLIVING)


def longest(kind: str) -> int:
    """How many bytes the body of an artifact of this kind may have."""
    if kind.startswith(CONTROL):
        return MAX_CONTROL_BYTES
    return chunks.body_length(MAX_CATALOG_BYTES) if kind == CATALOG else MAX_ARTIFACT_BYTES


def called_off(state: State, run: str) -> bool:
    """Whether the run ended here without its result."""
    return _phase(state, run) in CALLED_OFF


def _phase(state: State, run: str) -> str | None:
    found = state.row("SELECT phase FROM runs WHERE run=?", run)
    return found["phase"] if found else None
