"""The families of generators, by the name that a run gives; each is loaded when it is asked for: `vae` brings torch."""

from __future__ import annotations

import importlib
from typing import cast

from protocols.sgde.families.contract import Family, Tensors
from protocols.sgde.parameters import FamilyName

__all__ = ["Family", "Tensors", "family"]


def family(name: FamilyName) -> Family:
    """The family of this name."""
    return cast(Family, importlib.import_module(f"{__name__}.{name}").FAMILY)
