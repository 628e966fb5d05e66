"""A pool of a hundred silos is read in a moment; the benchmark's short form."""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks.bench_pool import measure


def test_a_hundred_silos_with_ten_generators_each(figure: Callable[[str], None]) -> None:
    found = measure(100, 10, 3)
    figure(
        f"pool of 100 x 10: cold refresh {found['cold']:.2f} s ({found['cold_cpu']:.2f} s of processor), warm "
        f"{found['warm']:.2f} s, list {found['list'] * 1000:.0f} ms"
    )
    # on the processor, for the machine may be busy with other tests; five times what it takes, for it may be slow
    assert found["cold_cpu"] < 5
    assert found["list_cpu"] < 0.3
