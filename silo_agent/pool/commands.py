"""The commands about the federation's pool: what is in it, what it cost whom, and what comes from it to this silo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from services.command import JsonOption, console, print_json, say
from services.control import Handler, ask
from services.errors import InvalidArtifact
from services.state import State
from services.trust.catalog import Listed
from services.wiring import Assembly
from silo_agent.pool.board import entries_text, entry_facts, entry_table, totals_text
from silo_agent.pool.index import Entry, PoolIndex, UnknownGenerator, own_copy
from silo_agent.pool.puller import Pool
from silo_agent.pool.score import score_command, scores, usable
from silo_agent.pool.shelf import Shelf
from silo_agent.settings import CONFIG_FILE, ConfigOption, SiloConfig, load, load_policy

app = typer.Typer(no_args_is_help=True, help="Browse the federation's pool of generators, and pull from it.")
_SUMMED = "listed now, or pulled here before it was withdrawn"
_DEFAULT = Path(CONFIG_FILE)
RunOption = Annotated[str | None, typer.Option("--run", help="Those of one run.")]
SiloOption = Annotated[str | None, typer.Option("--silo", help="Those of one silo.")]
IdArgument = Annotated[str, typer.Argument(help="A generator's digest, or SILO/DIGEST; a beginning is enough.")]


def handlers(parts: Assembly, settings: SiloConfig, shelf: Shelf) -> dict[str, Handler]:
    """What the running service answers to these commands."""
    pool = Pool(parts, lambda: load_policy(settings), settings.outputs, check_generator)
    return {"pool-refresh": pool.refresh, "pool-pull": pool.pull, "pool-withdraw": shelf.withdraw}


def read_generator(path: Path) -> Any:
    """A generator's file, as its protocol reads it.

    Raises:
        InvalidArtifact: it is none.
    """
    from protocols.sgde import generator  # noqa: PLC0415 - learning libraries only when there is a generator

    return generator.read(path)


def check_generator(path: Path, listed: Listed) -> None:
    """Compare a generator's file with what is listed of it.

    Raises:
        InvalidArtifact: it is no generator, or another one, or its mechanism costs more than the ceiling that it names.
    """
    from services.mechanism import Mechanism  # noqa: PLC0415 - as above

    own, about, spend = read_generator(path).description.parameters, listed.about, listed.about.spend()
    if {about.family, own.family} - {None} != {own.family} or {about.label, own.label} - {None} != {own.label}:
        raise InvalidArtifact("its family or label is not the one that the catalog lists")
    mechanism = Mechanism.model_validate(spend.mechanism)
    if spend.delta > own.delta or not mechanism.within(own.epsilon, spend.delta):
        raise InvalidArtifact(f"its mechanism costs more than the ceiling that it names, ε = {own.epsilon:g}")


@app.command("list")
def list_command(config: ConfigOption = _DEFAULT, as_json: JsonOption = False) -> None:
    """Show every generator as of the last refresh, and what each silo's cost its people together."""
    with State(load(config).home, writer=False) as state:
        index = PoolIndex(state)
        summary, entries, totals = index.summary(), index.entries(), index.totals()
    if as_json:
        print_json({
            "refreshed": summary["at"], "faults": summary["faults"],
            "generators": [entry_facts(one) for one in entries], "totals": [vars(one) for one in totals],
            "totals_of": _SUMMED,
        })  # fmt: skip
        return
    colour = console.is_terminal
    typer.echo(f"{entries_text(entries, colour=colour)}\n\n{totals_text(totals, colour=colour)}\n")
    say(f"As of {summary['at'][:19]} UTC; `pool refresh` reads it anew. Who signed a claim says it, and no more.")
    say(f"Sums are of what is {_SUMMED}: what a silo withdrew otherwise was spent too, and is not in them.")
    _tell_faults(summary["faults"])


@app.command()
def show(name: IdArgument, config: ConfigOption = _DEFAULT, as_json: JsonOption = False) -> None:
    """Show everything that is known of one generator."""
    settings = load(config)
    with State(settings.home, writer=False) as state:
        entry = PoolIndex(state).find(name)
    path = own_copy(settings.outputs, entry.listed)
    facts = {**entry_facts(entry), "file": str(path) if path.exists() else None}
    if as_json:
        print_json(facts)
    else:
        console.print(entry_table(facts))


@app.command()
def refresh(config: ConfigOption = _DEFAULT) -> None:
    """Read every member's catalog anew, and recompute what everything cost."""
    _refresh(load(config))


