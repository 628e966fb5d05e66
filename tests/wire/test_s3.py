"""A real S3 store over TLS keeps the promises of the port, on a bad line, under kill -9, and against other parties."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from services.errors import StoreError
from services.store import ObjectStore, ObjectTooLarge
from services.store.multipart import open_uploads
from services.store.s3 import S3Config, S3Store
from tests.services.test_ports import (  # noqa: F401 - the promises of the port, kept by the store below
    test_a_file_streams_in_and_out,
    test_a_key_cannot_leave_the_store,
    test_an_object_is_put_once_and_never_overwritten,
    test_listing_is_sorted_and_by_prefix_and_deleting_takes_only_the_prefix,
    test_more_than_the_limit_is_refused_and_leaves_nothing,
    test_what_is_absent_is_said_to_be_absent,
)
from tests.wire.objects import FEDERATION, KEY, MIB, OPERATOR, Objects, made, sha
from tests.wire.proxy import Proxy, Tunnel, Weather

PART = 5 * MIB


@pytest.fixture
def store(objects: Objects) -> Iterator[ObjectStore]:
    """For the promises of the port, which use prefixes of their own."""
    with objects.store(OPERATOR) as found:
        yield found


@pytest.fixture
def north(objects: Objects) -> Iterator[S3Store]:
    with objects.store("north") as found:
        yield found


# put, get, and how much memory they take


def _race(config: S3Config, source: Path | bytes, results: "multiprocessing.Queue[bool]") -> None:
    results.put(S3Store(config).put(KEY, source))


def _winners(config: S3Config, sources: Sequence[Path | bytes]) -> int:
    """Let one process per source put the same key at once; returns how many say that they stored it."""
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[bool] = context.Queue()
    racers = [context.Process(target=_race, args=(config, source, results)) for source in sources]
    for racer in racers:
        racer.start()
    wins = [results.get(timeout=200) for _ in racers]
    for racer in racers:
        racer.join()
    return sum(wins)


def test_of_many_processes_that_put_one_key_exactly_one_wins(objects: Objects, north: S3Store) -> None:
    assert _winners(objects.config("north"), [b"%d" % number * 50_000 for number in range(8)]) == 1
    assert len(set(north.read(KEY, MIB))) == 1


def test_many_processes_that_put_the_same_file_share_the_work(objects: Objects, north: S3Store, tmp_path: Path) -> None:
    source = made(tmp_path / "in", 11)
    assert _winners(objects.config("north"), [source] * 8) >= 1  # each that completed the one upload says so
    assert north.read(KEY, 12 * MIB) == source.read_bytes()
    assert open_uploads(north._client, f"{FEDERATION}/") == []


def test_a_file_in_many_parts_comes_back_whole(north: S3Store, tmp_path: Path) -> None:
    source = made(tmp_path / "in", 17.5)
    assert north.put(KEY, source) is True
    assert north.put(KEY, source) is False
    assert north.stat(KEY) == source.stat().st_size
    north.get(KEY, tmp_path / "out", source.stat().st_size)
    assert sha(tmp_path / "out") == sha(source)
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


def test_a_large_object_beyond_the_limit_is_refused_before_it_is_fetched(objects: Objects, tmp_path: Path) -> None:
    with Proxy(objects.server.port) as proxy, objects.store("north", proxy.port) as north:
        source = made(tmp_path / "in", 11)
        north.put(KEY, source)
        before = proxy.down
        with pytest.raises(ObjectTooLarge):
            north.get(KEY, tmp_path / "out", 11 * MIB - 1)
        assert proxy.down - before < 6 * MIB
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def _memory(config: S3Config, source: Path, target: Path, results: "multiprocessing.Queue[float]") -> None:
    store = S3Store(config)
    store.put(f"{FEDERATION}/north/warm/up", b"x")
    idle = _peak()
    store.put(KEY, source)
    store.get(KEY, target, source.stat().st_size)
    results.put(_peak() - idle)


def _peak() -> float:
    """This program's greatest resident memory in MiB; unlike getrusage, without that of whoever started it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def test_memory_does_not_grow_with_the_object(objects: Objects, tmp_path: Path) -> None:
    source = made(tmp_path / "in", 128)
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[float] = context.Queue()
    config = objects.config("north", part_mib=8)
    worker = context.Process(target=_memory, args=(config, source, tmp_path / "out", results))
    worker.start()
    growth = results.get(timeout=200)
    worker.join()
    assert growth < 64
    assert sha(tmp_path / "out") == sha(source)


# bad lines


def test_an_upload_cut_ten_times_goes_on_with_the_parts_that_are_there(objects: Objects, tmp_path: Path) -> None:
    source = made(tmp_path / "in", 80)
    with Proxy(objects.server.port, Weather(cut_every=7 * MIB, cuts=10)) as proxy:
        with objects.store("north", proxy.port) as north:
            assert north.put(KEY, source) is True
        assert proxy.made_cuts == 10
        assert proxy.up < 80 * MIB + 10 * 2 * (PART + MIB)  # a cut costs the two parts under way, no more
    with objects.store("south") as south:
        south.get(KEY, tmp_path / "out", 80 * MIB)
    assert sha(tmp_path / "out") == sha(source)


