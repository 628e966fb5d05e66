"""The protocols of the kit, one folder per published system, found by name and loaded when a run needs one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal, cast

from pydantic import ValidationError

from protocols.spec import RunSpec
from services.artifact import Spend
from services.config import check_config
from services.contract import HalfFactory
from services.errors import ConfigError

Role = Literal["silo", "coordinator"]

_PACKAGES = {"silofuse": "protocols.silofuse", "sgde": "protocols.sgde"}


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


def check_spec(value: Mapping[str, Any], where: str) -> RunSpec:
    """A run specification that its protocol can run.

    Raises:
        ConfigError: every problem, with its key.
    """
    spec = check_config(value, RunSpec, where)
    try:
        _module(spec.protocol).check_spec(spec)
    except ValidationError as error:
        problems = [f"training.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
        raise ConfigError(f"{where} does not hold:\n" + "\n".join(f"  - {problem}" for problem in problems)) from error
    return spec


def sentences(name: str) -> Mapping[str, str]:
    """All that can leave a silo without a privacy claim under a protocol: kinds, and what is to be said of each.

    Raises:
        ConfigError: there is no such protocol.
    """
    return cast(Mapping[str, str], _module(name).UNPROTECTED)


def unprotected(spec: RunSpec) -> Mapping[str, str]:
    """What leaves a silo without a privacy claim in a run: kinds, and the sentence a policy must repeat.

    Args:
        spec: a specification that has been checked.

    Raises:
        ConfigError: there is no such protocol.
    """
    return cast(Mapping[str, str], _module(spec.protocol).unprotected(spec))


def spends(spec: RunSpec) -> Spend | None:
    """What a run releases about each silo's data set under differential privacy; None when it releases nothing so.

    Args:
        spec: a specification that has been checked.

    Raises:
        ConfigError: there is no such protocol.
    """
    return cast(Spend | None, _module(spec.protocol).spends(spec))


def release_of(kind: str) -> str | None:
    """The release under which a silo sends artifacts of this kind; None when no protocol declares it."""
    return next((found for name in names() if (found := _module(name).RELEASES.get(kind))), None)


def _module(name: str) -> ModuleType:
    return importlib.import_module(_package(name))


def _package(name: str) -> str:
    if name not in _PACKAGES:
        raise ConfigError(f"there is no protocol {name!r}", fix=f"choose one of: {', '.join(names())}")
    return _PACKAGES[name]
