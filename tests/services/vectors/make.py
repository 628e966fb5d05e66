"""Makes vectors.json, the frozen artifacts of format v1: once. Made anew it differs, for HPKE draws fresh randomness.

    python -m tests.services.vectors.make

A vector's body stands in it when it is small; otherwise the vector says which chunks it is made of, and the digest in
its frozen manifest freezes it all the same. Each refused vector has exactly one fault, and a valid signature unless
that is the fault.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from tests.services.vectors.reference import MIB, SUITE, TYPE, Chunk, Forge, Party, chunks_of, pattern, text_of, wrap_info

TARGET = Path(__file__).with_name("vectors.json")
HUB, EAST, MALLORY = Party("hub"), Party("east"), Party("mallory")
TWO = 2 * MIB + 5
A, B, C = chunks_of(TWO)


def put(**changes: Any) -> Any:
    """A change that sets fields of a dictionary."""
    return lambda value: {**value, **changes}


def without(name: str) -> Any:
    return lambda value: {key: item for key, item in value.items() if key != name}


def swap(old: str, new: str) -> Any:
    def change(text: bytes) -> bytes:
        assert old.encode() in text, old
        return text.replace(old.encode(), new.encode(), 1)

    return change


def resign(party: Party, payload_type: str = TYPE) -> Any:
    """Another party's signature under the sender's key id."""

    def change(outer: dict[str, Any]) -> dict[str, Any]:
        payload = base64.b64decode(outer["payload"])
        signature = Forge(sender=party, payload_type=payload_type)
        from tests.services.vectors.reference import pre_authentication

        sig = text_of(signature.sender.signing.sign(pre_authentication(payload_type, payload)))
        return {**outer, "signatures": [{**outer["signatures"][0], "sig": sig}]}

    return change
