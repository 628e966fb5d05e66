"""Keys: made whole, kept private, recognised by people, gone when destroyed."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from services.errors import InvalidArtifact, TrustError
from services.hpke import WRAPPED_KEY_BYTES
from services.keys import (
    Identity,
    PublicIdentity,
    SealingKey,
    SealTo,
    SigningKey,
    VerifyKey,
    destroy,
    fingerprint,
    load_sealing,
    load_signing,
    save_private,
)

SECRET = bytes(range(32))
FIXED = SealingKey.generate()
WRAPPED = FIXED.public.wrap(SECRET, b"info")


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity.create(tmp_path / "north", "north")


def test_private_keys_survive_their_bytes() -> None:
    signing, sealing = SigningKey.generate(), SealingKey.generate()
    assert SigningKey.from_bytes(signing.to_bytes()).public == signing.public
    assert SealingKey.from_bytes(sealing.to_bytes()).public == sealing.public


def test_public_keys_survive_json() -> None:
    class Shown(BaseModel):
        verify: VerifyKey
        seal: SealTo

    shown = Shown(verify=SigningKey.generate().public, seal=SealingKey.generate().public)
    assert Shown.model_validate_json(shown.model_dump_json()) == shown
    assert shown.model_dump(mode="json") == {"verify": shown.verify.hex, "seal": shown.seal.hex}


def test_a_key_id_is_the_sha256_of_the_raw_public_bytes() -> None:
    # RFC 8032, section 7.1, test 1
    key = SigningKey.from_bytes(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public.hex == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.public.key_id == "21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9"


def test_the_signer_signs_what_the_public_key_verifies() -> None:
    key = SigningKey.generate()
    signature = key.signer().sign(b"text")
    key.public.sslib().verify_signature(signature, b"text")
    Ed25519PublicKey.from_public_bytes(key.public.raw).verify(bytes.fromhex(signature.signature), b"text")


@pytest.mark.parametrize("length", [0, 31, 33, 95, 97])
def test_private_bytes_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        SigningKey.from_bytes(bytes(length))
    with pytest.raises(ValueError, match=r"."):
        SealingKey.from_bytes(bytes(length))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zz" * 1216,
        "00" * 1215,
        SealingKey.generate().public.hex + "00",
        SealingKey.generate().public.hex.upper(),
        SealingKey.generate().public.hex[:-2] + " 0",
        "ff" * 1184 + "09" + "00" * 31,
        SealingKey.generate().public.hex[: 2 * 1184] + "00" * 32,
    ],
    ids=["empty", "no hex", "short", "long", "capitals", "blank", "outside the field", "low order"],
)
def test_what_cannot_be_sealed_to_is_no_key(text: str) -> None:
    with pytest.raises(ValidationError):
        SealTo(text)


@pytest.mark.parametrize("text", ["", "00" * 31, "00" * 33, "AB" * 32, "xy" * 32])
def test_what_is_not_32_bytes_in_lower_case_is_no_verify_key(text: str) -> None:
    with pytest.raises(ValidationError):
        VerifyKey(text)


def test_a_wrapped_key_opens_with_the_right_key_and_info_alone() -> None:
    key = SealingKey.generate()
    wrapped = key.public.wrap(SECRET, b"info")
    assert len(wrapped) == WRAPPED_KEY_BYTES
    assert key.unwrap(wrapped, b"info") == SECRET
    for who, what, info in [
        (SealingKey.generate(), wrapped, b"info"),
        (key, wrapped, b"other"),
        (key, wrapped[:-1], b"info"),
        (key, b"", b"info"),
    ]:
        with pytest.raises(InvalidArtifact, match="does not open"):
            who.unwrap(what, info)


@given(st.integers(0, WRAPPED_KEY_BYTES * 8 - 1))
def test_no_bit_of_a_wrapped_key_can_be_flipped(bit: int) -> None:
    flipped = bytearray(WRAPPED)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidArtifact):
        FIXED.unwrap(bytes(flipped), b"info")


def test_wrapping_twice_gives_nothing_to_compare() -> None:
    assert FIXED.public.wrap(SECRET, b"info") != FIXED.public.wrap(SECRET, b"info")


def test_private_keys_lie_in_files_of_their_owner_alone(tmp_path: Path) -> None:
    signing, sealing = SigningKey.generate(), SealingKey.generate()
    old = os.umask(0)
    try:
        save_private(tmp_path / "s", signing)
        save_private(tmp_path / "e", sealing)
    finally:
        os.umask(old)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    assert load_signing(tmp_path / "s").public == signing.public
    assert load_sealing(tmp_path / "e").public == sealing.public


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_can_reach_is_refused_with_the_remedy(mode: int, tmp_path: Path) -> None:
    save_private(tmp_path / "k", SigningKey.generate())
    (tmp_path / "k").chmod(mode)
    with pytest.raises(TrustError) as refused:
        load_signing(tmp_path / "k")
    assert refused.value.fix == f"chmod 600 {tmp_path / 'k'}"


def test_a_key_is_never_written_over_another(tmp_path: Path) -> None:
    first = SigningKey.generate()
    save_private(tmp_path / "k", first)
    with pytest.raises(TrustError, match="already"):
        save_private(tmp_path / "k", SealingKey.generate())
    assert load_signing(tmp_path / "k").public == first.public


def test_an_absent_key_is_said_to_be_absent(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="No such file"):
        load_signing(tmp_path / "k")


def test_a_key_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    save_private(tmp_path / "k", SigningKey.generate())
    with pytest.raises(TrustError, match="a signing key, not a sealing key"):
        load_sealing(tmp_path / "k")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text.replace("private", "secret"),
        lambda text: text.replace('"private":"', '"private":"00'),
        lambda text: text.replace('"private":"', '"private":" '),
        lambda text: "[]",
        lambda text: "\x00\xff",
        lambda text: text + " " * (1 << 17),
    ],
    ids=["cut", "unknown field", "long", "blank", "list", "binary", "huge"],
)
def test_a_damaged_key_is_refused_and_never_quoted(change: Any, tmp_path: Path) -> None:
    key = SigningKey.generate()
    save_private(tmp_path / "k", key)
    (tmp_path / "k").write_text(change((tmp_path / "k").read_text()))
    with pytest.raises(TrustError, match="damaged") as refused:
        load_signing(tmp_path / "k")
    assert key.to_bytes().hex()[4:40] not in "".join(traceback.format_exception(refused.value))


def test_no_private_byte_shows_in_a_repr(identity: Identity) -> None:
    shown = repr(identity) + str(identity.signing) + str(identity.sealing)
    for secret in (identity.signing.to_bytes(), identity.sealing.to_bytes()):
        assert secret.hex()[:16] not in shown
        assert repr(secret)[2:20] not in shown


def test_an_identity_is_read_back_as_it_was_made(identity: Identity, tmp_path: Path) -> None:
    assert (tmp_path / "north").stat().st_mode & 0o777 == 0o700
    assert Identity.load(tmp_path / "north").public == identity.public
    assert [path.name for path in tmp_path.iterdir()] == ["north"]


def test_an_identity_is_never_made_over_another(identity: Identity, tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="holds something already"):
        Identity.create(tmp_path / "north", "north")
    assert Identity.load(tmp_path / "north").public == identity.public
    assert [path.name for path in tmp_path.iterdir()] == ["north"]


def test_a_crash_while_an_identity_is_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("services.keys.write_atomic", full)
    with pytest.raises(OSError, match="No space"):
        Identity.create(tmp_path / "north", "north")
    assert list(tmp_path.iterdir()) == []


def test_keys_of_two_identities_are_not_one(identity: Identity, tmp_path: Path) -> None:
    Identity.create(tmp_path / "south", "south")
    (tmp_path / "south" / "sealing.key").rename(tmp_path / "north" / "sealing.key")
    with pytest.raises(TrustError, match="not of one identity"):
        Identity.load(tmp_path / "north")


def test_a_fingerprint_covers_the_name_and_both_keys(identity: Identity) -> None:
    public, other = identity.public, SealingKey.generate().public
    shown = public.fingerprint()
    assert [len(group) for group in shown.split(" ")] == [4] * 8
    assert set(shown) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567 ")
    for changed in (
        {"name": "south"},
        {"verify": SigningKey.generate().public},
        {"seal": other},
    ):
        assert public.model_copy(update=changed).fingerprint() != shown


def test_a_fingerprint_is_the_first_160_bits_of_sha256_in_base32() -> None:
    # echo -n abc | sha256sum | head -c 40 | xxd -r -p | base32
    assert fingerprint(b"abc") == "XJ4B NP4P AHH6 UQKB IDPF 3LRC EOYA GYND"


def test_an_identity_is_shown_as_json_of_three_fields(identity: Identity) -> None:
    shown = json.loads(identity.public.model_dump_json())
    assert sorted(shown) == ["name", "seal", "verify"]
    assert PublicIdentity.model_validate(shown) == identity.public
    with pytest.raises(ValidationError):
        PublicIdentity.model_validate({**shown, "more": 1})


def test_a_destroyed_key_is_overwritten_and_gone(tmp_path: Path) -> None:
    key = SealingKey.generate()
    save_private(tmp_path / "k", key)
    os.link(tmp_path / "k", tmp_path / "other-name")
    size = (tmp_path / "k").stat().st_size
    destroy(tmp_path / "k")
    assert not (tmp_path / "k").exists()
    assert (tmp_path / "other-name").read_bytes() == bytes(size)
    destroy(tmp_path / "k")
