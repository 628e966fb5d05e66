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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.services.vectors.reference import (
    MIB,
    SUITE,
    TYPE,
    Chunk,
    Forge,
    Party,
    chunks_of,
    text_of,
    wrap_info,
)

TARGET = Path(__file__).with_name("vectors.json")
NORTH, HUB, EAST, MALLORY = Party("north"), Party("hub"), Party("east"), Party("mallory")
LONG = 2 * MIB + 5
A, B, C = chunks_of(LONG)
HONEST = Forge()
replaced = dataclasses.replace


def put(**changes: Any) -> Any:
    return lambda value: {**value, **changes}


def without(name: str) -> Any:
    return lambda value: {key: item for key, item in value.items() if key != name}


def swap(old: str, new: str) -> Any:
    def change(text: bytes) -> bytes:
        assert text.count(old.encode()) == 1, (old, text)
        return text.replace(old.encode(), new.encode())

    return change


def signature(**changes: Any) -> Any:
    return lambda outer: {**outer, "signatures": [{**outer["signatures"][0], **changes}]}


def flip(name: str, bit: int) -> Any:
    """Flip one bit of the bytes that a field spells in base64."""

    def change(value: dict[str, Any]) -> dict[str, Any]:
        raw = bytearray(base64.b64decode(value[name]))
        raw[bit // 8] ^= 1 << bit % 8
        return {**value, name: text_of(bytes(raw))}

    return change


def flipped_signature(outer: dict[str, Any]) -> dict[str, Any]:
    return {**outer, "signatures": [flip("sig", 77)(outer["signatures"][0])]}


def accepted() -> Iterator[tuple[str, Forge]]:
    """Honest artifacts, around the edges of the chunks."""
    for length in (0, 1, 11, 1000):
        yield f"a payload of {length} bytes", Forge(length)
    for length in (MIB - 1, MIB, MIB + 1, 2 * MIB, LONG):
        yield f"a payload of {length} bytes in chunks", Forge(length)
    yield "two recipients", Forge(recipients=(HUB, EAST))
    mechanism = {"event": "gaussian", "noise_multiplier": 1.5, "parts": [1, 2.0, None, "é"]}
    spend = {"release": "spend", "mechanism": mechanism, "delta": 1e-05}
    yield "a release that was paid for", Forge(header=put(release=spend))


def spelt_otherwise() -> Iterator[tuple[str, str, Forge]]:
    """The same content in other bytes: every one would be another digest of the same artifact."""
    once = "one spelling"
    yield "a blank in the envelope", once, Forge(outer_text=swap('"payloadType":', '"payloadType": '))
    yield "a newline after the envelope", once, Forge(outer_text=lambda text: text + b"\n")
    yield (
        "the envelope's fields in another order",
        once,
        Forge(
            outer_text=lambda text: json.dumps(dict(reversed(json.loads(text).items())), separators=(",", ":")).encode()
        ),
    )
    yield "an escaped letter in the envelope", once, Forge(outer_text=swap('"payloadType"', '"\\u0070ayloadType"'))
    yield "the envelope in UTF-16", once, Forge(outer_text=lambda text: text.decode().encode("utf-16"))
    yield "trailing bits in base64", once, Forge(outer=lambda o: signature(sig=loose(o["signatures"][0]["sig"]))(o))
    yield "a field more in the envelope", once, Forge(outer=put(note=1))
    yield "a field more in the signature", once, Forge(outer=signature(note=1))
    yield "a blank in the manifest", once, Forge(payload_text=swap('"body_length":', '"body_length": '))
    yield "a number as text in the manifest", once, Forge(payload=put(body_length="27"))
    yield "a number as a fraction in the manifest", once, Forge(payload=put(body_length=27.0))
    yield "a blank in the header", once, Forge(header_text=swap('"sequence":', '"sequence": '))
    yield "a number as text in the header", once, Forge(header=put(sequence="2"))
    yield "a time in another form", once, Forge(header=put(created="2026-01-01T00:00:00+00:00"))
    yield "a default left out of the header", once, Forge(header=without("round"))
    yield (
        "base64 with a line break in the manifest",
        once,
        Forge(payload=rewrapped(lambda text: text[:76] + "\n" + text[76:])),
    )


def loose(text: str) -> str:
    """The same bytes in base64 whose unused last bits are not zero."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stem = text.rstrip("=")
    other = stem[:-1] + alphabet[alphabet.index(stem[-1]) + 1] + "=" * (len(text) - len(stem))
    assert base64.b64decode(other) == base64.b64decode(text)
    return other


def rewrapped(change: Any) -> Any:
    return lambda value: {**value, "wrapped": {key: change(text) for key, text in value["wrapped"].items()}}


def unsigned() -> Iterator[tuple[str, str, Forge]]:
    """Faults of the signature and of what it stands in."""
    held = "signature does not hold"
    yield "a bit of the signature flipped", held, Forge(outer=flipped_signature)
    yield "a bit of the payload's digest flipped", held, Forge(outer=lambda o: bent_after_signing(o, "body_sha256"))
    yield "another commitment after signing", held, Forge(outer=lambda o: bent_after_signing(o, "commitment"))
    yield (
        "a longer body after signing",
        held,
        Forge(outer=lambda o: {**o, "payload": reworded(o["payload"], '"body_length":27', '"body_length":28')}),
    )
    yield (
        "another run after signing",
        held,
        Forge(outer=lambda o: {**o, "payload": reworded(o["payload"], "run-1", "run-2")}),
    )
    yield "signed by a stranger", held, Forge(header=put(sender="north"), sender=MALLORY)
    yield (
        "signed by a stranger under the sender's key id",
        held,
        Forge(header=put(sender="north"), sender=MALLORY, outer=signature(keyid=NORTH.signing_id)),
    )
    yield "another key id beside a valid signature", held, Forge(outer=signature(keyid=MALLORY.signing_id))
    roster = "application/vnd.silokit.roster+json"
    yield "a document of another type", "another type", Forge(payload_type=roster)
    yield "signed as another type", held, Forge(payload_type=roster, outer=put(payloadType=TYPE))
    yield "no signature", "malformed", Forge(outer=put(signatures=[]))
    yield "two signatures", "malformed", Forge(outer=lambda o: {**o, "signatures": o["signatures"] * 2})
    yield "base64 of the other alphabet", "malformed", Forge(outer=lambda o: {**o, "payload": "-_" + o["payload"][2:]})
    yield "the envelope is a list", "malformed", Forge(outer=lambda o: [o])
    yield (
        "the envelope's type twice",
        "not the JSON",
        Forge(outer_text=swap('{"payload":', '{"payloadType":"x","payload":')),
    )
    yield "an unpaired surrogate", "malformed", Forge(outer=put(payloadType="x"), outer_text=swap('"x"', '"\\ud800"'))


def bent_after_signing(outer: dict[str, Any], name: str) -> dict[str, Any]:
    found = json.loads(base64.b64decode(outer["payload"]))[name]
    return {**outer, "payload": reworded(outer["payload"], found, format(int(found, 16) ^ 1, "064x"))}


def reworded(payload: str, old: str, new: str) -> str:
    return text_of(swap(old, new)(base64.b64decode(payload)))


def misshapen() -> Iterator[tuple[str, str, Forge]]:
    """Manifests that are signed well and are not of the format."""
    yield "version 2", "version", Forge(header=put(version=2))
    yield "no version", "one spelling", Forge(header=without("version"))
    yield "a field more in the header", "note", Forge(header=put(note=1))
    yield "no sender", "sender", Forge(header=without("sender"))
    yield "no word about the release", "release", Forge(header=without("release"))
    yield "an unknown release", "release", Forge(header=put(release={"release": "free"}))
    yield "a sender who climbs folders", "sender", Forge(header=put(sender="../hub"))
    yield "sequence 0", "sequence", Forge(header=put(sequence=0))
    yield "a time without its zone", "created", Forge(header=put(created="2026-01-01T00:00:00"))
    yield "a header's field twice", "not the JSON", Forge(header_text=swap('"round":0', '"round":0,"round":0'))
    yield "NaN in the header", "not the JSON", Forge(header_text=swap('"round":0', '"round":NaN'))
    deep: Any = 0
    for _ in range(17):
        deep = [deep]
    yield (
        "a deep header",
        "nests deeper",
        Forge(header=put(release={"release": "spend", "mechanism": {"a": deep}, "delta": 0.1})),
    )
    yield "no recipients", "recipients", Forge(header=put(recipients=[]))
    yield "a suite that this version does not know", "suite", Forge(payload=put(suite="x25519"))
    yield (
        "wrapped with a smaller suite",
        "wrapped",
        Forge(payload=rewrapped(lambda text: text_of(base64.b64decode(text)[:80]))),
    )
    yield (
        "a manifest's field twice",
        "not the JSON",
        Forge(payload_text=swap('"body_length":27', '"body_length":27,"body_length":27')),
    )
    for name in ("header", "wrapped", "commitment", "body_sha256", "body_length"):
        yield f"a manifest without {name}", name, Forge(payload=without(name))
    yield "a manifest that is a list", "malformed", Forge(payload=lambda value: [value])
    yield "a short commitment", "commitment", Forge(payload=put(commitment="00" * 31))
    yield "a commitment in capitals", "commitment", Forge(payload=put(commitment="AB" * 32))
    for length in (0, 15, -27, (4 << 30) + 1, 1 << 70):
        yield f"a body of {length} bytes", "body_length", Forge(payload=put(body_length=length))
    for length in (MIB + 17, MIB + 32):
        yield f"a body of {length} bytes, which no payload has", "no payload", Forge(payload=put(body_length=length))
    both = (HUB, EAST)
    unnamed = "recipients are not those"
    yield (
        "a recipient that the header names gets no key",
        unnamed,
        Forge(recipients=both, payload=lambda v: {**v, "wrapped": without(EAST.sealing_id)(v["wrapped"])}),
    )
    yield (
        "a key for a recipient that the header does not name",
        unnamed,
        Forge(recipients=both, header=put(recipients=[HUB.sealing_id])),
    )
    yield (
        "recipients out of order",
        unnamed,
        Forge(recipients=both, header=lambda v: {**v, "recipients": v["recipients"][::-1]}),
    )
    yield "a recipient twice", unnamed, Forge(header=lambda v: {**v, "recipients": v["recipients"] * 2})


def closed() -> Iterator[tuple[str, str, Forge]]:
    """Manifests that hold, over what does not open."""
    yield "sealed to others", "none of the keys", Forge(recipients=(EAST,))
    info = "wrapped key does not open"
    other = replaced(HONEST, header=put(round=7))
    yield (
        "a key that was wrapped under another header",
        info,
        Forge(payload=lambda v: {**v, "wrapped": said(other)["wrapped"]}),
    )
    yield "the header of another artifact", info, Forge(payload=lambda v: {**v, "header": said(other)["header"]})
    yield (
        "two recipients' keys exchanged",
        info,
        Forge(
            recipients=(HUB, EAST),
            payload=lambda v: {**v, "wrapped": dict(zip(v["wrapped"], reversed(v["wrapped"].values()), strict=True))},
        ),
    )
    commits = "commits to"
    yield "another commitment", commits, Forge(payload=lambda v: {**v, "commitment": "00" * 32})
    yield "another content key for this recipient", commits, Forge(payload=other_content_key)
    yield "a digest of another body", "SHA-256", Forge(payload=put(body_sha256="00" * 32))
    yield "another digest over a long body", "SHA-256", Forge(LONG, payload=put(body_sha256="00" * 32))
    for name, chunks in {
        "chunks in another order": [B, A, C],
        "a chunk twice": [A, A, C],
        "a chunk left out": [A, C],
        "the last chunk left out": [A, B],
        "only the last chunk": [C],
        "a chunk appended": [A, B, C, Chunk(0, 5, 3, final=True)],
        "two last chunks": [A, replaced(B, final=True), C],
        "no last chunk": [A, B, replaced(C, final=False)],
        "chunks counted from one": [replaced(chunk, counter=chunk.counter + 1) for chunk in (A, B, C)],
        "a chunk of another artifact": [A, replaced(B, seed="another content key"), C],
        "a chunk cut short": [A, replaced(B, end=B.end - 1), C],
        "an empty chunk after full ones": [A, B, Chunk(LONG, LONG, 2, final=True)],
        "an empty payload in a chunk that is not the last": [Chunk(0, 0, 0, final=False)],
    }.items():
        fault = "no payload has" if name == "an empty chunk after full ones" else "does not authenticate"
        yield name, fault, Forge(LONG, chunks=chunks)


def said(forge: Forge) -> dict[str, Any]:
    """What the manifest of a forge says."""
    found: dict[str, Any] = json.loads(base64.b64decode(json.loads(forge.manifest())["payload"]))
    return found


def other_content_key(value: dict[str, Any]) -> dict[str, Any]:
    header_hash = hashlib.sha256(value["header"].encode()).digest()
    wrapped = SUITE.encrypt(bytes(32), HUB.sealing.public_key(), wrap_info(header_hash, HUB.sealing_id))
    return {**value, "wrapped": {HUB.sealing_id: text_of(wrapped)}}


def vector(name: str, forge: Forge, reason: str | None, stage: str) -> dict[str, Any]:
    body: Any = {"base64": text_of(forge.body())}
    if forge.length > 1000:
        chunks = chunks_of(forge.length) if forge.chunks is None else forge.chunks
        body = {"of": forge.length, "chunks": [dataclasses.asdict(chunk) for chunk in chunks]}
    text = forge.manifest()
    written = {"text": text.decode()} if text.isascii() else {"base64": text_of(text)}
    expected = {"length": forge.length} if reason is None else {"refused": reason, "when": stage}
    return {"name": name, "manifest": written, "body": body, **expected}


def main() -> None:
    vectors = [vector(name, forge, None, "") for name, forge in accepted()]
    for stage, cases in (("verifying", [*spelt_otherwise(), *unsigned(), *misshapen()]), ("opening", [*closed()])):
        vectors += [vector(name, forge, reason, stage) for name, reason, forge in cases]
    document = {
        "format": "silokit envelope v1",
        "verify_key": NORTH.signing.public_key().public_bytes_raw().hex(),
        "sealing_key": HUB.sealing_bytes.hex(),
        "content_key": HONEST.content_key.hex(),
        "vectors": vectors,
    }
    TARGET.write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
