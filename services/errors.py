"""Every deliberate error: what happened, what was kept, what to do next, and the exit code it ends a command with."""

from __future__ import annotations

MACHINE = "who runs this machine"
NETWORK = "this institution's network people"
CONSORTIUM = "the consortium"
STORE_OPERATOR = "the store's operator"
BROKER_OPERATOR = "the broker's operator"


class SilokitError(Exception):
    """The base of every error that the kit raises on purpose.

    Args:
        what: what happened, in one sentence; never a value from a table.
        fix: what the reader can do about it.
        kept: what was not lost.
        who: whose task the fix is, where that is not whoever reads it.
    """

    exit_code = 1

    def __init__(self, what: str, *, fix: str = "", kept: str = "", who: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.kept = kept
        self.who = who

    def __str__(self) -> str:
        parts = [self.what]
        if self.kept:
            parts.append(f"Kept: {self.kept}")
        if self.fix:
            parts.append(f"Next: {self.fix}")
        return "\n".join(parts)


class ConfigError(SilokitError):
    """A configuration file, policy or run specification that cannot be used."""

    exit_code = 2


class DataError(SilokitError):
    """A table that contradicts its schema, or identifiers that cannot align."""

    exit_code = 3


class TrustError(SilokitError):
    """Keys, rosters or signatures that do not hold."""

    exit_code = 4


class NotYet(TrustError):
    """What only a person can bring is not there yet: a service waits for it."""


class PolicyRefusal(SilokitError):
    """The silo's own policy forbids what was asked."""

    exit_code = 5


class BudgetRefusal(PolicyRefusal):
    """A release would cost more privacy than the silo's policy grants its data set, or is not what was paid for."""


class InvalidArtifact(SilokitError):
    """An artifact that is not what it claims to be: it goes to quarantine and the queue goes on."""

    exit_code = 6


class BadSignature(InvalidArtifact):
    """A signature that does not hold under the key that is known: another key may have made it."""


class StoreError(SilokitError):
    """The object store cannot do what was asked of it."""

    exit_code = 7


class StateError(SilokitError):
    """The party's state file is in use, from the future, or behind what it published."""

    exit_code = 8


class RunFailed(SilokitError):
    """A run ended without its result."""

    exit_code = 9


class NotRunning(SilokitError):
    """The service that a command wants to talk to does not answer."""

    exit_code = 10


class NoAnswer(SilokitError):
    """The service was given a command and did not say what became of it: it may still carry it out."""

    exit_code = 12
