"""The door holds: forgeries, replays and contradictions are set aside with their reason, and the queue goes on."""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.artifact import Header, NoData, Spend, canonical_json, digest
from services.bus import BusError, Notice
from services.contract import Message
from services.errors import PolicyRefusal, StateError
from services.keys import Identity
from services.mechanism import Gaussian, Mechanism
from services.seal import read_manifest, seal
from services.state import State
from tests.world import FEDERATION, HUB, World


def forge(
    world: World, run: str, *, sender: str = "north", by: Identity | None = None, to: str = HUB, put: bool = True,
    under: str | None = None, payload: bytes = b"hello from nobody\n", **changes: Any,
) -> str:  # fmt: skip
    """Publish an artifact that `sender` never sent through its courier; returns the manifest's key."""
    if by is None:
        world.parts[sender].courier.check_own_past = lambda: None  # who contradicts itself does not look back
    known = world.run(HUB, run)
    mine = world.parts[sender].state.row(
        "SELECT sequence, digest FROM outbox WHERE run=? ORDER BY sequence DESC LIMIT 1", run
    )
    header = Header(
        **{
            "federation": FEDERATION, "run": run, "sender": sender, "kind": "echo.greeting",
            "sequence": mine["sequence"] + 1 if mine else 1, "previous": mine["digest"] if mine else None,
            "created": world.now, "expires": known.deadline, "recipients": (world.rings[to].public.seal.key_id,),
            "schema_hash": known.spec_hash, "heads": {}, "release": NoData(), **changes,
        }
    )  # fmt: skip
    body = world.folder / secrets.token_hex(8)
    signer = (by or world.rings[sender]).signing
    manifest = seal(payload, header, [world.rings[to].public.seal], signer, body)
    folder = f"{FEDERATION}/{sender}/{under or run}"
    key = f"{folder}/{digest(manifest)}.manifest"
    if put:
        world.store.objects[f"{folder}/{read_manifest(manifest).body_sha256}.body"] = body.read_bytes()
        world.store.objects[key] = manifest
    return key


def finish(world: World, run: str) -> None:
    """Whatever was smuggled in, the run ends well."""
    world.settle()
    assert set(world.phases(run).values()) == {"done"}


def test_an_artifact_signed_by_a_stranger_s_key_is_refused(world: World, run: str, tmp_path: Path) -> None:
    forge(world, run, by=Identity.create(tmp_path / "mallory", "north"))
    finish(world, run)
    assert "signature" in world.quarantined(HUB)[0]


def test_an_artifact_of_somebody_who_is_not_on_the_roster_is_refused(world: World, run: str, tmp_path: Path) -> None:
    mallory = Identity.create(tmp_path / "mallory", "mallory")
    key = forge(world, run, by=mallory)
    moved = key.replace("/north/", "/mallory/")
    world.store.objects[moved] = world.store.objects.pop(key)
    finish(world, run)
    assert not world.parts[HUB].state.rows("SELECT 1 FROM arrivals WHERE object LIKE '%mallory%'")
    assert world.quarantined(HUB) == []


def test_one_member_cannot_speak_as_another(world: World, run: str) -> None:
    forge(world, run, sender="south", by=world.rings["north"])
    finish(world, run)
    assert "signature" in world.quarantined(HUB)[0]


def test_an_artifact_moved_to_another_run_s_place_is_refused(world: World, run: str) -> None:
    forge(world, run, under="other-run")
    finish(world, run)
    assert "another place" in world.quarantined(HUB)[0]


def test_a_replay_under_another_name_is_refused(world: World, run: str) -> None:
    world.settle()
    key = next(key for key in world.store.objects if "/north/" in key and key.endswith(".manifest"))
    world.store.objects[key.replace(digest(world.store.objects[key]), "0" * 64)] = world.store.objects[key]
    finish(world, run)
    assert world.quarantined(HUB) == ["the manifest is not what its name promises"]


def test_two_different_artifacts_in_one_place_of_the_chain_raise_an_alarm(world: World, run: str) -> None:
    world.settle()
    forge(world, run, sequence=1, previous=None)
    finish(world, run)
    for name in (HUB, "south", "west"):
        assert "two artifacts as number 1" in world.quarantined(name)[0]
        assert world.alarms(name) == 1


def test_an_artifact_that_does_not_continue_its_sender_s_chain_raises_an_alarm(world: World, run: str) -> None:
    forge(world, run, previous="0" * 64)
    finish(world, run)
    assert "breaks its chain" in world.quarantined(HUB)[0]
    assert world.alarms(HUB) == 1


def test_an_expired_artifact_is_refused(world: World, run: str) -> None:
    world.asleep = {"north"}
    forge(world, run, created=world.now - timedelta(hours=3), expires=world.now - timedelta(hours=2))
    world.settle()
    assert "which is not now" in world.quarantined(HUB)[0]


def test_an_artifact_from_the_future_is_refused(world: World, run: str) -> None:
    world.asleep = {"north"}
    forge(world, run, created=world.now + timedelta(hours=2), expires=world.now + timedelta(hours=3))
    world.settle()
    assert "which is not now" in world.quarantined(HUB)[0]


def test_an_artifact_made_for_another_specification_is_refused(world: World, run: str) -> None:
    world.asleep = {"north"}
    forge(world, run, schema_hash="0" * 64)
    world.settle()
    assert "another run specification" in world.quarantined(HUB)[0]


