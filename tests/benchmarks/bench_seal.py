"""How fast sealing and opening are beside raw AES-256-GCM plus SHA-256, and how much memory they take.

The baseline does the same cryptography on the same bytes, in memory and on one thread: encrypt and hash, then hash and
decrypt, in chunks of 1 MiB. Ours also reads and writes files, makes them durable, wraps, signs and verifies.

    python tests/benchmarks/bench_seal.py --mebibytes 256 --rounds 7 --folder /var/tmp

Prints one JSON object: medians in seconds; the ratio baseline / (seal + open), as the median of the rounds and from
the best of each, which other programs on the machine disturb less; the peak of resident memory over idle in MiB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.artifact import Header, NoData
from services.chunks import CHUNK, TAG
from services.keys import SealingKey, SigningKey
from services.seal import open_sealed, seal, verify

MIB = 1 << 20
SENDER, RECEIVER = SigningKey.generate(), SealingKey.generate()


def cycle(payload: Path, folder: Path) -> tuple[float, float]:
    """Seconds for sealing a file, and for verifying and opening it again."""
    now = datetime.now(UTC)
    header = Header(
        federation="bench",
        run="run",
        sender="north",
        kind="latents",
        sequence=1,
        previous=None,
        created=now,
        expires=now + timedelta(days=1),
        recipients=(RECEIVER.public.key_id,),
        schema_hash=None,
        heads={},
        release=NoData(),
    )
    start = time.perf_counter()
    manifest = seal(payload, header, [RECEIVER.public], SENDER, folder / "body")
    between = time.perf_counter()
    open_sealed(verify(manifest, SENDER.public), folder / "body", [RECEIVER], folder / "opened")
    end = time.perf_counter()
    (folder / "body").unlink()
    (folder / "opened").unlink()
    return between - start, end - between


def baseline(payload: bytes, sealed: memoryview, opened: memoryview) -> float:
    """Seconds for encrypting and hashing, then hashing and decrypting, in memory."""
    cipher, plain = AESGCM(os.urandom(32)), memoryview(payload)
    places = [(n.to_bytes(12, "big"), n * CHUNK, n * (CHUNK + TAG)) for n in range(-(-len(payload) // CHUNK))]
    start = time.perf_counter()
    sha256 = hashlib.sha256()
    for nonce, p, s in places:
        cipher.encrypt_into(nonce, plain[p : p + CHUNK], None, sealed[s : s + CHUNK + TAG])
        sha256.update(sealed[s : s + CHUNK + TAG])
    sha256 = hashlib.sha256()
    for nonce, p, s in places:
        sha256.update(sealed[s : s + CHUNK + TAG])
        cipher.decrypt_into(nonce, sealed[s : s + CHUNK + TAG], None, opened[p : p + CHUNK])
    return time.perf_counter() - start


def peak() -> float:
    """The greatest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Time sealing and opening against raw cryptography.")
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the files lie; the disk counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, payload = Path(name), Path(name) / "payload"
        idle = peak()
        with payload.open("wb") as file:
            for _ in range(options.mebibytes):
                file.write(os.urandom(MIB))
        cycle(payload, folder)
        memory = peak() - idle
        data = payload.read_bytes()
        sealed, opened = memoryview(bytearray(len(data) + TAG * options.mebibytes)), memoryview(bytearray(len(data)))
        raw, ours = [], []
        for _ in range(options.rounds):  # in turns, so that a busy minute slows both
            raw.append(baseline(data, sealed, opened))
            ours.append(cycle(payload, folder))
    sealing, opening = zip(*ours, strict=True)
    result = {
        "baseline_seconds": statistics.median(raw),
        "seal_seconds": statistics.median(sealing),
        "open_seconds": statistics.median(opening),
        "ratio": statistics.median(r / sum(o) for r, o in zip(raw, ours, strict=True)),
        "ratio_of_best": min(raw) / (min(sealing) + min(opening)),
        "memory_over_idle_mib": memory,
    }
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    main()
