"""Starts the silo's command line."""

from services.command import run_cli
from silo_agent.cli import app


def main() -> None:
    """The console script."""
    run_cli(app)


if __name__ == "__main__":
    main()
