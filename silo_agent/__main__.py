"""Starts the silo's command line."""

import os
import sys
from pathlib import Path

from services.alive import answer_quickly


def main() -> None:
    """The console script."""
    answer_quickly(sys.argv[1:], Path(os.environ.get("SILO_AGENT_CONFIG", "silo-agent.yaml")))
    from services.command import run_cli  # noqa: PLC0415
    from silo_agent.cli import app  # noqa: PLC0415 - a health check is answered without it

    run_cli(app)


if __name__ == "__main__":
    main()