def test_a_download_cut_ten_times_goes_on_where_it_was(objects: Objects, tmp_path: Path) -> None:
    source = made(tmp_path / "in", 60)
    with objects.store("north") as north:
        north.put(KEY, source)
    with Proxy(objects.server.port, Weather(cut_every=5 * MIB, cuts=10)) as proxy:
        with objects.store("south", proxy.port) as south:
            south.get(KEY, tmp_path / "out", 60 * MIB)
        assert proxy.made_cuts == 10
        assert proxy.down < 60 * MIB + 10 * 2 * MIB  # what was on its way when the line broke
    assert sha(tmp_path / "out") == sha(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_another_process_goes_on_with_an_upload_and_remembers_nothing(objects: Objects, tmp_path: Path) -> None:
    source = made(tmp_path / "in", 40)
    with Proxy(objects.server.port, Weather(cut_every=28 * MIB)) as proxy:
        with objects.store("north", proxy.port, patience=0) as north, pytest.raises(StoreError) as caught:
            north.put(KEY, source)
        assert caught.value.fix
        assert north.stat(KEY) is None  # nothing half-written is visible
        proxy.weather = Weather()
        before = proxy.up
        with objects.store("north", proxy.port) as again:
            assert again.put(KEY, source) is True
            assert open_uploads(again._client, f"{FEDERATION}/") == []
            again.get(KEY, tmp_path / "out", 40 * MIB)
        assert proxy.up - before < 26 * MIB
    assert sha(tmp_path / "out") == sha(source)


def _put_in_vain(objects: Objects, source: Path) -> None:
    """Leave an upload of which some parts are there."""
    with (
        Proxy(objects.server.port, Weather(cut_every=13 * MIB)) as proxy,
        objects.store("north", proxy.port, patience=0) as north,
        pytest.raises(StoreError),
    ):
        north.put(KEY, source)


def test_parts_of_other_bytes_under_the_same_key_are_never_mixed_in(objects: Objects, tmp_path: Path) -> None:
    first, second = made(tmp_path / "first", 20), made(tmp_path / "second", 20)
    _put_in_vain(objects, first)
    with objects.store("north") as north:
        assert north.put(KEY, second) is True
        north.get(KEY, tmp_path / "out", 20 * MIB)
    assert sha(tmp_path / "out") == sha(second)


def test_purging_takes_unfinished_uploads_too(objects: Objects, tmp_path: Path) -> None:
    _put_in_vain(objects, made(tmp_path / "in", 20))
    with objects.store("north") as north:
        assert len(open_uploads(north._client, f"{FEDERATION}/")) == 1
        assert north.delete(f"{FEDERATION}/north/run-1/") == 0
        assert open_uploads(north._client, f"{FEDERATION}/") == []


def test_a_slow_line_is_not_taken_for_a_dead_one(objects: Objects, tmp_path: Path) -> None:
    """The object takes more than twice as long as anybody waits for a sign of life."""
    source = made(tmp_path / "in", 1.5)
    timeouts = {"connect_timeout": 1.5, "read_timeout": 1.5}
    slow = Weather(delay=0.005, rate=400_000)
    with Proxy(objects.server.port, slow) as proxy, objects.store("north", proxy.port, **timeouts) as north:
        assert north.put(KEY, source) is True
        start = time.monotonic()
        north.get(KEY, tmp_path / "out", 2 * MIB)
        assert time.monotonic() - start > 3.5
    assert sha(tmp_path / "out") == sha(source)


def test_the_environments_proxy_is_used_unless_it_says_otherwise(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = made(tmp_path / "in", 6)
    with Tunnel(objects.server.port) as tunnel:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{tunnel.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with objects.store("north") as north:
            north.put(KEY, source)
            north.get(KEY, tmp_path / "out", 6 * MIB)
        assert tunnel.asked
        assert {line.split()[1] for line in tunnel.asked} == {f"localhost:{objects.server.port}"}
        tunnel.asked.clear()
        monkeypatch.setenv("no_proxy", "localhost")
        with objects.store("north") as north:
            assert north.stat(KEY) == 6 * MIB
        assert tunnel.asked == []
    monkeypatch.delenv("no_proxy")
    with objects.store("north") as north, pytest.raises(StoreError, match="proxy"):
        north.stat(KEY)
    assert sha(tmp_path / "out") == sha(source)


def test_a_silent_line_is_given_up(objects: Objects) -> None:
    impatient = {"connect_timeout": 1.0, "read_timeout": 1.0}
    with Proxy(objects.server.port) as proxy, objects.store("north", proxy.port, **impatient) as north:
        north.put(KEY, b"x")
        proxy.weather.silent = True
        with pytest.raises(StoreError, match=r"fell silent|does not answer|broke"):
            north.read(KEY, 10)
        proxy.weather.silent = False
        assert north.read(KEY, 10) == b"x"
