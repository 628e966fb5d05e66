"""A real S3 store denies what is not a party's, every failure has words, and the probe notices what a store lacks."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import minio.time
import pytest

from coordinator.provisioning.s3 import policy, seaweed_identities
from services.config import check_config
from services.errors import ConfigError, StoreError
from services.store import ObjectAbsent
from services.store.credentials import read_credentials
from services.store.diagnosis import AccessDenied
from services.store.folder import FolderStore
from services.store.probe import Capabilities, StorePolicy, probe, probe_key
from services.store.s3 import S3Config, S3Store
from tests.wire.objects import BUCKET, FEDERATION, KEY, OPERATOR, Objects, made
from tests.wire.proxy import Proxy


@pytest.fixture
def north(objects: Objects) -> Iterator[S3Store]:
    with objects.store("north") as found:
        yield found


# rights


def test_a_party_writes_its_own_prefix_and_reads_the_federations(objects: Objects, tmp_path: Path) -> None:
    foreign, large = f"{FEDERATION}/south/run-1/x.body", made(tmp_path / "in", 6)
    with objects.store("north") as north, objects.store("south") as south, objects.store(OPERATOR) as operator:
        operator.put("other/south/run-1/x.body", b"not yours")
        south.put(foreign, b"sealed")
        north.put(KEY, b"sealed")
        assert north.read(foreign, 10) == b"sealed"
        assert list(north.list(f"{FEDERATION}/")) == [KEY, foreign]
        for source in (b"forged", large):
            with pytest.raises(AccessDenied):
                north.put(f"{FEDERATION}/south/run-1/y.body", source)
        for forbidden in (
            lambda: north.delete(f"{FEDERATION}/south/"),
            lambda: north.put(f"{FEDERATION}/trust/1.root.json", b"forged"),
            lambda: north.read("other/south/run-1/x.body", 10),
            lambda: north.stat("other/south/run-1/x.body"),
            lambda: list(north.list("other/")),
            lambda: list(north.list("")),
        ):
            with pytest.raises(AccessDenied):
                forbidden()
        assert south.read(foreign, 10) == b"sealed"
        assert north.delete(f"{FEDERATION}/north/") == 1


def test_the_coordinator_writes_the_federations_folders_but_no_silos(objects: Objects) -> None:
    with objects.store("hub") as hub:
        assert hub.put(f"{FEDERATION}/trust/1.root.json", b"root") is True
        assert hub.put(f"{FEDERATION}/hub/run-1/x.body", b"sealed") is True
        with pytest.raises(AccessDenied):
            hub.put(KEY, b"forged")


def test_the_iam_form_says_the_same_and_always_in_the_same_bytes() -> None:
    north = policy("heart", "north", bucket=BUCKET, coordinator="hub")
    assert north == policy("heart", "north", bucket=BUCKET, coordinator="hub")
    writes = {
        name: [
            resource
            for statement in policy("heart", name, bucket=BUCKET, coordinator="hub")["Statement"]
            for resource in statement["Resource"]
            if "s3:PutObject" in statement["Action"]
        ]
        for name in ("north", "hub")
    }
    assert writes == {
        "north": ["arn:aws:s3:::artifacts/heart/north/*"],
        "hub": ["arn:aws:s3:::artifacts/heart/hub/*", "arn:aws:s3:::artifacts/heart/trust/*"],
    }
    for name in ("trust", "../x", "*"):
        with pytest.raises(ValueError, match=r"name|taken"):
            policy("heart", name, bucket=BUCKET, coordinator="hub")
    assert seaweed_identities("heart", BUCKET, {}, coordinator="hub") == {"identities": []}


# what is said when it fails


def _client(objects: Objects, **changes: Any) -> S3Store:
    return S3Store(objects.config("north", **changes))


def test_every_failure_says_what_it_is_and_what_to_do(objects: Objects, tmp_path: Path) -> None:
    wrong, nobody = tmp_path / "wrong", tmp_path / "nobody"
    objects.credentials["north"].model_copy(update={"secret_key": "not the secret"}).write(wrong)
    objects.credentials["north"].model_copy(update={"access_key": "nobody"}).write(nobody)
    port = objects.server.port
    with Proxy(1) as dead:
        cases = {
            "does not know the access key|other secret|its secret": _client(objects, credentials=wrong),
            "does not know the access key nobody": _client(objects, credentials=nobody),
            "there is no bucket": S3Store(objects.config(OPERATOR, bucket="absent")),
            "does not resolve": _client(objects, endpoint="https://store.invalid"),
            "nothing listens": _client(objects, endpoint="https://localhost:1"),
            "certificate of .* does not hold": _client(objects, ca=None),
            "broke": _client(objects, port=dead.port),
            "answers with what no S3 store says|answers|broke": _client(
                objects, endpoint=f"http://localhost:{port}", insecure=True
            ),
        }
        for words, store in cases.items():
            for request in (lambda one: one.read(KEY, 10), lambda one: one.put(KEY, b"x")):
                with pytest.raises(StoreError, match=words) as caught:
                    request(store)
                assert caught.value.fix
                assert caught.value.kept
            store.close()


def test_a_clock_that_is_wrong_is_named(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minio.time, "utcnow", lambda: datetime.now(UTC) + timedelta(days=1))
    with objects.store("north") as north, pytest.raises(StoreError, match="clocks") as caught:
        north.read(KEY, 10)
    assert "NTP" in caught.value.fix


def test_who_shows_no_credentials_gets_nothing(objects: Objects) -> None:
    import urllib3

    with objects.store("north") as north:
        north.put(KEY, b"sealed")
    with urllib3.PoolManager(ca_certs=str(objects.ca)) as anybody:
        for method in ("GET", "PUT", "DELETE"):
            answer = anybody.request(method, f"{objects.server.endpoint}/{BUCKET}/{KEY}", retries=False)
            assert answer.status == 403


def test_the_servers_back_door_is_closed(objects: Objects) -> None:
    import urllib3

    for method in ("GET", "PUT", "DELETE"):
        url = f"http://127.0.0.1:{objects.server.filer_port}/buckets/{BUCKET}/{KEY}"
        assert urllib3.request(method, url, retries=False).status == 401


def test_a_full_disk_here_is_said_and_leaves_nothing(
    objects: Objects, north: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    north.put(KEY, b"12345")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(StoreError, match="No space left"):
        north.get(KEY, tmp_path / "out", 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"endpoint": "http://store:9000"}, "insecure: true"),
        ({"endpoint": "https://store/path"}, "nothing else"),
        ({"certificate": "x"}, "belong together"),
        ({"secret": "hunter2"}, "unknown key"),
    ],
)
def test_a_configuration_that_is_not_safe_is_refused(change: dict[str, Any], words: str) -> None:
    sound = {"endpoint": "https://store:9000", "bucket": BUCKET, "credentials": "store.json"}
    assert check_config(sound, S3Config, "store").located(Path("/etc")).credentials == Path("/etc/store.json")
    with pytest.raises(ConfigError, match=words):
        check_config({**sound, **change}, S3Config, "store")


def test_credentials_that_others_can_read_or_that_are_none_are_refused_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    with pytest.raises(ConfigError, match="No such file"):
        read_credentials(path)
    for content, mode, words in (
        ('{"access_key": "north", "secret_key": "hunter2"}', 0o644, "read by others"),
        ('{"access_key": "north", "secret": "hunter2"}', 0o600, "holds no store credentials"),
        ("hunter2", 0o600, "holds no store credentials"),
    ):
        path.write_text(content)
        path.chmod(mode)
        with pytest.raises(ConfigError, match=words) as caught:
            read_credentials(path)
        assert "hunter2" not in str(caught.value)


# the probe


def test_the_probe_finds_a_real_store_sound_and_leaves_one_object(objects: Objects) -> None:
    with objects.store("north") as north, objects.store("south") as south:
        for _ in range(2):  # the second time, the object is there already
            found = probe(north, FEDERATION, "north", "south")
            assert (found.conditional, found.foreign_denied, found.outside_denied) == (True, True, True)
        assert probe(south, FEDERATION, "south", "trust").judge(StorePolicy()) == []
        assert list(north.list(f"{FEDERATION}/")) == [probe_key(FEDERATION, name) for name in ("north", "south")]


def test_the_probe_notices_rights_that_nobody_denied(objects: Objects) -> None:
    with objects.store(OPERATOR) as operator:
        found = probe(operator, FEDERATION, "north", "south")
        assert found == Capabilities(conditional=True, versioned=False, foreign_denied=False, outside_denied=False)
        with pytest.raises(StoreError, match="under another's prefix"):
            found.judge(StorePolicy())
        lenient = StorePolicy(foreign_denied="accept", versioned="warn")
        assert len(found.judge(lenient)) == 2


class _Forgetful(FolderStore):
    """Does as told, whatever the condition."""

    def put(self, key: str, source: Path | bytes) -> bool:
        (self.root / key).unlink(missing_ok=True)
        return super().put(key, source)


class _Liar(_Forgetful):
    """Says that it refused, and did not."""

    def put(self, key: str, source: Path | bytes) -> bool:
        new = not (self.root / key).exists()
        super().put(key, source)
        return new


@pytest.mark.parametrize("kind", [_Forgetful, _Liar])
def test_a_store_that_overwrites_in_silence_is_noticed(kind: type[FolderStore], tmp_path: Path) -> None:
    found = probe(kind(tmp_path), FEDERATION, "north", "south")
    assert found.conditional is False
    with pytest.raises(StoreError, match="overwrites"):
        found.judge(StorePolicy())


def test_a_folder_keeps_the_condition_and_denies_nobody(tmp_path: Path) -> None:
    found = probe(FolderStore(tmp_path), FEDERATION, "north", "south")
    assert found == Capabilities(conditional=True, versioned=None, foreign_denied=False, outside_denied=False)
    assert found.judge(StorePolicy(foreign_denied="accept", outside_denied="accept")) == []


def test_a_purge_takes_every_version(objects: Objects) -> None:
    from minio.versioningconfig import ENABLED, SUSPENDED, VersioningConfig

    with objects.store(OPERATOR) as operator, objects.store("north") as north:
        operator._sdk.set_bucket_versioning(BUCKET, VersioningConfig(ENABLED))
        try:
            north.put(KEY, b"first")
            assert north.versioned(KEY) is True
            assert operator.versioned(KEY) is True
            operator._sdk.remove_object(BUCKET, KEY)
            north.put(KEY, b"second")
            assert north.delete(f"{FEDERATION}/north/") == 1
            left = operator._sdk.list_objects(BUCKET, FEDERATION, recursive=True, include_version=True)
            assert list(left) == []
            with pytest.raises(ObjectAbsent):
                north.read(KEY, 10)
        finally:
            operator._sdk.set_bucket_versioning(BUCKET, VersioningConfig(SUSPENDED))
