"""What an artifact is and what may be said of its release: everything about one that is known before encryption.

No cryptography here: `services.seal` seals these words, `services.courier` carries them.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, FailFast, Field, ValidationError

from services.errors import InvalidArtifact

MAX_MANIFEST_BYTES = 1 << 20
MAX_JSON_DEPTH = 16
MAX_JSON_VALUES = 1 << 18
"""The most values in any JSON document: more than a full catalog or a specification full of categories can hold."""
MAX_MANIFEST_VALUES = 4096
"""The most values in a header, or in a manifest around it: with everything that the format allows they hold 1,400."""
MAX_RECIPIENTS = 256
MAX_ARTIFACT_BYTES = 4 << 30
POOL = "pool"
"""The name in a run's place under which published generators lie: they outlive every run, and no run is called so."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_KIND = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_HEX256 = re.compile(r"[0-9a-f]{64}")
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A string in JSON, or the beginning of one that never ends."""


def check_name(value: str) -> str:
    """Accept the name of a federation, party or run: lower-case letters, digits and inner hyphens, at most 63.

    Raises:
        ValueError: it is anything else. Names become folders, queues and object keys, so nothing else is safe.
    """
    if not _NAME.fullmatch(value):
        raise ValueError("a name is 1 to 63 lower-case letters, digits and inner hyphens")
    return value


def _check_kind(value: str) -> str:
    if len(value) > 64 or not _KIND.fullmatch(value):
        raise ValueError("a kind is lower-case words joined by dots or hyphens")
    return value


def _check_digest(value: str) -> str:
    if not _HEX256.fullmatch(value):
        raise ValueError("a digest is 64 lower-case hexadecimal digits")
    return value


Name = Annotated[str, AfterValidator(check_name)]
Kind = Annotated[str, AfterValidator(_check_kind)]
Digest = Annotated[str, AfterValidator(_check_digest)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Spend(_Frozen):
    """The artifact left under a differentially private mechanism, which the ledger has paid for."""

    release: Literal["spend"] = "spend"
    mechanism: dict[str, Any]
    delta: float = Field(gt=0, lt=1)


class Unprotected(_Frozen):
    """The artifact derives from private rows and carries no privacy claim; `reason` names why it may leave."""

    release: Literal["unprotected"] = "unprotected"
    reason: str = Field(min_length=1, max_length=200)


class NoData(_Frozen):
    """A control message: nothing in it derives from a private row."""

    release: Literal["no-data"] = "no-data"


class Derived(_Frozen):
    """Post-processing of artifacts that were already released, named by their digests."""

    release: Literal["derived"] = "derived"
    digests: Annotated[tuple[Digest, ...], FailFast()] = Field(min_length=1, max_length=1024)


Release = Annotated[Spend | Unprotected | NoData | Derived, Field(discriminator="release")]


class Header(_Frozen):
    """Everything known before encryption; SHA-256 of its exact bytes binds every later part of the envelope.

    Attributes:
        sequence: counts this sender's artifacts in this run from 1, without holes.
        previous: the digest of this sender's artifact before this one in this run; None at sequence 1.
        recipients: key ids of the recipients' encryption keys, sorted.
        schema_hash: SHA-256 of the run specification that the sender agreed to; None before there is one.
        heads: the heads of the sender's hash chains, by the chain's name, as they stood before this artifact.
    """

    version: Literal[1] = 1
    federation: Name
    run: Name
    sender: Name
    kind: Kind
    round: int = Field(default=0, ge=0, le=2**31)
    sequence: int = Field(ge=1, le=2**31)
    previous: Digest | None
    created: AwareDatetime
    expires: AwareDatetime
    recipients: Annotated[tuple[Digest, ...], FailFast()] = Field(min_length=1, max_length=MAX_RECIPIENTS)
    schema_hash: Digest | None
    heads: dict[Kind, Digest] = Field(max_length=8)
    release: Release

    def live_at(self, now: datetime, skew: timedelta = timedelta(minutes=10)) -> bool:
        """Whether `now`, give or take clock skew, lies within the artifact's life."""
        # the skew is never added to the sender's words: at the ends of the calendar that overflows
        return self.created <= now + skew and now - skew <= self.expires


def canonical_json(value: Any) -> bytes:
    """The one way the kit writes JSON that is hashed or signed: UTF-8, sorted keys, no blanks, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(data: bytes) -> str:
    """SHA-256 in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def parse_json(data: bytes, limit: int = MAX_MANIFEST_BYTES, most: int = MAX_JSON_VALUES) -> Any:
    """Parse JSON from a stranger: bounded size, depth and values, no duplicate keys, no NaN or infinity.

    Args:
        data: the document.
        limit: the most bytes.
        most: the most values; each costs far more memory and time than its bytes.

    Raises:
        InvalidArtifact: the text breaks one of these limits or is not JSON.
    """
    if len(data) > limit:
        raise InvalidArtifact(f"a JSON document of {len(data)} bytes exceeds the limit of {limit}")
    try:
        text = data.decode(json.detect_encoding(data), "surrogatepass")
        _check_structure(text, most)
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidArtifact("a document is not the JSON that the format allows") from error


def parse_header(data: bytes) -> Header:
    """Parse a header's exact bytes.

    Raises:
        InvalidArtifact: unknown version, unknown or missing field, or a value outside its limits.
    """
    value = parse_json(data, most=MAX_MANIFEST_VALUES)
    try:
        return Header.model_validate(value)
    except ValidationError as error:
        raise InvalidArtifact(f"the header is malformed: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _check_structure(text: str, most: int) -> None:
    # before json.loads, whose recursion and memory a hostile document could exhaust
    bare = _STRING.sub("", text)
    # a container of n values has n - 1 commas
    if 1 + sum(map(bare.count, ",[{")) > most:
        raise InvalidArtifact(f"a JSON document holds more than {most} values")
    depth = 0
    for character in bare:
        if character in "[{":
            depth += 1
            if depth > MAX_JSON_DEPTH:
                raise InvalidArtifact(f"a JSON document nests deeper than {MAX_JSON_DEPTH}")
        elif character in "]}":
            depth -= 1


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("duplicate key")
    return out


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
