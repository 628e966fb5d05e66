"""Echo: the smallest protocol, and the proof that a protocol is one folder. Every silo greets; everybody hears all."""

from __future__ import annotations

from protocols.spec import RunSpec

UNPROTECTED = {"echo.greeting": "a greeting without privacy claim"}


def check_spec(spec: RunSpec) -> None:
    """Any specification will do."""
