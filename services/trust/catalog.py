"""The catalog of published generators: each silo lists its own, as targets of its delegation in the TUF repository.

A target's path is `SILO/DIGEST.generator`, where the digest is that of the manifest by which the generator was first
published; its length and hash are those of the generator itself, as it is before it is sealed. So whoever pulled one
knows that it is what the silo lists today, by whichever of its seals it came. What else is said of it stands in the
target's `custom` field, which is an allow-list. TUF signs no fractions: a release is carried as its canonical JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from tuf.api.metadata import Metadata, TargetFile, Targets

from services.artifact import Digest, Kind, Name, Spend, canonical_json, parse_json
from services.errors import InvalidArtifact

GENERATOR = "pool.generator"
"""The kind of a published generator."""
SEAL = "pool.seal"
"""The kind of a later seal of one, for members who came after it."""
MAX_GENERATOR_BYTES = 64 << 20
MAX_GENERATORS = 10_000
MAX_SEALS = 64
_MAX_RELEASE = 8192
_PATH = re.compile(r"([a-z0-9-]{1,63})/([0-9a-f]{64})\.generator")


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("control characters are refused")
    return text


Word = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_check_printable)]


class Published(BaseModel):
    """What a silo says of a generator that it published.

    Attributes:
        run: the run that made it.
        kind: of its artifact.
        release: the `Spend` under which it left, as canonical JSON.
        seals: digests of the manifests by which it can be had: the original, then those for whoever came later.
        dataset: the name of the data set that paid.
        family: what kind of generator it is.
        label: the column over whose classes it is balanced.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: Name
    kind: Kind
    release: str = Field(max_length=_MAX_RELEASE)
    seals: tuple[Digest, ...] = Field(min_length=1, max_length=MAX_SEALS)
    dataset: Word | None = None
    family: Word | None = None
    label: Word | None = None

    def spend(self) -> Spend:
        """What it cost, as it claims.

        Raises:
            InvalidArtifact: the claim is malformed.
        """
        return read_release(self.release)


@dataclass(frozen=True)
class Listed:
    """A generator as its silo lists it.

    Attributes:
        silo: who signs for it.
        digest: of the manifest by which it was published.
        sha256: of the generator itself.
        length: of the generator itself, in bytes.
        about: what its silo says of it.
    """

    silo: str
    digest: str
    sha256: str
    length: int
    about: Published

    @property
    def name(self) -> str:
        """What people type: `SILO/DIGEST`, of which a beginning is enough."""
        return f"{self.silo}/{self.digest}"


@dataclass(frozen=True)
class Catalog:
    """Everything that the members list.

    Attributes:
        generators: by silo, then by digest.
        faults: the members whose lists cannot be believed now, and why.
    """

    generators: Mapping[str, Mapping[str, Listed]]
    faults: Mapping[str, str] = field(default_factory=dict)


def release_text(release: Spend) -> str:
    """A release as the catalog carries it."""
    return canonical_json(release.model_dump(mode="json")).decode()


def read_release(text: str) -> Spend:
    """The release that `release_text` has written.

    Raises:
        InvalidArtifact: the text is malformed.
    """
    try:
        return Spend.model_validate(parse_json(text.encode(), _MAX_RELEASE))
    except (ValidationError, UnicodeEncodeError) as error:
        raise InvalidArtifact("what it says of its release is malformed") from error


def make_catalog(version: int, listed: Iterable[Listed], expires: datetime) -> Metadata[Targets]:
    """One silo's list without its signature."""
    targets = {}
    for one in listed:
        path = f"{one.silo}/{one.digest}.generator"
        said = {"custom": one.about.model_dump(mode="json", exclude_none=True)}
        targets[path] = TargetFile(one.length, {"sha256": one.sha256}, path, said)
    return Metadata(Targets(version=version, expires=expires, targets=targets))


def read_catalog(silo: str, signed: Targets) -> dict[str, Listed]:
    """What a silo lists, by digest.

    Args:
        silo: whose list it is.
        signed: its targets, whose signature was verified.

    Raises:
        InvalidArtifact: it lists what is not its own, too much, or something malformed.
    """
    if signed.delegations is not None:
        raise InvalidArtifact("a catalog passes its rights on to nobody")
    if len(signed.targets) > MAX_GENERATORS:
        raise InvalidArtifact(f"a catalog lists at most {MAX_GENERATORS} generators, not {len(signed.targets)}")
    return {one.digest: one for one in (_listed(silo, path, target) for path, target in signed.targets.items())}


def _listed(silo: str, path: str, target: TargetFile) -> Listed:
    match = _PATH.fullmatch(path)
    if match is None or match[1] != silo:
        raise InvalidArtifact("a catalog lists something that is no generator of its own silo")
    if set(target.hashes) != {"sha256"} or not 0 < target.length <= MAX_GENERATOR_BYTES:
        raise InvalidArtifact(f"the generator {match[2][:12]} is listed without its SHA-256 or a possible length")
    try:
        about = Published.model_validate(target.custom)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"][:1])[:32]
        raise InvalidArtifact(f"what is said of the generator {match[2][:12]} is malformed: {where}") from None
    if (about.seals[0], about.kind) != (match[2], GENERATOR):
        raise InvalidArtifact(f"the generator {match[2][:12]} is listed under another's name")
    return Listed(silo, match[2], str(target.hashes["sha256"]), target.length, about)
