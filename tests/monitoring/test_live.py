"""A real federation under a real Prometheus: every panel shows something, a scrape is cheap, and `ready` is true."""

from __future__ import annotations

import json
import math
import signal
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError

import pytest

from deploy.monitoring.boards import BOARDS
from deploy.monitoring.panels import Panel
from tests.monitoring.watched import SILOS, Watched
from tests.programs.federation import HUB, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PARTIES, NAMES = (HUB, *SILOS), ("coordinator", *SILOS)
SERIES, GATE_SECONDS = 2000, 0.05
PANELS = [
    pytest.param(panel, id=f"{board.name}: {panel.title}")
    for board in BOARDS
    for panels in board.rows.values()
    for panel in panels
]


def asked(expression: str) -> str:
    """An expression as Grafana would send it."""
    chosen = f"({'|'.join(NAMES)})"
    return expression.replace("$party", chosen).replace("$__rate_interval", "10s").replace("$__range", "5m")


def ready(watched: Watched, name: str) -> dict[str, str]:
    """What keeps a party from being ready, by its own word."""
    try:
        with urllib.request.urlopen(f"{watched.address(name)}/readyz", timeout=20) as answer:
            said, status = json.load(answer), answer.status
    except HTTPError as error:
        said, status = json.load(error), error.code
    assert (status == 200) is said["ready"] is (not said["reasons"])
    return dict(said["reasons"])


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_shows_something_of_a_real_run(watched: Watched, panel: Panel) -> None:
    for expression, _ in panel.queries:
        about = {"query": asked(expression), "start": watched.began, "end": time.time(), "step": 1}
        series = watched.prometheus.ask("query_range", **about)["result"]
        assert [value for one in series for _, value in one["values"] if math.isfinite(float(value))], expression


def test_every_party_can_be_chosen_where_a_dashboard_asks_for_one(watched: Watched) -> None:
    offered = {}
    for board in BOARDS:
        if board.parties is not None:
            found: list[Any] = watched.prometheus.ask("query", query=board.parties)["result"]
            offered[board.name] = {one["metric"]["party"] for one in found}
    assert offered == {"run": set(NAMES), "silo": set(SILOS), "wire": set(NAMES)}


def test_nothing_alarms_about_a_federation_that_works(watched: Watched) -> None:
    firing = watched.prometheus.ask("query", query='ALERTS{alertstate="firing"}')["result"]
    names = {one["metric"]["alertname"] for one in firing}
    assert names <= {"SilokitDisk"}, "of the machine that runs the tests, the disk alone is nobody's promise"


def test_a_scrape_is_cheap(watched: Watched, figure: Callable[[str], None]) -> None:
    found = watched.prometheus.ask("query", query='scrape_samples_scraped{job="silokit"}')["result"]
    series = [int(one["value"][1]) for one in found]
    assert max(series) < SERIES
    # the coordinator has nothing else to do now; processor time, for the machine may have
    before, began = watched.processor(HUB), time.perf_counter()
    for _ in range(50):
        with urllib.request.urlopen(f"{watched.address(HUB)}/metrics", timeout=20) as answer:
            answer.read()
    wall, cost = (time.perf_counter() - began) / 50, (watched.processor(HUB) - before) / 50
    figure(f"scrape: {cost * 1000:.0f} ms of processor, {wall * 1000:.0f} ms in all, {max(series)} series")
    assert cost < GATE_SECONDS


# what follows breaks the federation for good


def test_a_party_that_cannot_log_in_at_the_broker_is_alive_and_not_ready(watched: Watched) -> None:
    assert ready(watched, "west") == {}
    watched.stop("west", signal.SIGKILL)
    watched.servers.broker.ctl("delete_user", "west")
    watched.start("west")
    until("west says so", lambda: "west" in ready(watched, "west").get("broker", ""))
    assert watched.command("west", "alive").stdout == "alive\n"
    assert ready(watched, "north") == {}


def test_servers_that_are_away_are_named(watched: Watched) -> None:
    watched.servers.broker.kill9()
    watched.servers.objects.kill9()
    until("north misses both", lambda: {"broker", "store"} <= ready(watched, "north").keys(), 120)
    assert watched.command("north", "alive").stdout == "alive\n"
