"""SGDE (arXiv 2109.12062): every silo trains a differentially private generator; all of them make up a pool."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.sgde.messages import GENERATOR, PUSHED
from protocols.sgde.parameters import SgdeParameters
from protocols.spec import RunSpec
from services.artifact import Spend
from services.errors import ConfigError

RELEASES: Mapping[str, str] = {GENERATOR: "spend", PUSHED: "no-data"}
"""What a silo sends, and what it says of each."""
UNPROTECTED: Mapping[str, str] = {}
"""Nothing leaves a silo without a privacy claim."""


def check_spec(spec: RunSpec) -> None:
    """Refuse a specification that this protocol cannot run.

    Raises:
        ConfigError: what is missing, and how to say it.
        pydantic.ValidationError: the protocol's own parameters are off.
    """
    parameters = SgdeParameters.model_validate(spec.training)
    if not spec.columns or any(part.columns for part in spec.silos.values()):
        raise ConfigError(
            "in SGDE every silo has the same columns, of people of its own",
            fix="declare them once under `columns`, and name the silos without any: `silos: {north: {}}`",
        )
    parameters.check(spec.columns)


def unprotected(_: RunSpec) -> Mapping[str, str]:
    """Nothing leaves a silo without a privacy claim."""
    return UNPROTECTED


def spends(spec: RunSpec) -> Spend:
    """The mechanism of the run's family, and at which δ it is told."""
    from protocols.sgde.families import family  # noqa: PLC0415 - learning libraries only when a run is looked at

    parameters = SgdeParameters.model_validate(spec.training)
    mechanism = family(parameters.family).mechanism(spec.columns, parameters)
    return Spend(mechanism=mechanism.model_dump(mode="json"), delta=parameters.delta)
