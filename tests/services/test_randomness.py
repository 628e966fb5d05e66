"""Random bytes that nobody repeats: a published keystream, fresh keys, and children that leave their parent's."""

import os
import threading

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from services.randomness import Stream

KEY = bytes(range(32))
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of threads


def drawn(stream: Stream, count: int) -> bytes:
    buffer = bytearray(count)
    stream.fill(memoryview(buffer))
    return bytes(buffer)


def in_a_child(work: object) -> bytes:
    """What a forked child's `work()` returns."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, work())  # type: ignore[operator]
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        result = file.read()
    assert os.waitpid(child, 0)[1] == 0
    return result


def test_the_bytes_are_the_keystream_of_aes_in_counter_mode_however_they_are_asked_for() -> None:
    length = (1 << 19) + 5
    expected = Cipher(algorithms.AES256(KEY), modes.CTR(bytes(16))).encryptor().update(bytes(length))
    assert drawn(Stream(KEY), length) == expected
    pieces = Stream(KEY)
    assert b"".join(drawn(pieces, count) for count in (1, 15, 16, 17, 1000, 0, length - 1049)) == expected


def test_two_streams_without_a_key_differ() -> None:
    assert drawn(Stream(), 32) != drawn(Stream(), 32)


@FORKS
def test_a_forked_child_has_a_stream_of_its_own() -> None:
    for stream in (Stream(), Stream(KEY)):
        child = in_a_child(lambda stream=stream: drawn(stream, 32))
        assert len(child) == 32
        assert child != drawn(stream, 32)


@FORKS
def test_a_child_draws_although_a_thread_of_its_parent_held_the_lock() -> None:
    stream = Stream()
    with stream._lock:
        assert len(in_a_child(lambda: drawn(stream, 32))) == 32


def test_threads_share_no_byte() -> None:
    stream, found = Stream(KEY), []
    threads = [threading.Thread(target=lambda: found.extend(drawn(stream, 16) for _ in range(500))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = drawn(Stream(KEY), 16 * 2000)
    assert sorted(found) == sorted(whole[i : i + 16] for i in range(0, len(whole), 16))


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Stream(b"short")