@app.command()
def pull(
    names: Annotated[list[str] | None, typer.Argument(help="Generators by digest or SILO/DIGEST.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that this silo's policy takes.")] = False,
    run: RunOption = None,
    silo: SiloOption = None,
    config: ConfigOption = _DEFAULT,
) -> None:
    """Fetch generators, verify them, and keep them in `outputs/pool`; the pool is read anew first."""
    settings = load(config)
    if not (names or everything or run or silo):
        raise UnknownGenerator("no generator was named", fix="name some, or give --run, --silo or --all")
    _refresh(settings)
    with State(settings.home, writer=False) as state:
        chosen = PoolIndex(state).choose(names or (), run=run, silo=silo, everything=everything)
    wanted = chosen if names else [one for one in chosen if one.state == "listed"]
    outcomes = [ask(settings.home, "pool-pull", name=one.listed.name) for one in wanted]
    for outcome in outcomes:
        say(f"{_short(outcome['name'])}  {outcome['state']}  {outcome['why']}".rstrip())
    if any(outcome["path"] for outcome in outcomes):
        say(f"What was pulled lies in {settings.outputs / 'pool'}")
    if not names:
        say(f"{len(chosen) - len(wanted)} others were pulled before or are refused: see `silo-agent pool list`.")
    if failed := [one for one in outcomes if not one["path"] or one["state"] == "refused"]:
        raise InvalidArtifact(
            f"{len(failed)} of {len(outcomes)} generators could not be pulled",
            kept="the others; of those that failed nothing was kept",
            fix="`silo-agent pool show` tells why; what is wrong in itself, its silo must publish anew",
        )


app.command("score")(score_command)


@app.command()
def withdraw(name: IdArgument, config: ConfigOption = _DEFAULT) -> None:
    """Take one of this silo's own generators out of the pool; who pulled it keeps it, and what it cost stays spent."""
    typer.echo(ask(load(config).home, "pool-withdraw", name=name))


def synthesize(  # noqa: PLR0917 - typer's options look like positional arguments
    per_class: Annotated[int, typer.Option("--per-class", min=1, help="How many rows of each class.")],
    out: Annotated[Path, typer.Option(help="The CSV or Parquet file to write.")],
    names: Annotated[
        list[str] | None, typer.Option("--id", help="A pulled generator; repeat for several. All by default.")
    ] = None,
    run: RunOption = None,
    silo: SiloOption = None,
    seed: Annotated[int | None, typer.Option(help="Makes the rows repeatable.")] = None,
    without_flagged: Annotated[
        bool, typer.Option("--without-flagged", help="Leave out what `pool score` flags by this silo's own rows.")
    ] = False,
    config: ConfigOption = _DEFAULT,
) -> None:
    """Sample rows from pulled generators, balanced over the classes; works offline."""
    settings = load(config)
    with State(settings.home, writer=False) as state:
        chosen = PoolIndex(state).choose(names or (), run=run, silo=silo, everything=not (run or silo))
    here = [one for one in chosen if usable(one)]
    _require(chosen, here, all_of_them=bool(names))
    if without_flagged:
        here = [one for one, score in scores(settings, here) if not score.flagged]
    from protocols.sgde import generator  # noqa: PLC0415 - as above

    files = [read_generator(own_copy(settings.outputs, one.listed)) for one in here]
    rows = generator.sample(files, per_class, seed)
    if out.suffix == ".csv":
        rows.to_csv(out, index=False)
    else:
        rows.to_parquet(out, index=False)
    say(f"{len(rows)} rows of {len(here)} generators are in {out}")


def _require(chosen: Sequence[Entry], here: Sequence[Entry], *, all_of_them: bool) -> None:
    absent = [one for one in chosen if one not in here]
    if not here or (all_of_them and absent):
        names = ", ".join(_short(one.listed.name) for one in absent[:5])
        raise UnknownGenerator(
            f"these generators are not here: {names}" if absent else "no generator of the pool was pulled",
            fix="`silo-agent pool pull` them first; what is refused is not sampled",
        )


def _refresh(settings: SiloConfig) -> None:
    found = ask(settings.home, "pool-refresh")
    say(f"{found['generators']} generators of {found['silos']} silos are known.")
    _tell_faults(found["faults"])


def _tell_faults(faults: dict[str, str]) -> None:
    for silo, why in faults.items():
        say(f"[yellow]{silo}'s generators are refused for now:[/] {why}")


def _short(name: str) -> str:
    silo, _, digest = name.partition("/")
    return f"{silo}/{digest[:12]}"
