"""Starts the coordinator's command line."""

from coordinator.cli import app
from services.command import run_cli


def main() -> None:
    """The console script."""
    run_cli(app)


if __name__ == "__main__":
    main()
