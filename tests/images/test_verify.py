"""A bundle's `verify.sh`: it finds every byte that was changed, and takes nobody's word but the signer's."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.bundle import __main__ as bundle
from services.errors import SilokitError


def new_key(path: Path) -> Path:
    """Make a key pair; returns the private one, `.pub` lies beside it."""
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    subprocess.run(["openssl", "pkey", "-in", path, "-pubout", "-out", path.with_suffix(".pub")], check=True)
    return path


def verify(folder: Path, *words: object) -> tuple[int, str]:
    command = ["sh", folder / "verify.sh", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return new_key(tmp_path / "signer.key")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a bundle is before it is sealed."""
    made = tmp_path / "silokit"
    (made / "wheels").mkdir(parents=True)
    (made / "wheels" / "a library.whl").write_bytes(b"\x00" * 1000)
    (made / "README.md").write_text("read me\n")
    shutil.copy(bundle.HERE / "verify.sh", made)
    return made


@pytest.fixture
def sealed(folder: Path, key: Path) -> Path:
    bundle.seal(folder, key)
    return folder


def test_an_untouched_bundle_is_verified_and_the_key_s_fingerprint_is_shown(sealed: Path, key: Path) -> None:
    code, said = verify(sealed, key.with_suffix(".pub"))
    assert code == 0, said
    assert "VERIFIED: 3 files" in said
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", key.with_suffix(".pub"), "-outform", "DER"],
        capture_output=True,
        check=True,
    ).stdout
    assert hashlib.sha256(der).hexdigest() in said.replace(" ", "")


def test_one_changed_byte_is_found_and_its_file_named(sealed: Path, key: Path) -> None:
    victim = sealed / "wheels" / "a library.whl"
    content = bytearray(victim.read_bytes())
    content[500] ^= 1
    victim.write_bytes(content)
    code, said = verify(sealed, key.with_suffix(".pub"))
    assert code == 1
    assert "wheels/a library.whl: FAILED" in said
    assert "VERIFIED" not in said


def test_a_file_that_was_taken_away_is_named(sealed: Path, key: Path) -> None:
    (sealed / "README.md").unlink()
    code, said = verify(sealed, key.with_suffix(".pub"))
    assert code == 1
    assert "README.md" in said


@pytest.mark.parametrize("link", [False, True], ids=["file", "link"])
def test_a_file_that_was_added_is_named(sealed: Path, key: Path, link: bool) -> None:
    added = sealed / "wheels" / "another.whl"
    if link:
        added.symlink_to("/etc/passwd")
    else:
        added.write_bytes(b"")
    code, said = verify(sealed, key.with_suffix(".pub"))
    assert code == 1
    assert "wheels/another.whl" in said


def test_a_list_that_was_made_to_fit_is_refused(sealed: Path, key: Path) -> None:
    signature = (sealed / bundle.SIGNATURE).read_bytes()
    (sealed / "README.md").write_text("read this instead\n")
    for name in (bundle.SUMS, bundle.SIGNATURE):
        (sealed / name).unlink()
    bundle.seal(sealed, None)
    (sealed / bundle.SIGNATURE).write_bytes(signature)
    code, said = verify(sealed, key.with_suffix(".pub"))
    assert code == 1
    assert "not signed with this key" in said


def test_somebody_elses_signature_is_refused(sealed: Path, tmp_path: Path) -> None:
    code, said = verify(sealed, new_key(tmp_path / "other.key").with_suffix(".pub"))
    assert code == 1
    assert "not signed with this key" in said


def test_an_unsigned_bundle_is_refused_unless_somebody_insists(folder: Path, key: Path) -> None:
    bundle.seal(folder, None)
    code, said = verify(folder, key.with_suffix(".pub"))
    assert code == 1
    assert "nobody signed this bundle" in said
    code, said = verify(folder, "--unsigned")
    assert code == 0, said
    assert "not malice" in said


def test_a_signed_bundle_cannot_be_passed_off_as_unsigned_by_mistake(sealed: Path) -> None:
    code, said = verify(sealed, "--unsigned")
    assert code == 1
    assert "give the signer's public key" in said


def test_no_key_is_ever_made_for_want_of_one(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SilokitError, match="OpenSSL cannot sign"):
        bundle.seal(folder, tmp_path / "absent.key")
    assert not (tmp_path / "absent.key").exists()
    assert not (folder / bundle.SIGNATURE).exists()
