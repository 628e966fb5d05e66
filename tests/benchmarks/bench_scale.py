"""How SiloFuse grows: seconds and peak memory of every stage of a run, over rows, columns or silos.

The parties' halves are driven as their hosts drive them, each stage in a process of its own, over a table of made-up
shape: numbers on a grid, skewed and with gaps, categories and dates, all leaning on one hidden quantity. A silo's
stage is that of the first silo; the others do the same work beside it. *Memory* is the greatest resident size of the
stage's process; *imports* is what of it was there before the stage began. An exponent is the slope over the size on a
log-log scale: of processor seconds, which another load of the machine does not change, and of memory beyond imports.

    python -m tests.benchmarks.bench_scale --rows 10000 100000 1000000 --columns 50 --silos 4

Prints a table, and writes all of it to build/scale-AXIS.json. The axis is what more than one value is given for.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HUB = "coordinator"
BLOCK = 50_000
STAGES = ("secret", "pseudonyms", "order", "latents", "diffusion", "sampling", "decode", "report")
"""A run's stages in their order, by the names of their works."""


def column(index: int) -> dict[str, Any]:
    """The public schema of a column."""
    kinds: tuple[dict[str, Any], ...] = (
        {"type": "number", "min": -100, "max": 100},
        {"type": "category", "categories": ["a", "b", "c", "d"]},
        {"type": "integer", "min": 0, "max": 1000, "missing": True},
        {"type": "category", "categories": [f"label {n}" for n in range(12)], "missing": True},
        {"type": "number", "min": 0, "max": 1e7, "step": 0.5, "missing": True},
        {"type": "category", "categories": ["no", "yes"]},
        {"type": "number", "min": 0, "max": 1e7},
        {"type": "date", "min": "2000-01-01", "max": "2030-01-01"},
    )
    return kinds[index % len(kinds)]


