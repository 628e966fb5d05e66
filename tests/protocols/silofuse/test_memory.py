"""A table larger than memory streams: what a silo holds of it at any time is a fraction."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

WIDTH, BLOCK = 200, 2_000
ROWS = 40_000
TABLE_MIB = ROWS * WIDTH * 8 / 2**20
SILO = """
import sys, threading
from pathlib import Path

import numpy as np

from protocols.learning import rows, table
from protocols.learning.tensors import write_tensors
from protocols.silofuse import silo
from services.contract import Context, Received

width, block = map(int, sys.argv[3:])
rows.BLOCK_ROWS = table.BLOCK_ROWS = block
numbers = {f"x{n}": {"type": "number", "min": -10, "max": 10} for n in range(width)}
names = ("north", "south")


def held():
    # MiB in pages that no file lends: what the system cannot take back
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def run(folder, count):
    training = count - round(0.2 * count)
    spec = {
        "name": "large", "protocol": "silofuse", "identifier": {"column": "person"}, "rows": training,
        "silos": {"north": {"columns": numbers}, "south": {"columns": {"y": numbers["x0"]}}},
    }
    workspace, order = folder / "north", folder / "order"
    workspace.mkdir()
    write_tensors(order, {"places": np.arange(count), "held_out": (np.arange(count) >= training).astype(np.uint8)})
    half = silo.half(Context("r", spec, "north", "hub", names, workspace, folder / "table.parquet"))
    messages = [step.compute(lambda *_: None) for step in half.begin()]
    (latents,) = (step.compute(lambda *_: None) for step in half.receive(Received("hub", "align.order", order, "")))
    next(half.receive(Received("hub", "silofuse.slice", latents.payload, ""))).compute(lambda *_: None)


run(Path(sys.argv[1]), block)  # what is loaded once is no part of a table
start, peak, ended = held(), 0.0, threading.Event()


def watch():
    global peak
    while not ended.wait(0.002):
        peak = max(peak, held())


watcher = threading.Thread(target=watch)
watcher.start()
try:
    run(Path(sys.argv[2]), ROWS)
finally:
    ended.set()
    watcher.join()
print(peak - start)
""".replace("ROWS)", f"{ROWS})")


def write_table(folder: Path, rows: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    schema = pa.schema([("person", pa.string()), *((f"x{n}", pa.float64()) for n in range(WIDTH))])
    with parquet.ParquetWriter(folder / "table.parquet", schema) as file:
        for start in range(0, rows, BLOCK):
            people = [f"P{number:07d}" for number in range(start, start + BLOCK)]
            file.write_table(pa.table([people, *rng.standard_normal((WIDTH, BLOCK)).clip(-9, 9)], schema=schema))


@pytest.mark.slow
def test_a_silo_goes_through_a_table_of_which_it_never_holds_half(tmp_path: Path) -> None:
    for name, rows in (("small", BLOCK), ("large", ROWS)):
        write_table(tmp_path / name, rows)
    command = [sys.executable, "-c", SILO, str(tmp_path / "small"), str(tmp_path / "large"), str(WIDTH), str(BLOCK)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=500)
    assert float(done.stdout) < TABLE_MIB / 2
    synthetic = pd.read_parquet(tmp_path / "large" / "north" / "synthetic.parquet", columns=["x0", "x99"])
    assert len(synthetic) == ROWS - round(0.2 * ROWS)
    assert abs(synthetic.to_numpy().std() - 1) < 0.1
