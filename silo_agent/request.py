"""What a run asks of this silo, as its people read it before they approve: columns, kinds left unprotected, privacy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

import protocols
from protocols.spec import parse_spec
from services.errors import ConfigError
from services.mechanism import Mechanism, adjacency_in_words
from services.runs import Run


def request(run: Run, me: str, dataset: str) -> dict[str, Mapping[str, Any]]:
    """What a run asks of the silo `me`.

    Returns:
        Its `columns` as declared; the `unprotected` kinds, each in its words; and, where it `spends` privacy, how much,
        and between which tables.
    """
    identifier = run.spec.get("identifier")
    named = {identifier["column"]: {"type": "identifier", "form": identifier["form"]}} if identifier else {}
    declared = {**run.spec.get("columns", {}), **run.spec["silos"][me]["columns"]}
    return {"columns": {**named, **declared}, "unprotected": _unprotected(run), **_spends(run, dataset)}


def _unprotected(run: Run) -> Mapping[str, str]:
    try:
        return protocols.unprotected(protocols.check_spec(run.spec, "the offered run specification"))
    except ConfigError as error:  # such a run is declined, and shown all the same
        return {run.protocol: error.what}


def _spends(run: Run, dataset: str) -> dict[str, Mapping[str, Any]]:
    try:
        spend = protocols.spends(parse_spec(run.spec))
    except (ConfigError, ValidationError):  # such a run is declined, and shown all the same
        return {}
    if spend is None:
        return {}
    mechanism = Mechanism.model_validate(spend.mechanism)
    epsilon = round(mechanism.epsilon(spend.delta), 4)
    asked = {"data set": dataset, "epsilon": epsilon, "delta": spend.delta, "unit": mechanism.unit}
    return {"spends": {**asked, "adjacency": adjacency_in_words([mechanism])}}
