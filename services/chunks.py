"""A body: AES-256-GCM chunk by chunk, so that a payload of any size passes through a few MiB of memory.

Chunk i of n is encrypted under nonce = i as 11 big-endian bytes || 1 if it is the last, else 0; the last chunk is
empty only when the payload is. Chunks can then be neither reordered, dropped, appended nor taken from elsewhere
(the STREAM construction: Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption", CRYPTO 2015).
A key serves one body.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import BufferedIOBase
from typing import BinaryIO, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.errors import InvalidArtifact

CHUNK = 1 << 20
TAG = 16
_AHEAD = 8


def body_length(payload_length: int) -> int:
    """How many bytes the body of a payload has."""
    return payload_length + TAG * _count(payload_length)


def payload_length(body: int) -> int:
    """How many bytes the payload of a body has.

    Raises:
        InvalidArtifact: no payload has a body of that length.
    """
    length = body - TAG * -(-body // (CHUNK + TAG))
    if length < 0 or body_length(length) != body:
        raise InvalidArtifact("no payload has a body of that length")
    return length


def encrypt(source: BufferedIOBase, length: int, key: bytes, aad: bytes, target: BinaryIO) -> str:
    """Encrypt `length` bytes.

    Args:
        source: where the payload is read.
        length: of the payload.
        key: 32 bytes, never used before.
        aad: what every chunk is bound to.
        target: where the body is written.

    Returns:
        The body's SHA-256.

    Raises:
        InvalidArtifact: the payload ended early.
    """
    cipher = AESGCM(key)
    with _Sha256() as sha256:
        for nonce, plain, sealed in _steps(length):
            if source.readinto(plain) != len(plain):
                raise InvalidArtifact("the payload changed while it was sealed")
            cipher.encrypt_into(nonce, plain, aad, sealed)
            sha256.update(sealed)
            target.write(sealed)
        return sha256.hexdigest()


def decrypt(source: BufferedIOBase, length: int, key: bytes, aad: bytes, target: BinaryIO) -> str:
    """Undo `encrypt`; `target` is to be believed only after this returned and its result was compared.

    Args:
        source: where the body is read.
        length: of the payload.
        key: the body's key.
        aad: what every chunk is bound to.
        target: where the payload is written.

    Returns:
        The SHA-256 of what was read.

    Raises:
        InvalidArtifact: the body ended early, or a chunk is not what was encrypted in its place.
    """
    cipher = AESGCM(key)
    with _Sha256() as sha256:
        for nonce, plain, sealed in _steps(length):
            if source.readinto(sealed) != len(sealed):
                raise InvalidArtifact("the body is truncated")
            sha256.update(sealed)
            try:
                cipher.decrypt_into(nonce, sealed, aad, plain)
            except InvalidTag:
                raise InvalidArtifact("a chunk of the body does not authenticate") from None
            target.write(plain)
        return sha256.hexdigest()


def _count(length: int) -> int:
    return max(1, -(-length // CHUNK))


def _steps(length: int) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """For every chunk its nonce, room for its plain bytes, and room for its sealed bytes.

    The latter rotates, so that a few chunks can wait to be hashed while the next ones are filled.
    """
    last, room = _count(length) - 1, min(CHUNK, length)  # most messages are small: room for a chunk takes time to make
    plain = memoryview(bytearray(room))
    sealed = [memoryview(bytearray(room + TAG)) for _ in range(min(_AHEAD, last + 1))]
    for index in range(last + 1):
        size = min(CHUNK, length - index * CHUNK)
        yield index.to_bytes(11, "big") + bytes([index == last]), plain[:size], sealed[index % _AHEAD][: size + TAG]


class _Sha256:
    """SHA-256 on a second thread: it takes longer than reading, encrypting and writing together."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown()

    def update(self, data: memoryview) -> None:
        """Hash soon; `data` must stay as it is for `_AHEAD - 1` further calls."""
        self._waiting.append(self._thread.submit(self._hash.update, data))
        if len(self._waiting) == _AHEAD:
            self._waiting.popleft().result()

    def hexdigest(self) -> str:
        while self._waiting:
            self._waiting.popleft().result()
        return self._hash.hexdigest()
