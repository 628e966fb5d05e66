"""A notice as it travels: a CloudEvents 1.0 event in JSON (structured mode), so that any tool on the broker reads it.

The event says nothing that the broker does not attest: its source is the federation and the sender, and the sender is
the user whose certificate opened the connection. Anything else is no notice.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from services.artifact import canonical_json, parse_json
from services.bus import Notice
from services.errors import InvalidArtifact, StoreError
from services.store import check_key

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
EVENT_TYPE: Literal["silokit.artifact.v1"] = "silokit.artifact.v1"
MAX_EVENT_BYTES = 4096


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    specversion: Literal["1.0"] = "1.0"
    type: Literal["silokit.artifact.v1"] = EVENT_TYPE
    source: str = Field(max_length=256)
    id: str = Field(min_length=1, max_length=1024)
    subject: str = Field(max_length=1024)
    time: AwareDatetime


def write_event(notice: Notice, federation: str, sender: str, now: datetime) -> bytes:
    """The event that announces `notice`; announcing the same object again is the same event (source and id)."""
    event = _Event(source=_source(federation, sender), id=notice.object, subject=notice.object, time=now)
    return canonical_json(event.model_dump(mode="json"))


def read_event(body: bytes, federation: str, sender: str | None) -> str:
    """The key of the object that an event from `sender` announces; None is a sender whom nobody attests.

    Raises:
        InvalidArtifact: it is no such event.
    """
    try:
        event = _Event.model_validate(parse_json(body, MAX_EVENT_BYTES))
        check_key(event.subject)
    except (ValidationError, StoreError) as error:
        raise InvalidArtifact("a message that is no notice") from error
    if sender is None or event.source != _source(federation, sender):
        raise InvalidArtifact("a notice whose source the broker does not attest")
    return event.subject


def _source(federation: str, sender: str) -> str:
    return f"/{federation}/{sender}"
