"""How much a private training step costs beside a plain one, and beside those of Opacus.

A private step is all of it: Poisson sampling and noise from cryptographic bytes, clipping, Adam. Opacus takes the same
samples, ready made, and torch's ordinary noise: its secure one no longer installs. All run a few steps in turns, so
that a busy minute slows each; one thread computes, and on two cores the noise is drawn on another meanwhile. One core
is measured in processor time, which other programs disturb least, two by the clock.

    python -m tests.benchmarks.bench_step --rounds 15

Prints medians in ms, the ratio to the plain step as the median of the rounds, and the ratio of the best of each, which
other programs on the machine disturb less. The gate is 1.6 on one core.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import pairwise

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from protocols.learning.clipped import kept
from protocols.learning.dpsgd import Plan, Steps
from protocols.learning.noise import Noise

INPUTS, BATCH, RECORDS = 100, 512, 51_200
PLAN = Plan(records=RECORDS, rate=BATCH / RECORDS, steps=1, clip=1.0, noise_multiplier=1.0)
STEPS = 8  # at a time
LARGEST_FOR_HOOKS = 1_000_000  # with more parameters, Opacus's hooks keep gigabytes of per-sample gradients
PLAIN, OURS = "plain", "silokit"


def mlp(width: int) -> nn.Sequential:
    torch.manual_seed(0)
    widths = (INPUTS, width, width, width)
    hidden = [part for i, o in pairwise(widths) for part in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, 1))


def squared(model: nn.Module, batch: Tensor) -> Tensor:
    out: Tensor = model(batch)
    return (out[:, 0] - batch[:, 0]).square()


def plain_steps(width: int, data: Tensor) -> Iterator[None]:
    model = mlp(width)
    adam = torch.optim.Adam(model.parameters(), fused=True)
    while True:
        adam.zero_grad()
        squared(model, data[torch.randint(RECORDS, (BATCH,))]).mean().backward()
        yield adam.step()


def private_steps(width: int, data: Tensor) -> Iterator[None]:
    model = mlp(width)
    with kept(model, squared, PLAN.clip, torch.rand(3, INPUTS)) as sums, Steps(sums, data, PLAN, Noise()) as steps:
        weights = nn.Parameter(sums.values)
        adam = torch.optim.Adam([weights], fused=True)
        while True:
            weights.grad = steps.gradient()
            yield adam.step()


def ghost_steps(width: int, data: Tensor) -> Iterator[None]:
    model = GradSampleModuleFastGradientClipping(mlp(width), max_grad_norm=PLAN.clip, use_ghost_clipping=True)
    adam = DPOptimizerFastGradientClipping(
        torch.optim.Adam(model.parameters(), fused=True),
        noise_multiplier=PLAN.noise_multiplier,
        max_grad_norm=PLAN.clip,
        expected_batch_size=BATCH,
    )
    criterion = DPLossFastGradientClipping(model, adam, nn.MSELoss(reduction="mean"))
    while True:
        batch = data[torch.rand(RECORDS) < PLAN.rate]
        adam.zero_grad()
        criterion(model(batch), batch[:, :1]).backward()
        yield adam.step()


def hooks_steps(width: int, data: Tensor) -> Iterator[None]:
    model = GradSampleModule(mlp(width))
    adam = DPOptimizer(
        torch.optim.Adam(model.parameters(), fused=True),
        noise_multiplier=PLAN.noise_multiplier,
        max_grad_norm=PLAN.clip,
        expected_batch_size=BATCH,
    )
    while True:
        adam.zero_grad()
        squared(model, data[torch.rand(RECORDS) < PLAN.rate]).mean().backward()
        yield adam.step()


WAYS: Mapping[str, Callable[[int, Tensor], Iterator[None]]] = {
    PLAIN: plain_steps, OURS: private_steps, "Opacus ghost": ghost_steps, "Opacus hooks": hooks_steps,
}  # fmt: skip


def measure(width: int, cores: int, rounds: int) -> Mapping[str, list[float]]:
    """Seconds for a step of every way, in every round."""
    clock = time.process_time if cores == 1 else time.perf_counter
    everywhere = os.sched_getaffinity(0)
    names = [name for name in WAYS if cores == 1 or name in {PLAIN, OURS}]
    if sum(parameter.numel() for parameter in mlp(width).parameters()) > LARGEST_FOR_HOOKS:
        names = [name for name in names if name != "Opacus hooks"]
    data = torch.randn(RECORDS, INPUTS)
    seconds: Mapping[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        os.sched_setaffinity(0, sorted(everywhere)[:cores])  # threads started from here on keep to it
        stack.callback(os.sched_setaffinity, 0, everywhere)
        ways = {name: WAYS[name](width, data) for name in names}
        for way in ways.values():
            stack.callback(way.close)
            for _ in range(3):
                next(way)
        for _ in range(rounds):
            for name, way in ways.items():
                count = 1 if name == "Opacus hooks" else STEPS
                time.sleep(0.05)  # the way before may have noise on its way
                next(way)
                start = clock()
                for _ in range(count):
                    next(way)
                seconds[name].append((clock() - start) / count)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Time private training steps against plain ones.")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # Opacus's, about torch's hooks
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # without noise, training slows as it converges: no fair comparison
    table = Table(
        title=f"one step, batch {BATCH}, {INPUTS} inputs, one computing thread: ms (ratio to plain; of the best)"
    )
    for column in ("model", "cores", *WAYS):
        table.add_column(column)
    for width in (256, 1024):
        for cores in sorted({1, min(2, len(os.sched_getaffinity(0)))}):
            found = measure(width, cores, options.rounds if width == 256 else max(5, options.rounds // 3))
            cells = [cell(found[name], found[PLAIN]) if name in found else "-" for name in WAYS]
            table.add_row(f"3x{width}", str(cores), *cells)
    Console(width=120).print(table)


def cell(seconds: list[float], plain: list[float]) -> str:
    ratio = statistics.median(ours / theirs for ours, theirs in zip(seconds, plain, strict=True))
    return f"{1e3 * statistics.median(seconds):.2f} ({ratio:.2f}; {min(seconds) / min(plain):.2f})"


if __name__ == "__main__":
    main()
