"""What a party shows to Prometheus: true, documented, bounded, quick, and no word about anybody."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from services.metrics import CATALOGUE, QUARANTINE, table
from services.state import now_text
from tests import tables
from tests.watching import samples, value, watch
from tests.world import DATASET, HUB, World, permissive

SERIES = 2000
GATE_SECONDS = 0.05
DOCUMENTED = Path(__file__).parents[2] / "deploy" / "monitoring" / "METRICS.md"


def aged(world: World, runs: int, artifacts: int) -> None:
    """Give the coordinator a past."""
    state, book = world.parts[HUB].state, world.parts[HUB].book
    text, now = json.dumps(tables.spec()), world.now
    with state.transaction():
        for number in range(runs):
            run = f"old-{number}"
            book.open(run, text, HUB, now, now + timedelta(hours=1))
            book.move(run, "done", now)
            for sequence in range(1, artifacts + 1):
                state.finish(run, f"step-{sequence}", now, 1.0)
                state.write(
                    "INSERT INTO outbox VALUES (?,?,?,?,?,?,?,?,?,?)",
                    *(run, sequence, f"{number:x}", "silofuse.slice", "north", "body", 1000, b"m" * 4000),
                    *(now_text(now), now_text(now)),
                )
                state.write(
                    "INSERT INTO inbox (sender, run, sequence, digest, kind, path, state, received) "
                    "VALUES (?,?,?,?,?,?,?,?)",
                    *("north", run, sequence, f"{number:x}", "silofuse.latents", "gone", "done", now_text(now)),
                )


def test_every_metric_is_documented_and_the_document_is_current() -> None:
    assert len({entry.name for entry in CATALOGUE}) == len(CATALOGUE)
    for entry in CATALOGUE:
        assert re.fullmatch(r"silokit_[a-z_]+", entry.name)
        assert entry.meaning.endswith(".")
        assert "job" not in entry.labels
    assert table() in DOCUMENTED.read_text(), "write it anew: python -m deploy.monitoring"


def test_whatever_is_shown_is_in_the_catalogue_with_these_labels_and_its_party(world: World, run: str) -> None:
    world.settle()
    known = {entry.name: set(entry.labels) for entry in CATALOGUE}
    for name in (HUB, "north"):
        for one in samples(watch(world, name).metrics()):
            if one.name.startswith("process_"):
                continue
            base = re.sub(r"_(bucket|sum|count)$", "", one.name)
            assert set(one.labels) - {"le", "party"} == known.get(one.name, known.get(base)), one
            assert one.labels["party"] == name


def test_a_run_is_told_as_it_went_and_is_still_told_after_a_restart(world: World) -> None:
    run = world.submit()
    world.asleep.add("west")
    for _ in range(20):
        world.turn()
    before = watch(world, HUB).metrics()
    assert value(before, "silokit_runs", protocol="echo", phase="offered") == 1
    assert value(before, "silokit_contributors", state="enrolled") == 3
    assert value(before, "silokit_contributors", state="joined") == 2
    assert value(before, "silokit_awaited", silo="west") == 1
    assert value(before, "silokit_awaited", silo="north") == 0
    world.pass_time(1800)
    assert value(watch(world, HUB).metrics(), "silokit_awaited_deadline_ratio", silo="west") == pytest.approx(0.5)
    world.pass_time(-1800)
    world.asleep.clear()
    world.settle()
    for restarted in (False, True):
        if restarted:
            world.restart(HUB)
        after = watch(world, HUB).metrics()
        assert value(after, "silokit_runs", protocol="echo", phase="done") == 1
        assert value(after, "silokit_runs", protocol="echo", phase="offered") == 0
        assert value(after, "silokit_awaited", silo="west") == 0
        assert value(after, "silokit_artifacts_sent_total", kind="run.offer") == 1
        assert value(after, "silokit_artifacts_sent_bytes_total", kind="echo.chorus") > 0
        assert value(after, "silokit_artifacts_received_total", kind="echo.greeting") == 3
        assert value(after, "silokit_last_heard_timestamp_seconds", silo="west") == pytest.approx(
            world.now.timestamp(), abs=60
        )
        assert value(after, "silokit_queue_depth", queue="out") == 0
    ended = world.run(HUB, run).ended
    assert ended is not None
    assert value(after, "silokit_last_success_timestamp_seconds", what="run") == ended.timestamp()


def test_what_waits_is_counted_with_its_age_and_sent_once_it_has_left(world: World) -> None:
    hub = watch(world, HUB)
    world.submit()
    world.bus.down = True
    world.turn()
    world.pass_time(100)
    waiting = hub.metrics()
    assert value(waiting, "silokit_queue_depth", queue="out") == 1
    assert value(waiting, "silokit_queue_oldest_seconds", queue="out") == pytest.approx(100, abs=5)
    assert not [one for one in samples(waiting) if one.name == "silokit_artifacts_sent_total"]
    world.bus.down = False
    world.parties[HUB]._paces.clear()
    world.settle()
    for _ in range(2):  # what is remembered is not counted twice
        gone = hub.metrics()
        assert value(gone, "silokit_queue_depth", queue="out") == 0
        assert value(gone, "silokit_artifacts_sent_total", kind="run.offer") == 1


def test_a_private_run_is_told_by_what_it_costs_and_by_no_identifier(tmp_path: Path) -> None:
    world = World(tmp_path, protocol="sgde", tables=tables.write_shared(tmp_path))
    north = watch(world, "north")
    assert value(north.metrics(), "silokit_epsilon_spent", dataset=DATASET) == 0
    assert value(north.metrics(), "silokit_budget_used_ratio", dataset=DATASET) == 0
    run = world.hub.submit(tables.shared_spec())
    world.settle()
    paid = north.metrics()
    assert 0 < value(paid, "silokit_epsilon_spent", dataset=DATASET) < 10
    assert value(paid, "silokit_epsilon_limit", dataset=DATASET) == 10
    assert 0 < value(paid, "silokit_budget_used_ratio", dataset=DATASET, protocol="sgde") < 1
    digests = [row["digest"] for row in world.parts["north"].state.rows("SELECT digest FROM outbox")]
    assert digests
    for secret in (run, "P-000", *digests, str(tmp_path)):
        assert secret not in paid.decode()
    refused = value(paid, "silokit_budget_refusals_total", dataset=DATASET)
    world.hub.submit(tables.shared_spec(epsilon=9.0))
    world.settle()
    assert value(north.metrics(), "silokit_budget_refusals_total", dataset=DATASET) > refused
    world.policies["north"] = permissive("sgde", datasets={})
    assert not [one for one in samples(north.metrics()) if one.name.startswith("silokit_epsilon")]
    world.close()


def test_what_is_set_aside_is_counted_by_a_reason_of_the_program_s_own(world: World, run: str) -> None:
    def counted() -> dict[str, float]:
        text = watch(world, HUB).metrics()
        return {reason: value(text, "silokit_quarantined_total", reason=reason) for reason in QUARANTINE}

    before = counted()
    forged = f"testers/north/{run}/{'a' * 64}.manifest"
    world.store.objects[forged] = b"{}"
    world.asleep.update(world.silos)  # in one process, the observed metrics are everybody's
    world.settle()
    after = counted()
    assert after["unsigned"] == before["unsigned"] + 1
    assert {**after, "unsigned": 0} == {**before, "unsigned": 0}


def test_kinds_that_a_member_invents_make_no_more_series(world: World) -> None:
    state = world.parts[HUB].state
    with state.transaction():
        for number in range(500):
            state.write(
                "INSERT INTO inbox (sender, run, sequence, digest, kind, path, state, received) "
                "VALUES (?,?,?,?,?,?,?,?)",
                *("north", "r", number, "d", f"invented.{number}", "p", "done", now_text(world.now)),
            )
    found = [one for one in samples(watch(world, HUB).metrics()) if one.name == "silokit_artifacts_received_total"]
    assert len(found) <= 41
    assert sum(one.value for one in found) == 500


def test_training_is_told_while_it_goes_on(world: World, run: str) -> None:
    world.parts[HUB].book.note_progress(
        run, {"step": "fit", "phase": "diffusion", "done": 30, "total": 100, "loss": 0.5}
    )
    text = watch(world, HUB).metrics()
    labels = {"protocol": "echo", "phase": "diffusion"}
    assert value(text, "silokit_progress_steps", **labels) == 30
    assert value(text, "silokit_progress_of_steps", **labels) == 100
    assert value(text, "silokit_training_loss", **labels) == 0.5
    assert value(text, "silokit_taking_part", silo="north") == 1


def test_steps_of_this_process_are_counted_and_those_of_a_checkpoint_are_not(world: World, run: str) -> None:
    host = world.parts[HUB].host
    report = host._progress(world.run(HUB, run), None, "fit")
    labels = {"protocol": "echo", "phase": "resumed"}
    for step in (500, 520, 540):
        report("resumed", step, 1000, 0.5)
    assert value(watch(world, HUB).metrics(), "silokit_training_steps_total", **labels) == 40


def test_artifacts_whose_notices_are_lost_are_told_from_those_that_were_announced(world: World) -> None:
    def heard() -> tuple[float, float]:
        text = watch(world, HUB).metrics()
        return value(text, "silokit_heard_total", way="notice"), value(text, "silokit_heard_total", way="listing")

    before = heard()
    world.submit()
    world.settle()
    after = heard()
    assert after[0] > before[0]
    assert after[1] == before[1]
    world.bus.lose = 1.0
    world.submit()
    world.settle()
    assert heard()[0] == after[0]
    assert heard()[1] > after[1]


def test_a_party_with_a_long_past_answers_quickly_with_few_series(world: World, figure: Callable[[str], None]) -> None:
    aged(world, runs=300, artifacts=10)
    hub = watch(world, HUB)
    hub.metrics()  # reads the past, once
    seconds = []
    for _ in range(20):
        began = time.process_time()  # the machine may have other things to do
        text = hub.metrics()
        seconds.append(time.process_time() - began)
    count = len(samples(text))
    figure(f"scrape after 300 runs and 3,000 artifacts: {min(seconds) * 1000:.1f} ms, {count} series")
    assert value(text, "silokit_artifacts_sent_total", kind="silofuse.slice") == 3000
    assert min(seconds) < GATE_SECONDS
    assert count < SERIES
