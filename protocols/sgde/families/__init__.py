"""The families of generators, by the name that a run gives."""

from __future__ import annotations

from protocols.sgde.families.contract import Family, Tensors
from protocols.sgde.families.moments import Moments
from protocols.sgde.families.tan import Tan
from protocols.sgde.families.vae import Vae
from protocols.sgde.parameters import FamilyName

_FAMILIES: dict[FamilyName, Family] = {"moments": Moments(), "tan": Tan(), "vae": Vae()}


def family(name: FamilyName) -> Family:
    """The family of this name."""
    return _FAMILIES[name]


__all__ = ["Family", "Tensors", "family"]
