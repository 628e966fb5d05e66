"""CTGAN and TVAE as SDV ships them, run by the interpreter of `.venv-peers`: Parquet and JSON in, Parquet and JSON out.

    .venv-peers/bin/python tests/benchmarks/silofuse/peer.py FOLDER

`FOLDER/request.json` holds `{"model": "CTGAN" or "TVAE", "columns": {name: sdtype}, "rows", "seed", "threads",
"epochs", "budget"}`, `FOLDER/training.parquet` the rows. SDV does its documented preprocessing; what the request
leaves null is at SDV's defaults.

`budget` limits the seconds of training proper: preprocessing comes on top, and the epoch during which the time runs
out is trained to its end. No learning rate depends on the number of epochs, so one that stops early loses nothing.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

TABLE = "people"


class Clock:
    """Stands where SDV's models put their progress bar, around the loop over epochs: counts, times and ends it.

    Args:
        budget: seconds after which no epoch is begun; without one, the model's own number of epochs.
        now: tells seconds.
    """

    def __init__(self, budget: float | None, now: Callable[[], float] = time.perf_counter) -> None:
        self.epochs, self.seconds = 0, 0.0
        self._budget, self._now = budget, now

    def __call__(self, epochs: Iterable[int], **_: object) -> Iterator[int]:
        """The epochs to train."""
        began = self._now()
        for epoch in epochs if self._budget is None else itertools.count():
            yield epoch
            self.epochs, self.seconds = epoch + 1, self._now() - began
            if self._budget is not None and self.seconds >= self._budget:
                return


def main(folder: Path) -> None:
    """Fit, sample, and write `synthetic.parquet` and `result.json`."""
    # SDV stands in another environment than the one that checks and tests this file
    np, pd, torch = (importlib.import_module(name) for name in ("numpy", "pandas", "torch"))
    single_table, metadata = importlib.import_module("sdv.single_table"), importlib.import_module("sdv.metadata")
    warnings.filterwarnings("ignore")
    request = json.loads((folder / "request.json").read_text())
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    np.random.seed(request["seed"])
    clock = Clock(request["budget"])
    # a missing name is an error here: another release would train without the clock
    module = importlib.import_module(f"ctgan.synthesizers.{request['model'].lower()}")
    if not hasattr(module, "tqdm"):
        raise RuntimeError("this release of ctgan has no loop over epochs that the clock knows")
    module.tqdm = clock

    columns = {name: {"sdtype": sdtype} for name, sdtype in request["columns"].items()}
    described = metadata.Metadata.load_from_dict({"tables": {TABLE: {"columns": columns}}, "relationships": []})
    options: dict[str, Any] = {"epochs": request["epochs"]} if request["epochs"] else {}
    model = getattr(single_table, f"{request['model']}Synthesizer")(described, enable_gpu=False, **options)
    began = time.perf_counter()
    model.fit({TABLE: pd.read_parquet(folder / "training.parquet")})
    fitted = time.perf_counter()
    synthetic = model.sample(num_rows=request["rows"])
    sampled = time.perf_counter()
    synthetic[TABLE].to_parquet(folder / "synthetic.parquet", index=False)

    status = Path("/proc/self/status").read_text().splitlines()
    result = {
        "seconds": {
            "preprocessing": fitted - began - clock.seconds,
            "epochs": clock.seconds,
            "sampling": sampled - fitted,
        },
        "epochs": clock.epochs,
        "memory": next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM")),
        "versions": {name: importlib.metadata.version(name) for name in ("sdv", "ctgan", "torch")},
    }
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
