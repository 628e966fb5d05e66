"""Echo: the smallest protocol, and the proof that a protocol is one folder. Every silo greets; everybody hears all."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.spec import RunSpec

RELEASES = {"echo.greeting": "unprotected"}
UNPROTECTED = {"echo.greeting": "a greeting without privacy claim"}


def check_spec(spec: RunSpec) -> None:
    """Any specification will do."""


def unprotected(_: RunSpec) -> Mapping[str, str]:
    """The greeting."""
    return UNPROTECTED


def spends(_: RunSpec) -> None:
    """Nothing is released under differential privacy."""
