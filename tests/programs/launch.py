"""One of the kit's command lines, with echo registered, that fails at a named call if it is told to.

    python -m tests.programs.launch silo-agent serve ...

FAULT=`module:attribute:moment:count` kills the process `before` or `after` the count-th call of that function; with the
moment `full`, the disk is full in its first count calls. `module:NAME:number:value` sets a number instead, and
`module:NAME:seconds:value` a timedelta. Several stand side by side, separated by blanks.
"""

from __future__ import annotations

import errno
import functools
import importlib
import os
import signal
import sys
from datetime import timedelta
from typing import Any

import coordinator.__main__
import protocols
import silo_agent.__main__

PROGRAMS = {"silo-agent": silo_agent.__main__.main, "coordinator": coordinator.__main__.main}


def plant(where: str) -> None:
    """Arm one function of the program."""
    module, attribute, moment, count = where.split(":")
    owner: Any = importlib.import_module(module)
    *path, name = attribute.split(".")
    for part in path:
        owner = getattr(owner, part)
    if moment in {"number", "seconds"}:
        setattr(owner, name, float(count) if moment == "number" else timedelta(seconds=float(count)))
        return
    original = getattr(owner, name)
    calls = 0

    @functools.wraps(original)
    def armed(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if moment == "full" and calls <= int(count):
            raise OSError(errno.ENOSPC, "No space left on device")
        if (moment, str(calls)) == ("before", count):
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if (moment, str(calls)) == ("after", count):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, armed)


def main() -> None:
    """Run the command line that the arguments name."""
    protocols.register("echo", "tests.echo")
    for fault in os.environ.get("FAULT", "").split():
        plant(fault)
    PROGRAMS[sys.argv.pop(1)]()


if __name__ == "__main__":
    main()
