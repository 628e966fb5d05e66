"""Which version of the kit this is."""

from __future__ import annotations

from importlib.metadata import version


def program_version() -> str:
    """The installed version of silokit."""
    return version("silokit")
