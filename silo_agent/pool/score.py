"""What this silo's own rows say of pulled generators before anybody trains on them: looked at here, told to nobody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from services.command import JsonOption, console, print_json, say
from services.errors import ConfigError
from services.state import State
from silo_agent.pool.index import Entry, PoolIndex, UnknownGenerator, own_copy
from silo_agent.settings import CONFIG_FILE, ConfigOption, SiloConfig, load

if TYPE_CHECKING:
    from protocols.sgde.generator import Generator
    from protocols.sgde.score import Score

_DEFAULT = Path(CONFIG_FILE)
_HEADINGS = ("told apart", "labels by own rows", "own labels by it", "labels by the others")
Scored = list[tuple[Entry, "Score"]]


def score_command(
    run: Annotated[str | None, typer.Option(help="Only the generators of this run.")] = None,
    config: ConfigOption = _DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Score pulled generators by this silo's own rows, before training on them: nothing of it leaves this machine."""
    settings = load(config)
    with State(settings.home, writer=False) as state:
        chosen = [one for one in PoolIndex(state).choose(run=run, everything=run is None) if usable(one)]
    if not chosen:
        raise UnknownGenerator("no generator of the pool was pulled", fix="`silo-agent pool pull --all` first")
    scored = scores(settings, chosen)
    if as_json:
        print_json([_facts(entry, score) for entry, score in scored])
        return
    console.print(_table(scored))
    flagged = sum(score.flagged for _, score in scored)
    say(
        f"{flagged} of {len(scored)} are flagged: their labels contradict this silo's rows and the other generators. "
        "1 is full agreement, 0 chance. A backdoor, or a majority that lies together, is not found this way."
    )


def usable(entry: Entry) -> bool:
    """Whether a generator was pulled and may be sampled from."""
    return entry.state in {"pulled", "withdrawn"}


def scores(settings: SiloConfig, entries: Sequence[Entry]) -> Scored:
    """Score generators by the silo's table, those of one schema against each other; in the order of the entries.

    Raises:
        ConfigError: the configuration names no table.
        DataError: the table does not fit the schema of a generator.
    """
    from protocols.learning.table import conform, read_table  # noqa: PLC0415 - learning libraries only when scoring
    from protocols.sgde.score import score  # noqa: PLC0415

    if settings.data is None:
        raise ConfigError("the configuration names no table to score by", fix="set `data` to a CSV or Parquet file")
    found: dict[str, Score] = {}
    for pool in _alike(settings, entries):
        columns = next(iter(pool.values())).description.columns
        own = conform(read_table(settings.data, columns, None)[1], columns)
        found |= score(own, pool)
    return [(entry, found[entry.listed.name]) for entry in entries]


def _alike(settings: SiloConfig, entries: Sequence[Entry]) -> Iterator[dict[str, Generator]]:
    """Generators by name, those under the same schema and label together."""
    from protocols.sgde.generator import read  # noqa: PLC0415 - as above

    groups: dict[str, dict[str, Generator]] = {}
    for entry in entries:
        generator = read(own_copy(settings.outputs, entry.listed))
        about = generator.description
        schema = f"{about.parameters.label} {about.model_dump_json(include={'columns'})}"
        groups.setdefault(schema, {})[entry.listed.name] = generator
    yield from groups.values()


def _facts(entry: Entry, score: Score) -> dict[str, Any]:
    return {
        "silo": entry.listed.silo, "id": entry.listed.digest, **vars(score),
        "agreement": score.agreement, "flagged": score.flagged,
    }  # fmt: skip


def _table(scored: Scored) -> Table:
    table = Table(box=None, header_style="bold")
    for heading in ("silo", "generator"):
        table.add_column(heading, no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    table.add_column("")
    for entry, score in scored:
        values = (score.two_sample, score.by_own, score.of_own, score.by_pool)
        shown = ["-" if value is None else f"{value:.2f}" for value in values]
        verdict = "[red]flagged[/]" if score.flagged else "[green]ok[/]"
        table.add_row(entry.listed.silo, entry.listed.digest[:12], *shown, verdict)
    return table