def test_what_is_sealed_to_others_is_passed_over_and_fills_the_chain(world: World, run: str) -> None:
    world.asleep = {"west"}
    world.settle()
    forge(world, run, to="west")
    world.settle()
    skipped = world.parts[HUB].state.rows("SELECT 1 FROM inbox WHERE sender='north' AND state='skipped'")
    assert len(skipped) == 1
    assert world.quarantined(HUB) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nonsense",
        "../../etc/passwd",
        f"{FEDERATION}/north",
        "elsewhere/north/r/" + "0" * 64 + ".manifest",
        "x" * 9999,
    ],
)
def test_a_forged_notice_never_wedges_a_party(world: World, run: str, name: str) -> None:
    world.bus.queues[HUB].insert(0, Notice(name, "forged"))
    finish(world, run)
    assert world.quarantined(HUB) == []


def test_a_notice_of_something_that_is_not_there_is_let_go(world: World, run: str) -> None:
    world.bus.queues[HUB].insert(0, Notice(f"{FEDERATION}/north/{run}/" + "0" * 64 + ".manifest", "early"))
    finish(world, run)
    assert world.quarantined(HUB) == []


@pytest.mark.parametrize("part", ["manifest", "body"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 0.999])
def test_a_flipped_bit_is_refused_and_the_true_artifact_still_counts(
    world: World, run: str, part: str, place: float
) -> None:
    while not (keys := [k for k in world.store.objects if f"/north/{run}/" in k and k.endswith(part)][2:]):
        world.turn()
    key = keys[0]
    true = world.store.objects[key]
    at = int(place * len(true))
    world.store.objects[key] = true[:at] + bytes([true[at] ^ 1]) + true[at + 1 :]
    world.turn()
    world.store.objects[key] = true
    world.settle()
    assert set(world.phases(run).values()) <= {"done", "running"}
    assert len(world.quarantined(HUB)) <= 1


def test_a_flood_behind_a_small_manifest_is_cut_off(world: World, run: str) -> None:
    world.asleep = {"north"}
    key = forge(world, run)
    body = key.replace(key.rpartition("/")[2], read_manifest(world.store.objects[key]).body_sha256 + ".body")
    world.store.objects[body] += b"x" * (4 << 20)
    world.settle()
    assert "larger than" in world.quarantined(HUB)[0]


def test_a_spend_that_the_ledger_has_not_reserved_does_not_leave(world: World, run: str) -> None:
    north = world.parts["north"]
    mechanism = Mechanism(event=Gaussian(noise_multiplier=3)).model_dump(mode="json")
    message = Message("pool.generator", b"x", Spend(mechanism=mechanism, delta=1e-6))
    with pytest.raises(PolicyRefusal, match="reserv"):
        north.courier.publish(run, "spend", message, north.courier.everybody(), seconds=0, schema_hash="0" * 64)
    assert not north.state.finished(run, "spend")
    assert not north.state.rows("SELECT 1 FROM outbox WHERE run='pool'")


def test_a_state_that_is_behind_what_it_published_is_refused(world: World, run: str) -> None:
    world.settle()
    world.parts["north"].courier.check_own_past()
    world.parts["north"].state.write("DELETE FROM outbox WHERE sequence=2")
    with pytest.raises(StateError, match="does not know"):
        world.parts["north"].courier.check_own_past()


def test_strangers_litter_under_our_prefix_does_not_stop_us(world: World, run: str) -> None:
    world.store.objects[litter := f"{FEDERATION}/north/{run}/" + "0" * 64 + ".manifest"] = b"litter"
    for _ in range(2):
        world.parts["north"].courier.check_own_past()
    assert world.store.gets.count(litter) == 1, "it is read once"


def test_two_agents_with_one_identity_are_refused(world: World) -> None:
    with pytest.raises(StateError, match="another process"):
        State(world.folder / "north" / "state")


def test_outages_of_store_and_bus_only_delay(world: World) -> None:
    run = world.submit()
    world.store.down = world.bus.down = True
    for _ in range(5):
        world.turn()
    world.store.down = False
    for _ in range(5):
        world.turn()
    world.bus.down = False
    for party in world.parties.values():
        party._paces.clear()
    finish(world, run)


def test_a_body_travels_once_however_often_its_notice_is_tried(world: World, run: str) -> None:
    world.settle()
    world.bus.down = True
    real, put = world.store.put, []

    def watched(key: str, source: Any) -> bool:
        put.append(key)
        done: bool = real(key, source)
        return done

    world.store.put = watched
    north = world.parts["north"]
    north.courier.outgoing._guard = lambda *_: ""
    north.courier.send(
        run, "late", Message("product.table", b"rows", NoData()), {HUB: world.rings[HUB].public.seal},
        expires=world.run(HUB, run).deadline, schema_hash=world.run(HUB, run).spec_hash,
    )  # fmt: skip
    for _ in range(3):
        with pytest.raises(BusError):
            north.courier.deliver()
    world.bus.down = False
    assert north.courier.deliver() == 1
    assert len([key for key in put if key.endswith(".body")]) == 1


def test_one_party_that_the_bus_cannot_reach_holds_nobody_else_up(
    world: World, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = world.bus.send

    def unroutable(recipient: str, notice: Notice) -> None:
        if recipient == "west":
            raise BusError("west has no queue")
        send(recipient, notice)

    monkeypatch.setattr(world.bus, "send", unroutable)
    finish(world, run)  # west finds everything by listing
    assert world.run("west", run).phase == "done"


def test_an_expired_roster_stops_acceptance_and_a_new_one_heals_it(world: World) -> None:
    world.publish_roster(days=0.01)
    for parts in world.parts.values():
        parts.trust.refresh()
    run = world.hub.submit(world.spec(deadline="3h"))
    world.pass_time(3600)
    world.settle()
    assert world.phases(run)["north"] == "unknown"
    world.publish_roster()
    for party in world.parties.values():
        party.look_again()
        party._paces.clear()
    finish(world, run)


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'.encode()
