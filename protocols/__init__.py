"""The protocols of the kit, one folder per published system, found by name and loaded when a run needs one."""

from __future__ import annotations

import importlib
from typing import Literal, cast

from services.contract import HalfFactory
from services.errors import ConfigError

Role = Literal["silo", "coordinator"]

_PACKAGES = {"silofuse": "protocols.silofuse"}


def register(name: str, package: str) -> None:
    """Add a protocol that lives in another package; its modules `silo` and `coordinator` each offer `half`."""
    _PACKAGES[name] = package


def names() -> tuple[str, ...]:
    """The names of the protocols, sorted."""
    return tuple(sorted(_PACKAGES))


def half(name: str, role: Role) -> HalfFactory:
    """The factory of one half of a protocol; importing it may import torch, so it is done when work begins.

    Raises:
        ConfigError: there is no such protocol.
    """
    return cast(HalfFactory, importlib.import_module(f"{_package(name)}.{role}").half)


def _package(name: str) -> str:
    if name not in _PACKAGES:
        raise ConfigError(f"there is no protocol {name!r}", fix=f"choose one of: {', '.join(names())}")
    return _PACKAGES[name]
