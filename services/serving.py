"""A service's life: it waits for what it cannot be without, serves, and ends in order.

What a person or a server has yet to bring is no reason to end: the service says what it waits for, once, looks again
every second, and goes on by itself. What a person must correct (a configuration, a damaged key) ends it at once.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from services import log
from services.bus import BusError
from services.command import LogForm
from services.control import ControlServer, Handler
from services.errors import NotYet, StoreError
from services.monitoring import Monitor, Shown, Waiting, monitored
from services.party import Party
from services.wiring import PartyConfig

LOOK_AGAIN = 1.0  # seconds
_log = structlog.get_logger()


@dataclass(frozen=True)
class Opened:
    """A party that can serve, what its control socket answers, and what its monitor shows."""

    party: Party
    handlers: Mapping[str, Handler]
    shown: Shown


def serve(config: PartyConfig, opens: Callable[[], Opened], form: LogForm, *, until_idle: float | None = None) -> None:
    """Serve until SIGTERM or SIGINT; training unwinds to its last checkpoint.

    Args:
        config: the party's.
        opens: puts the party together; called again while somebody has yet to bring what it needs.
        form: how to write the log.
        until_idle: see `Party.run`.

    Raises:
        ConfigError: the address for monitoring cannot be had.
        StateError: another process is this party, or the state is behind what it published.
        StoreRefused: the store cannot be trusted with the federation.
        SilokitError: whatever else a person must correct first.
    """
    text = form is LogForm.TEXT or (form is LogForm.AUTO and sys.stderr.isatty())
    log.configure("text" if text else "json", recent=config.home)
    stop = threading.Event()
    _at_signals(stop.set)
    with monitored(config.monitoring) as monitor:
        opened = _wait_for(opens, stop, monitor)
        if opened is not None:
            _at_signals(opened.party.stop)
            if stop.is_set():  # the signal came between the two
                opened.party.stop()
            monitor.show(opened.shown)
            _serve(opened, until_idle)
    _log.info("stopped")


def _serve(opened: Opened, until_idle: float | None) -> None:
    party = opened.party
    control = ControlServer(party.state.folder, opened.handlers)
    try:
        party.run(until_idle=until_idle)
    finally:
        control.close()
        party.courier.close()
        party.state.close()


def _wait_for(opens: Callable[[], Opened], stop: threading.Event, monitor: Monitor) -> Opened | None:
    said = ""
    while not stop.is_set():
        try:
            return opens()
        except (NotYet, StoreError, BusError) as error:
            monitor.show(Waiting(f"{error.what}: {error.fix}" if error.fix else error.what, _part(error)))
            if error.what != said:
                said = error.what
                _log.warning("waits", task="start", reason=error.what, next=error.fix)
        stop.wait(LOOK_AGAIN)
    return None


def _part(error: Exception) -> str:
    return "store" if isinstance(error, StoreError) else "broker" if isinstance(error, BusError) else "enrolment"


def _at_signals(act: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: act())
