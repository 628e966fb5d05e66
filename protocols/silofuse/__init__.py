"""SiloFuse (arXiv 2404.03299): vertical partition, private codes, one upload of latents, one latent diffusion."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.silofuse.messages import LATENTS, LAYOUT, NOISED, PSEUDONYMS, SECRET
from protocols.silofuse.parameters import SiloFuseParameters
from protocols.spec import RunSpec
from services.artifact import Spend
from services.errors import ConfigError

RELEASES: Mapping[str, str] = {
    SECRET: "no-data",
    PSEUDONYMS: "unprotected",
    LATENTS: "unprotected",
    LAYOUT: "unprotected",
    NOISED: "spend",
}
"""What a silo sends, and what it says of each."""
UNPROTECTED: Mapping[str, str] = {
    PSEUDONYMS: "keyed pseudonyms of identifiers: the coordinator sees set sizes and overlaps",
    LATENTS: "codes of private rows without differential privacy: personal data for the coordinator's eyes",
    LAYOUT: "where each column lies among the codes: the coordinator reads every row's rank in every quantity, "
    "tells rows of a category from others, and names neither",
}
"""What can leave a silo without a privacy claim, and the sentence that its policy must repeat to let it."""


def check_spec(spec: RunSpec) -> None:
    """Refuse a specification that this protocol cannot run.

    Raises:
        ConfigError: what is missing, and how to say it.
        pydantic.ValidationError: the protocol's own parameters are off.
    """
    noise = SiloFuseParameters.model_validate(spec.training).noise
    if noise is not None:
        noise.check(spec.every_column)
    if spec.identifier is None:
        raise ConfigError(
            "SiloFuse aligns the silos' rows, so the run specification must name the `identifier` column",
            fix="add `identifier: {column: ..., form: text}`",
        )
    if len(spec.silos) < 2:
        raise ConfigError("SiloFuse needs at least two silos", fix="add the others under `silos`")
    if spec.columns:
        raise ConfigError(
            "SiloFuse joins different columns of the same people, so no column belongs to every silo",
            fix="take `columns` away, and declare what each silo brings under its name in `silos`",
        )
    if empty := [silo for silo, part in spec.silos.items() if not part.columns]:
        raise ConfigError(f"these silos declare no columns: {', '.join(empty)}", fix="declare what each one brings")


def unprotected(spec: RunSpec) -> Mapping[str, str]:
    """What leaves a silo without a privacy claim in this run: codes unless under noise, the layout in its own form."""
    parameters = SiloFuseParameters.model_validate(spec.training)
    leaves = {PSEUDONYMS: True, LATENTS: parameters.noise is None, LAYOUT: parameters.form == "layout"}
    return {kind: sentence for kind, sentence in UNPROTECTED.items() if leaves[kind]}


def spends(spec: RunSpec) -> Spend | None:
    """The mechanism that covers every uploaded row, where the run asks for noise."""
    noise = SiloFuseParameters.model_validate(spec.training).noise
    return noise.spend if noise else None
