"""Random bytes fit for a privacy claim: the keystream of AES-256 in counter mode under a key fresh from the system.

Whoever could guess the noise of a release could take it away again, so no seed of a run, a user or a test framework
reaches these bytes. AES's 128-bit counter never comes around (OpenSSL's ChaCha20 would after 256 GiB), and with the
instructions that processors have for it, it makes gigabytes in a second: noise is drawn for every weight of every step.

A stream is used by one thread at a time, which its lock sees to, and a forked child gets a key of its own: two
processes that went on with the same stream would release the same noise twice, and its difference is none.
"""

from __future__ import annotations

import os
import threading
import weakref

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

KEY_BYTES = 32
_ZEROS = memoryview(bytes(1 << 18))


class Stream:
    """Unpredictable bytes without end.

    Args:
        key: 32 bytes that determine the stream; for tests only. Nothing that a user can set may reach it.

    Raises:
        ValueError: the key is of another length.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._start(os.urandom(KEY_BYTES) if key is None else key)
        _streams.add(self)

    def _start(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key of a stream has {KEY_BYTES} bytes")
        self._lock = threading.Lock()
        self._cipher = Cipher(AES256(key), CTR(bytes(16))).encryptor()

    def fill(self, buffer: memoryview) -> None:
        """Overwrite a buffer, of single bytes, with the next of the stream."""
        with self._lock:
            for first in range(0, len(buffer), len(_ZEROS)):
                part = buffer[first : first + len(_ZEROS)]
                self._cipher.update_into(_ZEROS[: len(part)], part)

    def _renew(self) -> None:
        """Leave the parent's stream; its lock may be held by a thread that the child does not have."""
        self._start(os.urandom(KEY_BYTES))


_streams: weakref.WeakSet[Stream] = weakref.WeakSet()


def _after_fork() -> None:
    for stream in _streams:
        stream._renew()  # noqa: SLF001 - this module's own


os.register_at_fork(after_in_child=_after_fork)
