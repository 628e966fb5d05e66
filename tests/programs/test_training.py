"""Long training and kill -9: what was sealed is never trained again, what was under way goes on from its checkpoint."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator

import pytest
from safetensors.numpy import load_file

from tests import tables
from tests.programs.federation import HUB, Federation, temporary, until

SILOS = tuple(tables.COLUMNS)


@pytest.fixture
def federation() -> Iterator[Federation]:
    with temporary(silos=SILOS, protocol="silofuse") as one:
        one.tables = tables.write_silos(one.folder, rows=300)
        one.found()
        for name in (HUB, *SILOS):
            one.start(name)
        yield one


def progress(federation: Federation, phase: str) -> list[int]:
    return [line["done"] for line in federation.events(HUB, "progress") if line["phase"] == phase]


def finish(federation: Federation, run: str) -> None:
    everybody = (HUB, *SILOS)
    until("the run is done", lambda: all(federation.phase(name, run) == "done" for name in everybody), 400)


@pytest.mark.slow
def test_a_coordinator_killed_in_the_middle_of_the_diffusion_goes_on_from_its_checkpoint(
    federation: Federation,
) -> None:
    federation.stop(HUB)
    federation.start(HUB, fault="protocols.learning.training:CHECKPOINT_SECONDS:number:0")  # one at every report
    run = federation.submit(tables.spec(training={"steps": 200, "batch": 64, "epochs": 100_000}))
    checkpoint = federation.folder / HUB / "state" / "runs" / run / "work" / "checkpoint"
    until("there is a checkpoint", checkpoint.exists, 120)
    assert federation.stop(HUB, signal.SIGKILL) == -signal.SIGKILL
    before = progress(federation, "diffusion")
    kept = int(load_file(checkpoint)["done"])
    assert kept < 200
    federation.start(HUB)
    finish(federation, run)
    again = progress(federation, "diffusion")[len(before) :]
    assert again[0] > kept, "training began anew"
    assert again[-1] == 200


def test_a_silo_killed_after_sealing_its_codes_fits_no_second_autoencoder(federation: Federation) -> None:
    federation.stop("south")
    federation.start("south", fault="services.courier.outgoing:Outgoing.send:after:3")  # join, pseudonyms, codes
    run = federation.submit(tables.spec(training={"steps": 20, "batch": 32}))
    process = federation.processes["south"]
    until("south dies", lambda: process.poll() is not None, 120)
    state = federation.folder / "south" / "state"
    autoencoder = state / "runs" / run / "work" / "autoencoder.safetensors"
    before = autoencoder.stat().st_mtime_ns
    with sqlite3.connect(state / "state.sqlite") as db:
        (sealed,) = db.execute("SELECT digest FROM outbox WHERE kind='silofuse.latents'").fetchall()
    federation.stop("south")
    federation.start("south")
    until("south goes on", lambda: bool(federation.events("south", "sent")))
    if autoencoder.exists():
        assert autoencoder.stat().st_mtime_ns == before
    finish(federation, run)
    with sqlite3.connect(state / "state.sqlite") as db:
        assert db.execute("SELECT digest FROM outbox WHERE kind='silofuse.latents'").fetchall() == [sealed]
    assert [line["step"] for line in federation.events("south", "work")].count("latents") == 1
