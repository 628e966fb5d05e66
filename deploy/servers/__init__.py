"""Real servers, private to one folder and one machine: for tests and for the demo over the wire."""

from __future__ import annotations

from services.errors import SilokitError


class ServerError(SilokitError):
    """A server does not start or does not do what it was told."""


class ServerMissing(ServerError):
    """A server is not installed on this machine."""
