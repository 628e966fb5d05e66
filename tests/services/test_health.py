"""Alive and ready: a party says no when something is amiss, in words, and yes only when it could do its part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from deploy.servers.ports import free_ports
from protocols.learning import gpu
from services import health
from services.errors import ConfigError
from services.keys import Identity
from services.monitoring import Monitor, MonitoringConfig, Waiting, monitored
from services.trust import FormerKey
from silo_agent.cli import app
from tests.watching import watch
from tests.world import World


@pytest.fixture
def ready(world: World) -> World:
    """A federation in which everybody has done what there was to do."""
    world.settle()
    return world


def trade(world: World, name: str = "north") -> None:
    """Let a party look at everything again, whatever failed a moment ago."""
    world.parties[name]._paces.clear()
    world.parties[name]._listed = 0.0
    world.parties[name].exchange()


def test_a_party_that_could_do_its_part_is_ready(ready: World) -> None:
    for name in ready.parties:
        assert watch(ready, name).lacks() == {}
        assert watch(ready, name).dead() == ""


def test_a_party_that_has_not_met_its_store_is_not_ready(world: World) -> None:
    assert watch(world, "north").lacks() == {"store": "the store has not answered yet"}


def test_servers_that_are_away_are_named_and_heal(ready: World) -> None:
    north = watch(ready, "north")
    ready.bus.down = True
    assert north.lacks() == {"broker": "the bus is down"}
    ready.store.down = True
    trade(ready)
    assert north.lacks() == {"broker": "the bus is down", "store": "the store is down"}
    assert north.dead() == "", "a restart would heal neither"
    ready.bus.down = ready.store.down = False
    trade(ready)
    assert north.lacks() == {}


def test_a_store_that_is_silent_counts_as_away_unless_a_transfer_is_under_way(ready: World) -> None:
    north, vitals = watch(ready, "north"), ready.parties["north"].vitals
    vitals._answered = dict.fromkeys(vitals._answered, time.monotonic() - 90)
    assert "has not answered for 90 seconds" in north.lacks()["store"]
    vitals.began("deliver")
    assert north.lacks() == {}


def test_an_idle_round_on_the_wire_is_no_answer_of_the_store(ready: World) -> None:
    vitals = ready.parties["north"].vitals
    vitals._answered = {}
    ready.parties["north"].exchange()  # nothing to send, nothing to accept, too early to list
    assert "not answered" in watch(ready, "north").lacks()["store"]


def test_who_is_no_member_any_more_is_not_ready(ready: World) -> None:
    ready.publish_roster(without=("north",))
    trade(ready)
    assert "no member" in watch(ready, "north").lacks()["enrolment"]
    assert watch(ready, "south").lacks() == {}


def test_who_holds_other_keys_than_the_roster_names_cannot_authenticate_and_is_not_ready(
    ready: World, tmp_path: Path
) -> None:
    members = {name: ring.public for name, ring in ready.rings.items()}
    before = members["north"].verify
    members["north"] = Identity.create(tmp_path / "another", "north").public
    former = {"north": (FormerKey(verify=before, until=ready.now),)}
    ready.publish_roster(members=members, former=former)
    trade(ready)
    assert "other keys" in watch(ready, "north").lacks()["enrolment"]


def test_stale_trust_is_not_ready(ready: World) -> None:
    ready.pass_time(3600)
    assert "the trust is stale" in watch(ready, "north").lacks()["trust"]


def test_a_full_disk_is_not_ready(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LEAST_DISK", 1 << 60)
    assert "MiB left" in watch(ready, "north").lacks()["disk"]


def test_a_loop_that_does_not_turn_is_dead_and_a_long_computation_is_not(ready: World) -> None:
    north, party = watch(ready, "north"), ready.parties["north"]
    party.vitals._under_way["work"] = time.monotonic() - 400
    assert north.dead() == "the loop has not turned for 400 seconds"
    party.host._spoke = time.monotonic() - 400
    assert north.dead() == ""
    party.host._spoke = None
    party.vitals.worked("work")
    assert north.dead() == ""


# over HTTP


@pytest.fixture
def monitor() -> Iterator[tuple[Monitor, MonitoringConfig]]:
    config = MonitoringConfig(port=free_ports(1)[0])
    with monitored(config) as one:
        yield one, config


def get(config: MonitoringConfig, path: str) -> tuple[int, str]:
    connection = HTTPConnection(config.host, config.port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_endpoints_say_what_is_asked(ready: World, monitor: tuple[Monitor, MonitoringConfig]) -> None:
    server, config = monitor
    server.show(watch(ready, "north"))
    assert get(config, "/healthz") == (200, "alive\n")
    status, text = get(config, "/readyz")
    assert (status, json.loads(text)) == (200, {"ready": True, "reasons": {}})
    status, text = get(config, "/metrics")
    assert status == 200
    assert 'silokit_ready{part="broker",party="north"} 1.0' in text
    assert get(config, "/state.sqlite")[0] == 404
    ready.bus.down = True
    status, text = get(config, "/readyz")
    assert (status, json.loads(text)["reasons"]) == (503, {"broker": "the bus is down"})
    assert 'silokit_ready{part="broker",party="north"} 0.0' in get(config, "/metrics")[1]


def test_who_waits_for_an_admission_is_alive_and_says_what_it_waits_for(
    monitor: tuple[Monitor, MonitoringConfig],
) -> None:
    server, config = monitor
    server.show(Waiting("not enrolled yet: run `silo-agent enroll`"))
    assert get(config, "/healthz")[0] == 200
    status, text = get(config, "/readyz")
    assert status == 503
    assert json.loads(text)["reasons"] == {"enrolment": "not enrolled yet: run `silo-agent enroll`"}
    assert 'silokit_ready{part="enrolment"} 0.0' in get(config, "/metrics")[1]


def test_what_cannot_be_told_ends_nothing(ready: World, monitor: tuple[Monitor, MonitoringConfig]) -> None:
    server, config = monitor
    server.show(watch(ready, "north"))
    (ready.home("north") / "state.sqlite").rename(ready.home("north") / "elsewhere")
    assert get(config, "/metrics")[0] == 500
    assert get(config, "/healthz")[0] == 200


def test_a_client_that_says_nothing_holds_up_nobody(monitor: tuple[Monitor, MonitoringConfig]) -> None:
    _, config = monitor
    silent = HTTPConnection(config.host, config.port, timeout=20)
    silent.connect()
    assert get(config, "/healthz")[0] == 200
    silent.close()


def test_no_name_server_is_asked_what_this_machine_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(_: str) -> str:
        raise AssertionError("an isolated machine would wait for the answer")

    monkeypatch.setattr("socket.getfqdn", asked)
    config = MonitoringConfig(host="0.0.0.0", port=free_ports(1)[0])
    with monitored(config):
        assert get(config, "/healthz")[0] == 200


def test_a_port_that_is_taken_is_said(monitor: tuple[Monitor, MonitoringConfig]) -> None:
    with pytest.raises(ConfigError, match="cannot be served"):
        Monitor(monitor[1])


def test_alive_asks_the_program_and_exits_as_container_engines_expect(
    monitor: tuple[Monitor, MonitoringConfig], tmp_path: Path
) -> None:
    server, monitoring = monitor
    config = tmp_path / "silo-agent.yaml"
    words = "federation: f\nname: a\nstore: {folder: store}\nbus: {sqlite: bus}\n"

    def alive(more: str) -> tuple[int, str]:
        config.write_text(words + more)
        done = CliRunner().invoke(app, ["alive", "--config", str(config)])
        return done.exit_code, done.output

    here = f"monitoring: {{host: 0.0.0.0, port: {monitoring.port}}}\n"
    assert alive(here) == (0, "alive\n")
    code, said = alive("")
    assert code == 1
    assert "no `monitoring`" in said
    server.close()
    code, said = alive(here)
    assert code == 1
    assert "nobody answers" in said


def test_the_graphics_card_is_asked_nothing_before_there_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"used": 0.0, "reserved": 0.0, "total": 0.0}
    for loaded in (None, ModuleType("torch")):  # not imported; and while another thread imports it
        monkeypatch.setitem(sys.modules, "torch", loaded)
        assert gpu.memory() == nothing


def test_a_health_check_does_not_load_the_program(monitor: tuple[Monitor, MonitoringConfig], tmp_path: Path) -> None:
    config = tmp_path / "silo-agent.yaml"
    config.write_text(f"monitoring: {{port: {monitor[1].port}}}\n")
    asked = "import sys, silo_agent.__main__ as program; sys.argv = ['silo-agent', 'alive']\n"
    asked += "try: program.main()\nfinally: print('typer' in sys.modules, 'pydantic' in sys.modules)"
    environment = {**os.environ, "SILO_AGENT_CONFIG": str(config)}
    done = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "alive\nFalse False\n"
