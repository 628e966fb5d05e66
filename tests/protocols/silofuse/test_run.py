"""What a run of SiloFuse promises beyond what every protocol does: one upload, a true alignment, and codes checked."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save

from protocols.learning.layout import Book
from protocols.learning.schema import Columns
from protocols.silofuse import UNPROTECTED, forms
from protocols.silofuse.coordinator import Coordinator
from protocols.silofuse.silo import Silo
from services.contract import Context, Message, ProgressCallback, Received
from services.errors import InvalidArtifact
from tests import tables
from tests.world import HUB, World, permissive

TINY = {"steps": 20, "batch": 32}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # reports take seconds each and have their own tests
    monkeypatch.setattr("protocols.silofuse.report.available", lambda: False)
    world = World(tmp_path, protocol="silofuse", tables=tables.write_silos(tmp_path, rows=1000))
    yield world
    world.close()


def finish(world: World, **training: int | str) -> str:
    run = world.hub.submit(tables.spec(training={**TINY, **training}))
    world.settle()
    return run


def sent(world: World, party: str, run: str, kind: str) -> list[int]:
    rows = world.parts[party].state.rows("SELECT bytes FROM outbox WHERE run=? AND kind=?", run, kind)
    return [row["bytes"] for row in rows]


def parts_of(world: World, silo: str, run: str) -> pd.DataFrame:
    return pd.read_csv(world.outputs(silo) / run / "rows.csv")


@pytest.mark.parametrize("steps", [5, 40])
def test_each_silo_uploads_its_codes_once_and_downloads_once_however_long_the_training(
    world: World, steps: int
) -> None:
    run = finish(world, steps=steps)
    assert set(world.phases(run).values()) == {"done"}
    downloads = sent(world, HUB, run, "silofuse.slice")
    for silo, download in zip(world.silos, downloads, strict=True):
        rows = int((parts_of(world, silo, run)["part"] == "training").sum())
        width = download // (50 * 4)  # the slice has the codes' width and 50 rows
        (upload,) = sent(world, silo, run, "silofuse.latents")
        assert upload == pytest.approx(rows * width * 4, rel=0.05)


@pytest.mark.parametrize("form", ["paper", "layout"])
def test_every_form_ends_with_synthetic_columns_at_every_silo(
    world: World, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocols.silofuse.learned.STEPS", 50)
    run = finish(world, form=form)
    assert set(world.phases(run).values()) == {"done"}
    for silo in world.silos:
        assert list(pd.read_csv(world.outputs(silo) / run / "synthetic.csv")) == list(tables.COLUMNS[silo])
        assert len(sent(world, silo, run, "silofuse.layout")) == (form == "layout")


def test_a_silo_that_does_not_allow_a_known_layout_declines_such_a_run_and_no_other(world: World) -> None:
    allowed = {kind: words for kind, words in UNPROTECTED.items() if kind != "silofuse.layout"}
    world.policies["south"] = permissive("silofuse", unprotected=allowed)
    run = finish(world, form="layout")
    assert world.run("south", run).phase == "declined"
    assert "silofuse.layout" in world.run("south", run).detail
    assert sent(world, "south", run, "silofuse.latents") == []
    assert set(world.phases(finish(world)).values()) == {"done"}


def test_all_silos_train_on_the_same_people_in_the_same_order_and_hold_the_same_ones_out(world: World) -> None:
    run = finish(world)
    north, south, west = (parts_of(world, silo, run) for silo in world.silos)
    pd.testing.assert_frame_equal(north, south)
    pd.testing.assert_frame_equal(north, west)
    ids = [set(pd.read_csv(path)["person"].str.lower()) for path in world.tables.values()]
    assert set(north["person"]) == set.intersection(*ids)
    assert (north["part"] == "held out").mean() == pytest.approx(0.2, abs=0.01)


def test_two_runs_over_the_same_people_share_no_pseudonym(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[frozenset[bytes]] = []
    make = Silo._pseudonyms

    def listen(silo: Silo, progress: ProgressCallback) -> Message:
        message = make(silo, progress)
        assert isinstance(message.payload, bytes)
        seen.append(frozenset(message.payload[i : i + 32] for i in range(0, len(message.payload), 32)))
        return message

    monkeypatch.setattr(Silo, "_pseudonyms", listen)
    finish(world)
    finish(world)
    first, second = seen[:3], seen[3:]
    assert len(first[0] & first[1]) > 900
    assert not set().union(*first) & set().union(*second)


def test_a_secret_of_a_wrong_length_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silos = ("north", "south", "west")
    half = Silo(
        Context(run="r", spec=tables.spec(), me="south", coordinator=HUB, silos=silos, workspace=tmp_path / "work")
    )
    long = tmp_path / "secret"
    with long.open("wb") as file:
        file.truncate(4 << 30)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("gigabytes were read"))
    with pytest.raises(InvalidArtifact, match="wrong length"):
        list(half.receive(Received(sender="north", kind="align.secret", path=long, digest="0" * 64)))


def test_below_a_policy_s_least_common_set_no_code_leaves_and_the_reason_stays_inside(world: World) -> None:
    for silo in world.silos:
        world.policies[silo] = permissive("silofuse", minimum_rows=900)
    run = finish(world)
    assert set(world.phases(run).values()) == {"failed"}
    for silo in world.silos:
        assert "this silo's policy wants at least 900" in world.run(silo, run).detail
        assert sent(world, silo, run, "silofuse.latents") == []
    assert "900" not in world.run(HUB, run).detail


def encoded(change: str, path: Path, rows: int) -> None:
    latents = np.zeros((rows, 4), np.float32)
    if change == "NaN":
        latents[3, 1] = np.nan
    elif change == "a row too few":
        latents = latents[1:]
    elif change == "float64":
        latents = latents.astype(np.float64)
    path.write_bytes(save({"latents": latents}))
    if change == "pickle":
        path.write_bytes(pickle.dumps(latents))
    elif change == "truncated":
        path.write_bytes(path.read_bytes()[:-7])


BAD = ["NaN", "a row too few", "float64", "pickle", "truncated"]


@pytest.mark.parametrize("change", BAD)
def test_codes_that_are_not_what_was_declared_are_set_aside_and_their_sender_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    encode = Silo._encode

    def spoil(silo: Silo, progress: ProgressCallback) -> Message:
        message = encode(silo, progress)
        if silo._context.me == "south":
            assert isinstance(message.payload, Path)
            encoded(change, message.payload, len(silo._common(held_out=False)))
        return message

    monkeypatch.setattr(Silo, "_encode", spoil)
    run = finish(world)
    assert len(world.quarantined(HUB)) == 1
    assert world.run(HUB, run).phase == "running"  # the queue went on; only south's codes are missing
    world.pass_time(3700)
    world.settle()
    assert set(world.phases(run).values()) == {"failed"}
    assert "south still awaited for their codes" in world.run(HUB, run).detail
    assert not any((world.outputs(silo) / run).exists() for silo in world.silos)


def test_a_silo_whose_layout_alone_is_missing_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, columns: Columns) -> list[Book]:
        if list(columns) == list(tables.COLUMNS["south"]):
            raise InvalidArtifact("not a layout of these columns")
        return forms.read_layout(path, columns)

    monkeypatch.setattr("protocols.silofuse.coordinator.read_layout", refuse)
    run = finish(world, form="layout")
    world.pass_time(3700)
    world.settle()
    assert "south still awaited for their layouts" in world.run(HUB, run).detail


@pytest.mark.parametrize("change", BAD)
def test_a_slice_that_is_not_what_was_declared_is_set_aside_and_nothing_is_decoded(
    world: World, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    sample = Coordinator._sample

    def spoil(hub: Coordinator, progress: ProgressCallback) -> None:
        sample(hub, progress)
        encoded(change, hub._slice("south"), 50)

    monkeypatch.setattr(Coordinator, "_sample", spoil)
    run = finish(world)
    assert len(world.quarantined("south")) == 1
    assert not (world.outputs("south") / run).exists()
    assert world.run("north", run).phase == "done"
    world.pass_time(3700)
    world.settle()
    assert world.run("south", run).phase == "failed"
    assert "awaited for the synthetic codes" in world.run("south", run).detail


@pytest.mark.parametrize("fault", ["doubled", "missing"])
def test_identifiers_that_cannot_align_end_the_run_with_counts_and_never_rows(world: World, fault: str) -> None:
    path = world.tables["west"]
    table = pd.read_csv(path)
    if fault == "doubled":
        table.loc[[3, 4], "person"] = table.loc[0, "person"]
    else:
        table.loc[[3, 4, 5], "person"] = None
    table.to_csv(path, index=False)
    run = finish(world)
    detail = world.run("west", run).detail
    assert "3" in detail
    assert "P-" not in detail
    assert world.run(HUB, run).detail == "west could not go on"


def test_a_training_that_diverges_ends_the_run_and_blames_no_silo(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object) -> Iterator[np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
        yield np.full((50, 64), np.nan, np.float32)

    monkeypatch.setattr("protocols.learning.diffusion.Diffusion.chunks", diverge)
    run = finish(world)
    assert set(world.phases(run).values()) == {"failed"}
    assert "training diverged" in world.run(HUB, run).detail
    assert world.quarantined(HUB) == []
