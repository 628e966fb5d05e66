"""What a run asks of this silo, as its people read it before they approve: the columns, and what leaves unprotected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import protocols
from services.errors import ConfigError
from services.runs import Run


def request(run: Run, me: str) -> dict[str, Mapping[str, Any]]:
    """What a run asks of the silo `me`: its `columns` as declared, and the `unprotected` kinds, each in its words."""
    identifier = run.spec.get("identifier")
    named = {identifier["column"]: {"type": "identifier", "form": identifier["form"]}} if identifier else {}
    declared = {**run.spec.get("columns", {}), **run.spec["silos"][me]["columns"]}
    return {"columns": {**named, **declared}, "unprotected": _unprotected(run.protocol)}


def _unprotected(protocol: str) -> Mapping[str, str]:
    try:
        return protocols.unprotected(protocol)
    except ConfigError as error:  # such a run is declined, and shown all the same
        return {protocol: error.what}
