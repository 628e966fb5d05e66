"""Stores and buses keep the promises of their ports, in memory and on disk alike."""

import multiprocessing
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.bus import Notice
from services.bus.sqlite import SqliteBus
from services.errors import StoreError
from services.files import TEMPORARY
from services.store import ObjectAbsent, ObjectStore, ObjectTooLarge, skew
from services.store.folder import FolderStore
from tests.world import MemoryBus, MemoryStore

KEY = "fed/north/run-1/" + "a" * 64 + ".body"


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return FolderStore(tmp_path / "store") if request.param == "folder" else MemoryStore()


def test_an_object_is_put_once_and_never_overwritten(store: ObjectStore, tmp_path: Path) -> None:
    assert store.put(KEY, b"first") is True
    assert store.put(KEY, b"second") is False
    assert store.read(KEY, 100) == b"first"
    assert store.stat(KEY) == 5


def test_a_file_streams_in_and_out(store: ObjectStore, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(os.urandom(3 << 20))
    store.put(KEY, source)
    store.get(KEY, target, 3 << 20)
    assert target.read_bytes() == source.read_bytes()


def test_more_than_the_limit_is_refused_and_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    store.put(KEY, b"12345")
    with pytest.raises(ObjectTooLarge):
        store.read(KEY, 4)
    with pytest.raises(ObjectTooLarge):
        store.get(KEY, tmp_path / "out", 4)
    assert not list(tmp_path.glob("*out*"))
    assert not list(tmp_path.glob(".tmp-*"))


def test_what_is_absent_is_said_to_be_absent(store: ObjectStore, tmp_path: Path) -> None:
    assert store.stat(KEY) is None
    with pytest.raises(ObjectAbsent):
        store.read(KEY, 10)
    with pytest.raises(ObjectAbsent):
        store.get(KEY, tmp_path / "out", 10)


def test_a_folder_s_clock_is_compared_and_one_that_is_gone_does_not_answer(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    ahead = skew(store, lambda: datetime.now(UTC) - timedelta(hours=1))
    assert ahead is not None
    assert abs(ahead - timedelta(hours=1)) < timedelta(minutes=1)
    assert not list(store.root.iterdir())
    store.root.rmdir()
    with pytest.raises(StoreError):
        skew(store, lambda: datetime.now(UTC))


def test_what_a_crash_left_unfinished_in_a_folder_is_not_listed_and_goes_with_its_run(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("fed/a/run/1.x", b"x")
    left = tmp_path / "fed" / "a" / "run" / f"{TEMPORARY}0123"
    left.write_bytes(b"half")
    assert list(store.list("fed/")) == ["fed/a/run/1.x"]
    assert store.delete("fed/a/run/") == 1
    assert not left.exists()


def test_listing_is_sorted_and_by_prefix_and_deleting_takes_only_the_prefix(store: ObjectStore) -> None:
    for name in ("fed/b/r/2.x", "fed/a/r/1.x", "fed/a/q/3.x", "other/a/r/1.x"):
        store.put(name, b"x")
    assert list(store.list("fed/")) == ["fed/a/q/3.x", "fed/a/r/1.x", "fed/b/r/2.x"]
    assert store.delete("fed/a/r/") == 1
    assert list(store.list("fed/a/")) == ["fed/a/q/3.x"]
    assert list(store.list("nobody/")) == []


@pytest.mark.parametrize("key", ["../etc/passwd", "/abs", "fed//x", "fed/../x", "FED/x", "fed/x/", "fed/.hidden", "x"])
def test_a_key_cannot_leave_the_store(store: ObjectStore, key: str) -> None:
    with pytest.raises(StoreError):
        store.put(key, b"x")


def _race(root: Path, content: bytes, results: "multiprocessing.Queue[bool]") -> None:
    results.put(FolderStore(root).put(KEY, content))


def test_of_many_processes_that_put_one_key_exactly_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[bool] = context.Queue()
    racers = [context.Process(target=_race, args=(tmp_path, b"%d" % i * 50_000, results)) for i in range(8)]
    for racer in racers:
        racer.start()
    wins = [results.get(timeout=200) for _ in racers]
    for racer in racers:
        racer.join()
    assert sum(wins) == 1
    assert len(set(FolderStore(tmp_path).read(KEY, 1 << 20))) == 1


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        store.put(KEY, b"x" * 100)
    assert caught.value.fix
    assert caught.value.kept
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_notice_stays_until_it_is_acknowledged(tmp_path: Path) -> None:
    for bus in (SqliteBus(tmp_path / "bus.sqlite", "north"), MemoryBus().of("north")):
        bus.announce("north", Notice("a/b"))
        bus.announce("south", Notice("not/mine"))
        (first,) = bus.consume()
        assert first.object == "a/b"
        assert bus.consume() == [first]
        bus.acknowledge(first)
        assert bus.consume() == []


def _announce(path: Path, count: int) -> None:
    bus = SqliteBus(path, "x")
    for number in range(count):
        bus.announce("north", Notice(f"n/{number}"))
    bus.close()


def test_the_sqlite_bus_serves_several_processes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bus.sqlite"
    bus = SqliteBus(path, "north")
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_announce, args=(path, 50)) for _ in range(4)]
    for writer in writers:
        writer.start()
    heard = 0
    deadline = time.monotonic() + 200
    while heard < 200 and time.monotonic() < deadline:
        for notice in bus.consume():
            bus.acknowledge(notice)
            heard += 1
    for writer in writers:
        writer.join()
    assert heard == 200
    bus.close()
