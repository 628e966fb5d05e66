"""Starts the coordinator's command line."""

import os
import sys
from pathlib import Path

from services.alive import answer_quickly


def main() -> None:
    """The console script."""
    answer_quickly(sys.argv[1:], Path(os.environ.get("COORDINATOR_CONFIG", "coordinator.yaml")))
    from coordinator.cli import app  # noqa: PLC0415 - a health check is answered without it
    from services.command import run_cli  # noqa: PLC0415

    run_cli(app)


if __name__ == "__main__":
    main()
