"""Parties in containers: ready soon, unharmed by SIGTERM whatever they do, and able to finish a run together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from deploy.images import PROGRAMS, EngineError
from protocols.learning.training import REPORT_STEPS
from tests import tables
from tests.images.containers import HOME, Containers, images, inspect, patiently
from tests.programs.federation import HUB

SILOS = tuple(tables.COLUMNS)
READY_SECONDS = 8.0
GRACE = 120  # seconds, as the charts give: a busy machine takes its time to the next place where training may end
KILLED = 137

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def containers() -> Iterator[Containers]:
    images()
    one = Containers(SILOS, "silofuse")
    for path in tables.write_silos(one.folder, rows=300).values():
        path.chmod(0o644)
    one.found()
    yield one
    one.close()


@pytest.fixture
def federation(containers: Containers) -> Iterator[Containers]:
    for name in (HUB, *SILOS):
        containers.start(name)
    yield containers
    containers.stop_all()


def processor_seconds(containers: Containers, name: str, program: str) -> float:
    """What a party's first process has computed since its start."""
    code = "print(open('/proc/1/stat').read().rpartition(')')[2])"
    fields = containers.within(name, "python3", "-c", code).split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_silo_is_ready_within_seconds_and_ends_at_once_when_idle(
    containers: Containers, figure: Callable[[str], None]
) -> None:
    containers.start(HUB)
    seconds = containers.start(SILOS[0])
    computed = processor_seconds(containers, SILOS[0], "silo-agent")
    code, ended = containers.stop(SILOS[0])
    containers.stop(HUB)
    figure(
        f"silo image: ready {seconds:.1f} s after its start, {computed:.1f} s of it computing; ends in {ended:.1f} s"
    )
    assert computed < READY_SECONDS, "what a busy machine adds to it is not the image's"
    assert code == 0
    assert ended < GRACE


def test_a_federation_of_containers_makes_a_synthetic_table_and_its_report(federation: Containers) -> None:
    run = federation.submit(tables.spec(training={"steps": 40, "batch": 64}))
    patiently("the run is done", lambda: all(federation.phase(name, run) == "done" for name in (HUB, *SILOS)))
    for silo in SILOS:
        outputs = federation.folder / silo / "outputs" / run
        assert len((outputs / "synthetic.csv").read_text().splitlines()) == 51
        assert (outputs / "report.html").stat().st_size > 10_000


def test_a_coordinator_told_to_end_in_the_middle_of_training_keeps_what_it_has(
    federation: Containers, figure: Callable[[str], None]
) -> None:
    run = federation.submit(tables.spec(training={"steps": 4000, "batch": 64, "epochs": 100_000}))

    checkpoint = federation.folder / HUB / "state" / "runs" / run / "work" / "checkpoint"
    patiently("there is a checkpoint", checkpoint.exists)
    code, seconds = federation.stop(HUB, GRACE)
    figure(f"coordinator image: ends {seconds:.1f} s after SIGTERM in the middle of training")
    assert code == 0, "it was killed" if code == KILLED else ""

    def trained() -> list[int]:
        return [line["done"] for line in federation.events(HUB, "progress") if line["phase"] == "diffusion"]

    federation.start(HUB)
    patiently("training goes on", lambda: bool(trained()))
    assert trained()[0] > REPORT_STEPS, "training began anew"
    federation.within(HUB, "coordinator", "cancel", run)
    patiently("the run has ended", lambda: federation.phase(HUB, run) == "cancelled")


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_health_check_says_whether_a_party_is_alive(containers: Containers, program: str) -> None:
    name = HUB if program == "coordinator" else SILOS[0]
    config = containers.folder / name / f"{program}.yaml"
    config.write_text(config.read_text() + "\nmonitoring: {}\n")
    facts = inspect(images()[program])
    how, *check = (facts.get("Healthcheck") or facts["Config"]["Healthcheck"])["Test"]  # podman's place, or docker's
    assert how == "CMD", "a shell would be needed"
    with pytest.raises(EngineError):  # nobody serves in this container
        containers.once(name, "alive")
    containers.start(name)
    containers.within(name, *check)  # raises if it fails
    containers.stop(name)


def test_a_container_without_its_configuration_says_so(containers: Containers) -> None:
    with pytest.raises(EngineError, match=f"there is no file {HOME}/nobody/silo-agent.yaml"):
        containers.once("nobody", "check")
