"""The sealed envelope: what is sealed opens for its recipients alone, as it was, or not at all."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services import dsse
from services.artifact import MAX_ARTIFACT_BYTES, MAX_MANIFEST_BYTES, MAX_RECIPIENTS, Derived, Header, NoData, Spend
from services.chunks import CHUNK, TAG, body_length, payload_length
from services.errors import InvalidArtifact
from services.keys import SealingKey, SigningKey, VerifyKey
from services.seal import MANIFEST_TYPE, Claim, Manifest, open_sealed, read_manifest, seal, verify
from tests.services.vectors.reference import Chunk, Forge, Party, open_by_the_words, pattern

FROZEN = json.loads((Path(__file__).parent / "vectors" / "vectors.json").read_bytes())
FROZEN_SENDER = VerifyKey(FROZEN["verify_key"])
FROZEN_KEY = SealingKey.from_bytes(bytes.fromhex(FROZEN["sealing_key"]))

SENDER = SigningKey.generate()
KEYS = [SealingKey.generate() for _ in range(4)]
NOW = datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)


def header_to(*keys: SealingKey, **fields: Any) -> Header:
    common: dict[str, Any] = {
        "federation": "f", "run": "r", "sender": "north", "kind": "latents", "sequence": 1, "previous": None,
        "created": NOW, "expires": NOW + timedelta(days=1), "schema_hash": None, "heads": {}, "release": NoData(),
        "recipients": tuple(sorted(key.public.key_id for key in keys)),
    }  # fmt: skip
    return Header(**{**common, **fields})


def sealed(folder: Path, payload: bytes | Path, *keys: SealingKey, **fields: Any) -> bytes:
    return seal(payload, header_to(*keys, **fields), [key.public for key in keys], SENDER, folder / "body")


def opened(folder: Path, manifest: bytes, *keys: SealingKey) -> bytes:
    open_sealed(verify(manifest, SENDER.public), folder / "body", keys, folder / "opened")
    return (folder / "opened").read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 9 * CHUNK + 3])
@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_what_is_sealed_opens_as_it_was(size: int, kind: str, tmp_path: Path) -> None:
    payload = pattern(size)
    (tmp_path / "payload").write_bytes(payload)
    manifest = sealed(tmp_path, payload if kind == "bytes" else tmp_path / "payload", KEYS[0])
    assert opened(tmp_path, manifest, KEYS[0]) == payload
    assert (tmp_path / "opened").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "body").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["body", "opened", "payload"]


@given(
    size=st.one_of(
        st.integers(0, 300), st.builds(lambda n, off: max(0, n * CHUNK + off), st.integers(0, 3), st.integers(-20, 20))
    ),
    who=st.sets(st.integers(0, 3), min_size=1),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_recipient_opens_the_same_and_nobody_else_does(size: int, who: set[int], tmp_path: Path) -> None:
    payload = pattern(size)
    manifest = sealed(tmp_path, payload, *(KEYS[i] for i in who))
    for i, key in enumerate(KEYS):
        if i in who:
            assert opened(tmp_path, manifest, SealingKey.generate(), key) == payload
        else:
            with pytest.raises(InvalidArtifact, match="none of the keys"):
                opened(tmp_path, manifest, key)


@pytest.mark.parametrize("size", [0, 5, CHUNK, 2 * CHUNK + 7])
def test_what_is_sealed_opens_by_the_words_of_the_format_alone(size: int, tmp_path: Path) -> None:
    hub, north = Party("hub"), Party("north")
    key = SealingKey.from_bytes(hub.sealing_bytes)
    signer = SigningKey.from_bytes(north.signing.private_bytes_raw())
    manifest = seal(pattern(size), header_to(key), [key.public], signer, tmp_path / "body")
    body = (tmp_path / "body").read_bytes()
    assert open_by_the_words(manifest, body, north.signing.public_key(), hub) == pattern(size)


def test_a_manifest_says_what_the_header_said(tmp_path: Path) -> None:
    release = Spend(mechanism={"event": "gaussian", "noise": 1.25, "parts": [1, None, "é"]}, delta=1e-5)
    header = header_to(*KEYS, release=release, previous="ab" * 32, sequence=7, schema_hash="cd" * 32)
    manifest = seal(b"payload", header, [key.public for key in KEYS], SENDER, tmp_path / "body")
    found = verify(manifest, SENDER.public)
    body = (tmp_path / "body").read_bytes()
    assert found.header == header
    assert found.digest == hashlib.sha256(manifest).hexdigest()
    assert (found.body_length, found.body_sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert set(found.wrapped) == set(header.recipients)


def test_a_manifest_can_be_read_before_its_sender_is_known_but_not_opened_by_type(tmp_path: Path) -> None:
    manifest = sealed(tmp_path, b"payload", KEYS[0])
    claim = read_manifest(manifest)
    assert claim.header.sender == "north"
    assert type(claim) is Claim
    assert not isinstance(claim, Manifest)


def test_every_sealing_draws_its_own_key(tmp_path: Path) -> None:
    first = verify(sealed(tmp_path, b"payload", KEYS[0]), SENDER.public)
    body = (tmp_path / "body").read_bytes()
    second = verify(sealed(tmp_path, b"payload", KEYS[0]), SENDER.public)
    assert first.header_hash == second.header_hash
    assert first.commitment != second.commitment
    assert body != (tmp_path / "body").read_bytes()


def test_the_header_must_name_the_recipients(tmp_path: Path) -> None:
    for recipients in ([], KEYS[:1], KEYS[1:3], KEYS[:3]):
        with pytest.raises(ValueError, match="recipients"):
            seal(b"", header_to(*KEYS[:2]), [key.public for key in recipients], SENDER, tmp_path / "body")
    assert names(tmp_path) == []


def test_as_many_recipients_as_the_format_allows_fit(tmp_path: Path) -> None:
    keys = [SealingKey.generate() for _ in range(MAX_RECIPIENTS)]
    largest = Derived(digests=tuple(f"{i:064x}" for i in range(1024)))
    manifest = sealed(tmp_path, b"payload", *keys, release=largest, heads={f"chain-{i}": "ab" * 32 for i in range(8)})
    assert len(manifest) < MAX_MANIFEST_BYTES
    assert opened(tmp_path, manifest, keys[100]) == b"payload"


# what is frozen


def body_of(vector: dict[str, Any]) -> bytes:
    body = vector["body"]
    if "base64" in body:
        return base64.b64decode(body["base64"])
    outer = json.loads(manifest_of(vector))
    header = json.loads(base64.b64decode(outer["payload"]))["header"].encode()
    forge = Forge(body["of"], chunks=[Chunk(**chunk) for chunk in body["chunks"]], header_text=lambda _: header)
    assert forge.content_key.hex() == FROZEN["content_key"]
    return forge.body()


def manifest_of(vector: dict[str, Any]) -> bytes:
    frozen = vector["manifest"]
    return frozen["text"].encode() if "text" in frozen else base64.b64decode(frozen["base64"])


def named(vector: dict[str, Any]) -> str:
    return str(vector["name"])


@pytest.mark.parametrize("vector", [v for v in FROZEN["vectors"] if "length" in v], ids=named)
def test_a_frozen_artifact_opens_for_ever(vector: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(body_of(vector))
    open_sealed(verify(manifest_of(vector), FROZEN_SENDER), tmp_path / "body", [FROZEN_KEY], tmp_path / "opened")
    assert (tmp_path / "opened").read_bytes() == pattern(vector["length"])


@pytest.mark.parametrize("vector", [v for v in FROZEN["vectors"] if v.get("when") == "verifying"], ids=named)
def test_a_frozen_faulty_manifest_is_refused_for_its_fault(vector: dict[str, Any]) -> None:
    with pytest.raises(InvalidArtifact, match=vector["refused"]):
        verify(manifest_of(vector), FROZEN_SENDER)


@pytest.mark.parametrize("vector", [v for v in FROZEN["vectors"] if v.get("when") == "opening"], ids=named)
def test_a_frozen_faulty_artifact_is_refused_for_its_fault(vector: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(body_of(vector))
    with pytest.raises(InvalidArtifact, match=vector["refused"]):
        open_sealed(verify(manifest_of(vector), FROZEN_SENDER), tmp_path / "body", [FROZEN_KEY], tmp_path / "opened")
    assert names(tmp_path) == ["body"]


# what is altered


def test_no_bit_of_a_manifest_can_be_flipped(tmp_path: Path) -> None:
    manifest = bytearray(sealed(tmp_path, b"payload", KEYS[0]))
    # every 11th bit is exhaustive over positions in a byte and takes a second instead of ten
    for bit in range(0, len(manifest) * 8, 11):
        manifest[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidArtifact):
            verify(bytes(manifest), SENDER.public)
        manifest[bit // 8] ^= 1 << bit % 8
    verify(bytes(manifest), SENDER.public)


@pytest.mark.parametrize("field", ["header", "wrapped", "commitment", "body_sha256", "body_length"])
def test_no_field_can_be_bent_under_its_signature(field: str, tmp_path: Path) -> None:
    outer = json.loads(sealed(tmp_path, b"payload", KEYS[0]))
    payload = json.loads(base64.b64decode(outer["payload"]))
    other = json.loads(
        base64.b64decode(json.loads(sealed(tmp_path, b"payloads", KEYS[0], sequence=2, previous="00" * 32))["payload"])
    )
    assert payload[field] != other[field]
    payload[field] = other[field]
    outer["payload"] = base64.b64encode(json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()).decode()
    bent = json.dumps(outer, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(InvalidArtifact, match="signature does not hold"):
        verify(bent, SENDER.public)


@given(place=st.integers(0, 3 * (CHUNK + TAG) - 1), bit=st.integers(0, 7))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bit_of_a_body_can_be_flipped(place: int, bit: int, tmp_path: Path) -> None:
    manifest = sealed(tmp_path, pattern(3 * CHUNK), KEYS[0])
    body = bytearray((tmp_path / "body").read_bytes())
    body[place] ^= 1 << bit
    (tmp_path / "body").write_bytes(body)
    with pytest.raises(InvalidArtifact, match="does not authenticate"):
        opened(tmp_path, manifest, KEYS[0])
    assert names(tmp_path) == ["body"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda body: body[:-1], "truncated: it has"),
        (lambda body: body[: CHUNK + TAG], "truncated: it has"),
        (lambda body: b"", "truncated: it has 0 bytes"),
        (lambda body: body + b"\0", "too long"),
        (lambda body: bytes(len(body)), "does not authenticate"),
    ],
    ids=["a byte short", "a chunk short", "empty", "a byte long", "zeros"],
)
def test_a_body_of_another_length_or_content_is_refused(
    change: Callable[[bytes], bytes], reason: str, tmp_path: Path
) -> None:
    manifest = sealed(tmp_path, pattern(CHUNK + 100), KEYS[0])
    (tmp_path / "body").write_bytes(change((tmp_path / "body").read_bytes()))
    with pytest.raises(InvalidArtifact, match=reason):
        opened(tmp_path, manifest, KEYS[0])
    assert names(tmp_path) == ["body"]


def test_what_stood_at_the_target_stays_when_opening_fails(tmp_path: Path) -> None:
    manifest = sealed(tmp_path, b"payload", KEYS[0])
    (tmp_path / "opened").write_bytes(b"before")
    (tmp_path / "body").write_bytes(bytes(7 + TAG))
    with pytest.raises(InvalidArtifact):
        opened(tmp_path, manifest, KEYS[0])
    assert (tmp_path / "opened").read_bytes() == b"before"


def test_what_a_crash_left_of_an_opening_is_replaced_by_the_next(tmp_path: Path) -> None:
    manifest = sealed(tmp_path, b"payload", KEYS[0])
    (tmp_path / "opened.part").write_bytes(b"half of a longer payload")
    (tmp_path / "opened.part").chmod(0o644)
    assert opened(tmp_path, manifest, KEYS[0]) == b"payload"
    assert (tmp_path / "opened").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["body", "opened"]


@pytest.mark.parametrize("what", ["sealing", "opening"])
def test_a_full_disk_leaves_nothing_behind(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = sealed(tmp_path, pattern(100), KEYS[0])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    target = tmp_path / "new"
    act = {
        "sealing": lambda: seal(pattern(100), header_to(KEYS[0]), [KEYS[0].public], SENDER, target),
        "opening": lambda: open_sealed(verify(manifest, SENDER.public), tmp_path / "body", KEYS[:1], target),
    }
    with pytest.raises(OSError, match="No space"):
        act[what]()
    assert names(tmp_path) == ["body"]


# what is too much


def test_a_payload_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "payload").open("wb") as sparse:
        sparse.truncate(MAX_ARTIFACT_BYTES)
    with pytest.raises(InvalidArtifact, match="4 GiB"):
        sealed(tmp_path, tmp_path / "payload", KEYS[0])
    assert names(tmp_path) == ["payload"]


def test_a_header_too_large_for_a_manifest_is_refused_by_the_sender(tmp_path: Path) -> None:
    release = Spend(mechanism={"note": "x" * MAX_MANIFEST_BYTES}, delta=0.1)
    with pytest.raises(InvalidArtifact, match="exceeds the limit"):
        sealed(tmp_path, b"payload", KEYS[0], release=release)
    assert names(tmp_path) == []


def test_a_payload_that_shrinks_while_it_is_sealed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "payload").write_bytes(pattern(100))
    monkeypatch.setattr("services.seal.os.fstat", lambda _: type("Stat", (), {"st_size": 101}))
    with pytest.raises(InvalidArtifact, match="changed while it was sealed"):
        sealed(tmp_path, tmp_path / "payload", KEYS[0])
    assert names(tmp_path) == ["payload"]


@given(st.integers(0, MAX_ARTIFACT_BYTES))
def test_a_payload_has_one_body_length_and_back(length: int) -> None:
    assert payload_length(body_length(length)) == length


def many(count: int) -> dict[str, int]:
    return {f"{i:x}": i for i in range(count)}


def enveloped(payload: bytes) -> bytes:
    return dsse.sign(payload, MANIFEST_TYPE, SENDER)


def with_payload(**fields: Any) -> bytes:
    return Forge(payload=lambda value: {**value, **fields}).manifest()


def with_header(**fields: Any) -> bytes:
    return Forge(header=lambda value: {**value, **fields}).manifest()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "over the limit": lambda: b"[" * (MAX_MANIFEST_BYTES + 1),
    "brackets": lambda: b"[" * MAX_MANIFEST_BYTES,
    "lists": lambda: b"[" + b"[]," * 340_000 + b"[]]",
    "a long number": lambda: b'{"payload":' + b"9" * 1_000_000 + b"}",
    "a long exponent": lambda: b'{"payload":1e' + b"9" * 1_000_000 + b"}",
    "a hundred thousand fields": lambda: json.dumps(many(80_000)).encode(),
    "signatures": lambda: json.dumps({"payload": "", "payloadType": "", "signatures": [{}] * 200_000}).encode(),
    "a long nothing": lambda: enveloped(bytes(780_000)),
    "fields in the manifest": lambda: with_payload(**many(40_000)),
    "wrapped keys": lambda: with_payload(wrapped={f"{i:064x}": "" for i in range(8_000)}),
    "wrapped nonsense": lambda: with_payload(wrapped=many(40_000)),
    "fields in the header": lambda: with_header(**many(40_000)),
    "recipients": lambda: with_header(recipients=[f"{i:064x}" for i in range(9_000)]),
    "recipients of any type": lambda: with_header(recipients=[0] * 250_000),
    "as many fields as are read": lambda: with_payload(**many(4_000)),
    "as many wrapped keys as are read": lambda: with_payload(wrapped={f"{i:064x}": "" for i in range(4_000)}),
    "as much wrapped nonsense as is read": lambda: with_payload(wrapped=many(4_000)),
    "as many fields in the header as are read": lambda: with_header(**many(4_000)),
    "a long name": lambda: with_header(sender="a" * 700_000),
    "a long time": lambda: with_header(created="2" * 700_000),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_costs_a_second_at_most_and_its_reason_is_short(name: str) -> None:
    manifest = HOSTILE[name]()
    start = time.process_time()
    with pytest.raises(InvalidArtifact) as refused:
        verify(manifest, VerifyKey.from_bytes(Party("north").signing.public_key().public_bytes_raw()))
    assert time.process_time() - start < 1.0
    assert len(refused.value.what) < 300


def test_sealing_streams_and_keeps_up_with_raw_cryptography() -> None:
    bench = Path(__file__).parents[1] / "benchmarks" / "bench_seal.py"
    command = [sys.executable, str(bench), "--mebibytes", "64", "--rounds", "3"]
    for _ in range(6):  # a neighbour on the machine slows one side of a round down, and never speeds the other up
        done = subprocess.run(command, check=True, capture_output=True, timeout=120)
        found = json.loads(done.stdout)
        assert found["memory_over_idle_mib"] < 64
        if found["ratio_of_best"] >= 0.5:
            return
    pytest.fail(f"sealing falls behind raw cryptography: {found}")
