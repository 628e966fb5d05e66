"""What `check` looks at in every party: keys, store, bus and roster, and the network between, if asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from services.errors import CONSORTIUM, MACHINE, StateError, TrustError
from services.expiry import warnings
from services.files import TEMPORARY
from services.health import LEAST_DISK
from services.preflight import measure_store, walk_to_broker, walk_to_store
from services.report import Caution, Report
from services.trust.root import pinned
from services.trust.tuf import TufTrust
from services.wiring import PartyConfig, examine_store, load_keys, open_bus, open_store, trust_folder, wall_clock

BUS_SECONDS = 15.0
"""How long `check` waits for a broker to answer."""


Config = TypeVar("Config", bound=PartyConfig)


def read_configuration(report: Report, read: Callable[[], Config], path: Path) -> Config | None:
    """The configuration, where it can be read; without it nothing else can be looked at."""
    found: list[Config] = []

    def look() -> str:
        found.append(read())
        return str(path)

    return found[0] if report.look("configuration", look) else None


def check_home(report: Report, config: PartyConfig) -> bool:
    """Look at the private folder, without which nothing can be done; returns whether it can be written."""
    return report.look("home", lambda: _home(config.home))


def check_party(report: Report, config: PartyConfig, *, network: bool) -> None:
    """Look at keys, store, bus and roster; with `network`, at every step on the way to store and bus too."""
    enrolled = report.look("keys", lambda: f"fingerprint {load_keys(config).public.fingerprint()}")
    way = not network or walk_to_store(report, config)
    stored = report.look("store", lambda: _store(config), after=enrolled and way)
    if network:
        measure_store(report, config, after=stored)
    way = not network or walk_to_broker(report, config)
    report.look("bus", lambda: _bus(config), after=enrolled and way)
    report.look("roster", lambda: _roster(config), after=stored)


def _home(home: Path) -> str:
    there = next(folder for folder in (home, *home.parents) if os.access(folder, os.F_OK))
    free = shutil.disk_usage(there).free
    if free < LEAST_DISK:
        raise Caution(f"{there} has {free >> 20} MiB left: work and sending wait", fix="make room")
    try:
        with tempfile.TemporaryFile(dir=there):
            return f"{home}, {free / (1 << 30):.1f} GiB free"
    except OSError as error:
        raise StateError(
            f"{there} cannot be written by user {os.getuid()} of group {os.getgid()}: {error.strerror}",
            fix="make the folder, or the volume that is mounted there, this user's own",
            who=MACHINE,
        ) from error


def _store(config: PartyConfig) -> str:
    store = open_store(config.store)
    lacks = examine_store(config, store)
    count = sum(1 for _ in store.list(f"{config.federation}/"))
    return "; ".join([f"{count} objects of {config.federation}", *lacks])


def _bus(config: PartyConfig) -> str:
    bus = open_bus(config)
    try:
        bus.wait_ready(BUS_SECONDS)
        return f"{len(bus.consume())} notices wait"
    finally:
        bus.close()


def _roster(config: PartyConfig) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        # a copy, so that a running agent is not disturbed, and what it has seen before is not forgotten
        pinned(trust_folder(config))
        unfinished = shutil.ignore_patterns(f"{TEMPORARY}*", "tmp*")  # what it writes at this moment
        folder = Path(shutil.copytree(trust_folder(config), Path(scratch) / "trust", symlinks=True, ignore=unfinished))
        belief = TufTrust(config.federation, folder, open_store(config.store), wall_clock).look()
    ring = load_keys(config)
    named = belief.roster.members.get(config.name)
    if named != ring.public and not (ring.next and named == ring.next.public):
        raise TrustError(
            f"the roster (version {belief.version}) has no {config.name} with these keys",
            fix="send the enrolment request to the consortium, or ask whether its keyholders have signed",
            who=CONSORTIUM,
        )
    what = f"version {belief.version}, {len(belief.roster.members)} members, until {belief.expires:%Y-%m-%d}"
    if soon := warnings(belief, config.home, wall_clock()):
        raise Caution("\n".join([what, *soon]))
    return what
