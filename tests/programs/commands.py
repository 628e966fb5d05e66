"""Command lines that run to their end, each in a process of its own that finds everything imported already.

The processes are forked from one that has imported the programs and done nothing else: starting an interpreter for each
would take ten times as long as what most commands do. Services start as an operator starts them: `Federation.start`.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

REPOSITORY = Path(__file__).parents[2]
_SECONDS = 120.0
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.programs.launch", "pandas"])


def run(*words: object, check: bool = True, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end, with `given` on its standard input."""
    line = [str(word) for word in words]
    with ExitStack() as stack:
        streams = [stack.enter_context(tempfile.NamedTemporaryFile("w+", encoding="utf-8")) for _ in range(3)]
        streams[0].write(given or "")
        streams[0].flush()
        with patch.dict(os.environ, COLUMNS="200"):  # what is imported asks how wide the terminal is
            multiprocessing.forkserver.ensure_running()
        process = _FORKS.Process(
            target=_live, args=(line, {**os.environ, "COLUMNS": "200"}, [one.name for one in streams])
        )
        process.start()
        process.join(_SECONDS)
        if (status := process.exitcode) is None:
            process.kill()
        out, err = (one.read() for one in streams[1:])
    assert status is not None, f"{line} does not end: {out}{err}"
    assert not check or status == 0, err
    return subprocess.CompletedProcess(line, status, out, err)


def _live(line: list[str], environment: dict[str, str], streams: list[str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(streams):
        with Path(name).open("r" if number == 0 else "a", encoding="utf-8") as file:
            os.dup2(file.fileno(), number)
    os.chdir(REPOSITORY)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it is this process's as long as it lives
    sys.argv = ["launch", *line]

    from tests.programs.launch import main

    main()