def values(index: int, hidden: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What some rows hold in a column, as text."""
    kind = column(index)
    score = 0.6 * hidden + 0.8 * rng.standard_normal(len(hidden))
    if kind["type"] == "category":
        labels = np.array(kind["categories"])
        text = labels[np.clip((score + 2) / 4 * len(labels), 0, len(labels) - 1).astype(int)].astype("U10")
    elif kind["type"] == "date":
        text = (np.datetime64("2015-01-01") + np.clip(score * 900, -5000, 5000).astype("timedelta64[D]")).astype("U10")
    elif kind["type"] == "integer":
        text = np.clip(300 + 90 * score, 0, 1000).astype(int).astype("U10")
    elif "step" in kind:
        text = (np.round(np.exp(5 + score) * 2) / 2).astype("U16")
    else:
        text = np.round(np.exp(5 + score) if kind["min"] == 0 else 15 * score, 3).astype("U16")
    if kind.get("missing"):
        text[rng.random(len(text)) < 0.1] = ""
    return text


def parts(columns: int, silos: int) -> list[range]:
    """The columns of each silo."""
    return [range(columns * n // silos, columns * (n + 1) // silos) for n in range(silos)]


def write_tables(folder: Path, rows: int, columns: int, silos: int) -> None:
    """Each silo's CSV, shuffled within blocks, 3% of the people elsewhere; every block has the same values."""
    count = min(BLOCK, rows)
    hidden = np.random.default_rng(0).standard_normal(count)
    for number, own in enumerate(parts(columns, silos)):
        rng = np.random.default_rng([1, number])
        lines = [",".join(line) for line in zip(*(values(index, hidden, rng) for index in own), strict=True)]
        with (folder / f"silo-{number}.csv").open("w") as file:
            file.write(",".join(["person", *(f"c{index}" for index in own)]) + "\n")
            for start in range(0, rows, count):
                here = rng.permutation(min(count, rows - start))
                kept = here[: max(1, len(here) * 97 // 100)]
                file.writelines(f"P{start + place:09d},{lines[place]}\n" for place in kept)


def spec(options: argparse.Namespace, rows: int, columns: int, silos: int) -> dict[str, Any]:
    own = {f"silo-{n}": {f"c{i}": column(i) for i in part} for n, part in enumerate(parts(columns, silos))}
    return {
        "name": "scale", "protocol": "silofuse", "identifier": {"column": "person"}, "rows": rows,
        "silos": {silo: {"columns": columns} for silo, columns in own.items()},
        "training": options.training,
    }  # fmt: skip


# one stage, in a process of its own


def half(folder: Path, party: str) -> Any:
    """A party's half of the run as its host would build it again after a restart."""
    from protocols.silofuse import coordinator, silo
    from services.contract import Context

    agreed = json.loads((folder / "spec.json").read_text())
    workspace = folder / party
    workspace.mkdir(exist_ok=True)
    data = None if party == HUB else folder / f"{party}.csv"
    context = Context(
        run="scale",
        spec=agreed,
        me=party,
        coordinator=HUB,
        silos=tuple(agreed["silos"]),
        workspace=workspace,
        data=data,
    )
    return coordinator.half(context) if party == HUB else silo.half(context)


def steps(folder: Path, party: str) -> Iterator[Any]:
    """All steps that a half asks for, after everything that it has received."""
    from services.contract import Received

    one = half(folder, party)
    yield from one.begin()
    for path in sorted((folder / f"{party}-inbox").glob("*")):
        _, sender, kind = path.name.split("+")
        yield from one.receive(Received(sender, kind, path, "0" * 64))


def stage(folder: Path, party: str, work: str) -> None:
    """Do one work as its host would, and put its message into the inboxes of its receivers."""
    import scipy.stats  # noqa: F401 - as everything below: so that a stage's seconds and memory are its own
    import torch  # noqa: F401

    from protocols.silofuse import coordinator, silo, streams  # noqa: F401
    from services.contract import Work

    imports, start, cpu = peak(), time.perf_counter(), time.process_time()
    for step in steps(folder, party):
        if isinstance(step, Work) and step.key == work:
            message = step.compute(lambda *_: None)
            taken = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
            for receiver in step.to if message else ():
                send(folder, party, receiver, message.kind, message.payload)
            print(json.dumps({**taken, "peak": peak(), "imports": imports}))
            return
    raise SystemExit(f"{party} has no work {work!r} to do now")


def send(folder: Path, sender: str, receiver: str, kind: str, payload: Path | bytes) -> None:
    inbox = folder / f"{receiver}-inbox"
    inbox.mkdir(exist_ok=True)
    target = inbox / f"{len(list(inbox.iterdir())):03d}+{sender}+{kind}"
    if isinstance(payload, bytes):
        target.write_bytes(payload)
    else:
        os.link(payload, target)


def peak() -> float:
    """The greatest resident size so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# all stages


def measured(options: argparse.Namespace, rows: int, columns: int, silos: int) -> dict[str, dict[str, float]]:
    """Seconds and peak memory of every stage of one run."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        names = [f"silo-{number}" for number in range(silos)]
        (folder / "spec.json").write_text(json.dumps(spec(options, rows, columns, silos)))
        write_tables(folder, rows, columns, silos)
        found = {}
        for work in STAGES:
            if work == "report" and not options.report:
                continue
            if work in {"secret", "diffusion", "sampling"}:
                doers = [("silo-0" if work == "secret" else HUB, work)]
            elif work == "order":
                doers = [(HUB, f"order.{silo}") for silo in names]
            else:
                doers = [(silo, work) for silo in (names[:1] if work == "report" else names)]
            if work == "decode":
                for silo in names:
                    alone(folder, HUB, f"slice.{silo}")
            done = [alone(folder, party, key) for party, key in doers]
            found[work] = done[0]
            print(
                f"  {work}: {found[work]['seconds']:.1f} s, {found[work]['peak']:.0f} MiB", file=sys.stderr, flush=True
            )
        return found


def alone(folder: Path, party: str, work: str) -> dict[str, float]:
    """A stage in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_scale", "--stage", str(folder), party, work]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def exponent(sizes: list[int], amounts: list[float]) -> float | None:
    """The slope on a log-log scale."""
    if len(sizes) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(amounts, 1e-3)), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how a run of SiloFuse grows.")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--columns", type=int, nargs="+", default=[50])
    parser.add_argument("--silos", type=int, nargs="+", default=[4])
    parser.add_argument(
        "--training", type=json.loads, default={"steps": 200}, help="JSON: the protocol's parameters at every size"
    )
    parser.add_argument("--report", action="store_true", help="measure the reports too")
    parser.add_argument("--folder", help="where to work; some GiB for a million rows")
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--stage", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        stage(Path(options.stage[0]), *options.stage[1:])
        return
    axis = next((name for name in ("columns", "silos") if len(getattr(options, name)) > 1), "rows")
    runs = []
    for rows in options.rows:
        for columns in options.columns:
            for silos in options.silos:
                print(f"{rows} rows, {columns} columns, {silos} silos", file=sys.stderr, flush=True)
                stages = measured(options, rows, columns, silos)
                runs.append({"rows": rows, "columns": columns, "silos": silos, "stages": stages})
    sizes = [run[axis] for run in runs]
    growth = {}
    print(f"\n{axis:12s}" + "".join(f"{size:>24,}" for size in sizes) + f"{'exponents':>16s}")
    for work in runs[0]["stages"]:
        cells = [run["stages"][work] for run in runs]
        seconds, memory = [cell["cpu"] for cell in cells], [cell["peak"] - cell["imports"] for cell in cells]
        growth[work] = {"seconds": exponent(sizes, seconds), "memory": exponent(sizes, memory)}
        shown = [f"{one['seconds']:8.1f} s {one['peak'] - one['imports']:8.0f} MiB" for one in cells]
        ends = ["-" if one is None else f"{one:.2f}" for one in growth[work].values()]
        print(f"{work:12s}" + "".join(f"{one:>24s}" for one in shown) + f"{ends[0]:>9s}{ends[1]:>7s}")
    print(f"beyond the {runs[0]['stages']['order']['imports']:.0f} MiB of imports")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"scale-{axis}.json").write_text(
        json.dumps({"axis": axis, "training": options.training, "runs": runs, "growth": growth}, indent=2)
    )


if __name__ == "__main__":
    main()
