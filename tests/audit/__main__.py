"""Print every private path's claim beside what an attack proved, and which planted mistake is caught by what."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from tests.audit.bound import DELTA, Finding
from tests.audit.families import FAMILY_GAMES
from tests.audit.games import GAMES, many_canaries
from tests.audit.planted import PLANTED
from tests.audit.rows import PLANTED_ROWS, ROWS

CONFIDENCE = 0.99
STRUCTURAL = (
    ("BatchNorm", "clipped.check_layers: anything but linear layers and elementwise activations is refused"),
    ("a loss that mixes records", "clipped.check_rows: the loss is tried on made-up rows before data is seen"),
    (
        "a VAE beside its training",
        "test_audit: each class's own rows go through dpsgd.train under the claim",
    ),
    ("a single step not counted", "test_dpsgd: the event's count is that of the noise that was drawn"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Audit what is claimed for privacy.")
    parser.add_argument("--trials", type=int, default=4000, help="of each game and data set")
    trials = parser.parse_args().trials
    console = Console(width=120)
    paths = {"one step: 256 canaries at a time": many_canaries(20 * trials, CONFIDENCE)}
    paths |= {game.title: game.play(trials, CONFIDENCE) for game in (*GAMES, *FAMILY_GAMES, ROWS)}
    console.print(claims(paths))
    caught = {bug.title: bug.game.play(bug.trials, CONFIDENCE, bug.steps, bug.clip) for bug in PLANTED}
    caught |= {bug.title: bug.play(bug.trials, CONFIDENCE) for bug in PLANTED_ROWS}
    console.print(mistakes(caught))
    sound = not any(finding.refuted for finding in paths.values())
    console.print("No claim is refuted." if sound else "A claim is refuted; one in a hundred true ones is, by chance.")
    return 0 if sound and all(finding.refuted for finding in caught.values()) else 1


def claims(paths: dict[str, Finding]) -> Table:
    table = Table(title=f"ε at δ = {DELTA:g}: claimed, and at least, with {CONFIDENCE:.0%} confidence")
    for column in ("path", "claimed ε", "ε is at least"):
        table.add_column(column, justify="left" if column == "path" else "right")
    for title, finding in paths.items():
        table.add_row(title, f"{finding.claimed:.2f}", f"{finding.found:.2f}")
    return table


def mistakes(caught: dict[str, Finding]) -> Table:
    table = Table(title="planted mistakes")
    for column in ("mistake", "claimed ε", "ε is at least", "caught by"):
        table.add_column(column, justify="right" if "ε" in column else "left")
    for title, finding in caught.items():
        by = "the audit" if finding.refuted else "NOTHING"
        table.add_row(title, f"{finding.claimed:.2f}", f"{finding.found:.2f}", by)
    for title, check in STRUCTURAL:
        table.add_row(title, "", "", check)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
