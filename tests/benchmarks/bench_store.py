"""How fast an object travels through `S3Store` beside the raw SDK, and how much memory that takes.

A real SeaweedFS with TLS is started on this machine. Per round the same file is put and fetched by both, in turns:
`fput_object` and `fget_object` of the minio SDK with its own settings, and our `put` and `get`, which also look
whether the object exists, complete under a condition, and can go on after a cut.

    python -m tests.benchmarks.bench_store --mebibytes 1024 --rounds 3 --folder /var/tmp

Prints one JSON object: medians in seconds; the ratios raw / ours of the medians, together and each way; the peak of
resident memory over idle in MiB, ours first, because a process never gives the figure back.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import urllib3
from minio import Minio

from services.store.s3 import S3Store
from tests.wire.objects import BUCKET, FEDERATION, OPERATOR, Objects

MIB = 1 << 20


def seconds(function: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak() -> float:
    """The greatest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Time transfers through S3Store against the raw SDK.")
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part-mib", type=int, default=8)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the files and the server lie; the disk counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        source, target = folder / "source", folder / "target"
        with source.open("wb") as out:
            for _ in range(options.mebibytes):
                out.write(os.urandom(MIB))
        objects = Objects(folder)
        objects.server.start()
        try:
            config = objects.config(OPERATOR, part_mib=options.part_mib, parallel=options.parallel)
            store = S3Store(config)
            operator = objects.credentials[OPERATOR]
            raw = Minio(
                f"localhost:{objects.server.port}", operator.access_key, operator.secret_key, region=config.region,
                http_client=urllib3.PoolManager(ca_certs=str(config.ca)),
            )  # fmt: skip
            ways = {
                "our_put": lambda key: store.put(key, source),
                "our_get": lambda key: store.get(key, target, source.stat().st_size),
                "raw_put": lambda key: raw.fput_object(BUCKET, key, str(source)),
                "raw_get": lambda key: raw.fget_object(BUCKET, key, str(target)),
            }
            taken: dict[str, list[float]] = {way: [] for way in ways}
            store.put(f"{FEDERATION}/bench/warm/up", b"x")
            idle = peak()
            memory = 0.0
            for number in range(options.rounds + 1):  # the first round warms server and disk up, and is not counted
                for who in ("our", "raw"):
                    key = f"{FEDERATION}/bench/{number}/{who}"
                    for way in ("put", "get"):
                        took = seconds(lambda: ways[f"{who}_{way}"](key))  # noqa: B023 - called at once
                        if number:
                            taken[f"{who}_{way}"].append(took)
                        memory = memory or (peak() - idle if way == "get" else 0.0)
                        target.unlink(missing_ok=True)
                    store.delete(f"{FEDERATION}/bench/{number}/")
        finally:
            objects.server.kill9()
    middle = {way: statistics.median(found) for way, found in taken.items()}
    result = {
        **{f"{way}_seconds": found for way, found in middle.items()},
        "ratio": (middle["raw_put"] + middle["raw_get"]) / (middle["our_put"] + middle["our_get"]),
        "ratio_put": middle["raw_put"] / middle["our_put"],
        "ratio_get": middle["raw_get"] / middle["our_get"],
        "memory_over_idle_mib": memory,
    }
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    main()
