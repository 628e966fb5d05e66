"""A backup holds what must outlive a machine and no more; it comes back whole, into an empty home, or not at all."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from services.artifact import POOL, Spend
from services.backup import Manifest, backup
from services.contract import Message
from services.errors import ConfigError, StateError, TrustError
from services.keyring import KeyRing
from services.ledger import Ledger
from services.restore import restore
from services.runs import RunKeys
from services.wiring import PartyConfig
from tests.spending import DELTA, gaussian
from tests.world import HUB, World

PROGRAM = "silo-agent"


def save(world: World, name: str = "north", *, outputs: bool = False) -> Path:
    out = world.folder / f"{name}.backup"
    backup(world.parts[name].config, PROGRAM, out, outputs=outputs)
    return out


def lose(world: World, name: str = "north") -> Path:
    """The machine of a party burns down, and another takes its place; returns its old home, which nobody has."""
    world.kill(name)
    return world.home(name).rename(world.folder / f"{name}-lost")


def bring_back(world: World, saved: Path, name: str = "north") -> Manifest:
    """Restore a party onto a new machine, and start it."""
    manifest = restore(world_config(world, name), PROGRAM, saved)
    world.rings[name] = KeyRing(world.home(name))
    world.start(name)
    return manifest


def world_config(world: World, name: str = "north") -> PartyConfig:
    return world.parts[HUB].config.model_copy(
        update={"name": name, "home": world.home(name), "outputs": world.outputs(name)}
    )


def publish(world: World, run: str, step: str) -> None:
    """Spend, and let the release leave."""
    north = world.parts["north"]
    release = Spend(mechanism=gaussian(8.0).mechanism.model_dump(mode="json"), delta=DELTA)
    world.spending("north", north.state).reserve(run, step, release)
    north.courier.publish(
        run, step, Message("pool.generator", b"a generator", release), north.courier.everybody(),
        seconds=0, schema_hash=world.run("north", run).spec_hash,
    )  # fmt: skip
    north.courier.deliver()


def look_back(world: World) -> None:
    """What a service does before anything leaves or is spent."""
    north = world.parts["north"]
    north.trust.refresh()
    north.courier.look_back()


def test_a_silo_comes_back_with_its_keys_its_ledger_and_its_past(world: World, run: str) -> None:
    publish(world, run, "first")
    world.settle()
    records = Ledger(world.parts["north"].state).verify()
    saved = save(world, outputs=True)
    assert saved.stat().st_mode & 0o777 == 0o600
    lost, public = lose(world), world.rings["north"].public
    shutil.rmtree(world.outputs("north"))
    bring_back(world, saved)
    look_back(world)
    north = world.parts["north"]
    assert north.ring.public == public
    assert Ledger(north.state).verify() == records == 2
    assert north.book.get(run).phase == "done"
    assert (world.outputs("north") / run / "chorus.txt").exists()
    assert north.audit.verify() > 0
    assert {path.stat().st_mode & 0o077 for path in world.home("north").rglob("*")} == {0}
    for kept in (lost / "pool" / "own").iterdir():
        assert (world.home("north") / "pool" / "own" / kept.name).read_bytes() == kept.read_bytes()
    again = world.submit()
    world.settle()
    assert set(world.phases(again).values()) == {"done"}, "everybody goes on with it"


def test_what_a_run_s_end_destroys_is_in_no_backup_and_runs_under_way_end_with_word_to_all(
    world: World, run: str
) -> None:
    assert list((world.home("north") / "run-keys").iterdir())
    with tarfile.open(saved := save(world)) as archive:
        names = archive.getnames()
    assert not [name for name in names[:-1] if name.split("/")[1] in {"runs", "run-keys", "late", "lock"}]
    assert {"state/keys/signing.key", "state/state.sqlite", "state/trust/pinned.root.json"} <= set(names)
    assert names[-1] == "manifest.json"
    lose(world)
    bring_back(world, saved)
    assert RunKeys(world.home("north") / "run-keys").find(run) is None
    look_back(world)
    world.settle()
    assert set(world.phases(run).values()) == {"failed"}
    assert "restored from a backup" in world.run("north", run).detail
    assert not any(world.alarms(name) for name in world.parts)


def test_an_offer_that_nobody_had_read_is_fetched_again(world: World) -> None:
    world.policies["north"] = world.policies["north"].model_copy(update={"approval": "manual"})
    read = world.submit()
    world.settle()
    unread = world.submit()
    world.parties[HUB].host.work_once(world.desks[HUB])
    world.parties[HUB].exchange()
    world.parties["north"].exchange()
    assert world.parts["north"].state.rows("SELECT 1 FROM inbox WHERE state='ready'")
    saved = save(world)
    lose(world)
    bring_back(world, saved)
    world.settle()
    for one in (read, unread):
        world.silo("north").approve(one, "anna")
    world.settle()
    assert set(world.phases(read).values()) == {"done"}
    assert set(world.phases(unread).values()) == {"done"}


def test_what_was_sealed_and_had_yet_to_leave_leaves_after_all(world: World) -> None:
    world.bus.down = True
    run = world.submit()
    world.settle()
    world.bus.down = False
    saved = save(world, HUB)
    assert run in {row["run"] for row in world.parts[HUB].state.rows("SELECT run FROM outbox WHERE sent IS NULL")}
    with tarfile.open(saved) as archive:
        bodies = [name for name in archive.getnames() if name.startswith("state/outbox/")]
    assert bodies


# old copies


def test_an_old_copy_is_refused_once_anything_was_spent_since(world: World, run: str) -> None:
    saved = save(world)
    publish(world, run, "second")
    lose(world)
    bring_back(world, saved)
    with pytest.raises(StateError, match="signed and this state does not know") as caught:
        look_back(world)
    assert "restore the newest backup" in caught.value.fix


def test_a_purge_hides_nothing_of_that(world: World) -> None:
    saved = save(world)
    run = world.submit()
    while world.phases(run)["north"] != "running":
        world.turn()
    publish(world, run, "second")
    world.settle()
    world.parts["north"].purge(run)
    world.store.delete(f"testers/north/{POOL}/")  # as a withdrawal does
    lose(world)
    bring_back(world, saved)
    with pytest.raises(StateError, match="signed and this state does not know"):
        look_back(world)


def test_a_copy_from_before_the_keys_changed_is_refused(world: World) -> None:
    saved = save(world)
    world.rings["north"].draw_next()
    members = {name: ring.public for name, ring in world.rings.items()}
    world.publish_roster(members={**members, "north": world.rings["north"].next.public})  # type: ignore[union-attr]
    world.settle()
    look_back(world)
    lose(world)
    bring_back(world, saved)
    with pytest.raises(StateError, match="keys that this state does not hold"):
        look_back(world)


def test_nothing_new_is_spent_until_the_store_has_shown_that_the_state_is_the_newest(world: World, run: str) -> None:
    purse = world.parts["north"].purse
    release = Spend(mechanism=gaussian(8.0).mechanism.model_dump(mode="json"), delta=DELTA)
    purse(run, "begun before", release)
    purse.close()
    with pytest.raises(TrustError, match="nothing is spent until"):
        purse(run, "new", release)
    purse(run, "begun before", release)
    purse.open()
    purse(run, "new", release)
    assert Ledger(world.parts["north"].state).verify() == 2


# what is no backup, and what is no empty home


def rewrite(saved: Path, change: Callable[[str, bytes], bytes | None], *, before: str = "") -> None:
    """Write an archive anew, its entries as `change` leaves them, and before them one of another name."""
    with tarfile.open(saved) as archive:
        entries = [(entry.name, archive.extractfile(entry).read()) for entry in archive]  # type: ignore[union-attr]
    with tarfile.open(saved, "w") as archive:
        for name, content in [(before, b"")] * bool(before) + entries:
            if (changed := change(name, content)) is not None:
                path = saved.with_name("entry")
                path.write_bytes(changed)
                archive.add(path, name)


def without(what: str) -> Callable[[Path], None]:
    return lambda saved: rewrite(saved, lambda name, data: None if name.endswith(what) else data)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed key": (
        lambda saved: rewrite(saved, lambda name, data: data[::-1] if name.endswith("signing.key") else data),
        "signing.key is not what was saved",
    ),
    "a missing ledger": (without("state.sqlite"), "state.sqlite is not what was saved"),
    "no manifest": (without("manifest.json"), "cut short"),
    "half of it": (lambda saved: os.truncate(saved, saved.stat().st_size // 2), "cut short"),
    "no archive": (lambda saved: saved.write_text("a text"), "no archive"),
    "a format of the future": (
        lambda saved: rewrite(saved, lambda _, data: data.replace(b'"format":1', b'"format":9')),
        "this program knows format 1",
    ),
    "a way out of the home": (
        lambda saved: rewrite(saved, lambda _, data: data, before="state/../../escape"), "belongs in no home"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_no_whole_backup_is_told_and_leaves_no_trace(world: World, case: str) -> None:
    saved = save(world)
    lose(world)
    before = sorted(path.name for path in world.home("north").parent.iterdir())
    spoil, words = SPOILT[case]
    spoil(saved)
    with pytest.raises(StateError, match=words) as caught:
        restore(world_config(world), PROGRAM, saved)
    assert "nothing was unpacked" in caught.value.kept
    assert sorted(path.name for path in world.home("north").parent.iterdir()) == before


def test_a_home_that_holds_a_party_takes_no_other(world: World) -> None:
    saved = save(world)
    with pytest.raises(StateError, match="holds a party, and its service is running"):
        restore(world_config(world), PROGRAM, saved)
    world.kill("north")
    with pytest.raises(StateError, match="holds a party") as caught:
        restore(world_config(world), PROGRAM, saved)
    assert "running" not in caught.value.what
    lose_again = world.home("north").rename(world.folder / "away")
    world.home("north").mkdir()
    (world.home("north") / "repository").mkdir()
    with pytest.raises(StateError, match="holds repository"):
        restore(world_config(world), PROGRAM, saved)
    assert lose_again.exists()


def test_another_party_s_backup_is_refused(world: World) -> None:
    saved = save(world, "south")
    lose(world)
    with pytest.raises(ConfigError, match="silo-agent south in testers"):
        restore(world_config(world), PROGRAM, saved)
    assert not world.home("north").exists()


def test_a_backup_lies_where_no_other_party_reads_and_replaces_none(world: World) -> None:
    config, saved = world.parts["north"].config, save(world)
    with pytest.raises(ConfigError, match="exists already"):
        backup(config, PROGRAM, saved, outputs=False)
    with pytest.raises(ConfigError, match="in the party's home"):
        backup(config, PROGRAM, config.home / "backup", outputs=False)
    assert not list(config.home.glob(".backup-*"))
