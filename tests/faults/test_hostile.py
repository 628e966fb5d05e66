"""Hostile payloads at a party's door: refused in a second and 64 MiB, set aside with a reason, the queue goes on.

What the readers make of such bytes, one by one, is in `tests/services/test_seal.py` and in
`tests/protocols/learning/test_tensors.py`; here they come as they would, through store and bus.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from protocols.silofuse.silo import Silo
from services.artifact import digest
from services.bus import Notice
from services.chunks import CHUNK, TAG
from services.contract import Message, ProgressCallback
from services.seal import read_manifest
from tests import tables
from tests.faults.measure import measured
from tests.protocols.learning.test_tensors import entry, raw
from tests.services.test_courier import forge
from tests.services.test_seal import HOSTILE
from tests.world import FEDERATION, HUB, World

SEALED = CHUNK + TAG


@pytest.fixture
def run(world: World, run: str) -> str:
    """A run in which everybody has joined and the silos' greetings are yet to come; north is the traitor."""
    world.asleep = {*world.silos}
    world.settle()
    return run


def at_the_door(world: World, run: str, key: str) -> str:
    """Tell the coordinator of an object; returns why it was set aside, within its cost, and that the queue goes on."""
    world.bus.send(HUB, Notice(key))
    with measured() as cost:
        world.parties[HUB].exchange()
    assert cost.bearable, cost
    (reason,) = world.quarantined(HUB)
    assert not list((world.folder / HUB / "state").glob("*.incoming"))
    world.asleep = {"north"}
    world.settle()
    greeted = world.parts[HUB].state.rows("SELECT sender FROM inbox WHERE kind='echo.greeting' AND state='done'")
    assert {row["sender"] for row in greeted} == {"south", "west"}
    return reason


# manifests


def publish(world: World, run: str, manifest: bytes) -> str:
    key = f"{FEDERATION}/north/{run}/{digest(manifest)}.manifest"
    world.store.objects[key] = manifest
    return key


TWICE = b'{"payload":"","payload":"","payloadType":"","signatures":[]}'
MANIFESTS: dict[str, Callable[[], bytes]] = {
    **HOSTILE,
    "deep JSON": lambda: b'{"a":' * 100_000 + b"0" + b"}" * 100_000,
    "a key twice": lambda: TWICE,
    "NaN": lambda: TWICE.replace(b'"payload":"",', b'"payload":NaN,', 1),
    "a pickle": lambda: pickle.dumps(["anything"]),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_hostile_manifest_is_set_aside(world: World, run: str, name: str) -> None:
    assert len(at_the_door(world, run, publish(world, run, MANIFESTS[name]()))) < 300


def test_no_byte_of_a_manifest_can_be_flipped_on_its_way(world: World, run: str) -> None:
    parts = world.parts[HUB]
    parts.state._db.execute("PRAGMA synchronous=OFF")  # thousands of refusals, and nothing that must outlive the test
    manifest = world.store.objects.pop(forge(world, run))
    chance = random.Random(1)
    flipped = set()
    for place in range(len(manifest)):
        bent = bytearray(manifest)
        bent[place] ^= 1 << chance.randrange(8)
        flipped.add(publish(world, run, bytes(bent)))
    waiting = "SELECT 1 FROM arrivals WHERE outcome IS NULL"
    while parts.courier.reconcile() or parts.state.rows(waiting):  # a listing takes a thousand of a sender's names
        world.pass_time(1)
        while parts.state.rows(waiting):
            with measured() as cost:
                parts.courier.accept()
            assert cost.bearable, cost  # a hundred of them
    rows = parts.state.rows("SELECT object FROM quarantine")
    assert {row["object"] for row in rows} == flipped
    assert len(flipped) == len(manifest)


# bodies


def flip(seed: int) -> Callable[[bytes], bytes]:
    chance = random.Random(seed)

    def change(body: bytes) -> bytes:
        bent = bytearray(body)
        bent[chance.randrange(len(bent))] ^= 1 << chance.randrange(8)
        return bytes(bent)

    return change


BODIES: dict[str, Callable[[bytes], bytes]] = {
    **{f"a bit flipped ({seed})": flip(seed) for seed in range(10)},
    "two chunks exchanged": lambda body: body[SEALED : 2 * SEALED] + body[:SEALED] + body[2 * SEALED :],
    "a chunk in place of another": lambda body: body[:SEALED] * 2 + body[2 * SEALED :],
    "a chunk dropped": lambda body: body[SEALED:],
    "a chunk too many": lambda body: body[:SEALED] + body,
    "the last chunk dropped": lambda body: body[: 2 * SEALED],
    "nothing": lambda body: b"",
    "a pickle": lambda body: pickle.dumps(["anything"]),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_not_the_signed_one_is_set_aside(world: World, run: str, name: str) -> None:
    key = forge(world, run, payload=random.Random(2).randbytes(2 * CHUNK + 1000))
    body = f"{key.rpartition('/')[0]}/{read_manifest(world.store.objects[key]).body_sha256}.body"
    world.store.objects[body] = BODIES[name](world.store.objects[body])
    assert at_the_door(world, run, key)


def test_chunks_of_another_artifact_are_no_chunks_of_this_one(world: World, run: str) -> None:
    keys = [forge(world, run, payload=random.Random(seed).randbytes(2 * CHUNK + 1000)) for seed in (1, 2)]
    first, second = (
        f"{key.rpartition('/')[0]}/{read_manifest(world.store.objects[key]).body_sha256}.body" for key in keys
    )
    world.store.objects[first] = world.store.objects[second][:SEALED] + world.store.objects[first][SEALED:]
    assert "does not authenticate" in at_the_door(world, run, keys[0])


# payloads, signed by a member


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def bomb(_: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("latents.npy", bytes(256 << 20))
    return packed.getvalue()


def header(**tensors: Any) -> bytes:
    return raw(json.dumps(tensors), b"")


PAYLOADS: dict[str, Callable[[Path], bytes]] = {
    "a pickle": lambda sprung: pickle.dumps(Trap(sprung)),
    "a zip bomb": bomb,
    "the shape [2^62, 0]": lambda _: header(latents=entry("F32", [2**62, 0], 0, 0)),
    "300,000 tensors": lambda _: header(**{f"{i:x}": entry("U8", [0], 0, 0) for i in range(300_000)}),
    "a deep header": lambda _: raw('{"a":' + "[" * 500_000 + "]" * 500_000 + "}", b""),
    "NaN": lambda _: save({"latents": np.full((500_000, 4), np.nan, np.float32)}),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_member_s_hostile_tensors_are_set_aside_and_nothing_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("protocols.silofuse.report.available", lambda: False)
    payload = PAYLOADS[name](tmp_path / "sprung")

    def spoil(silo: Silo, progress: ProgressCallback) -> Message:
        message = encode(silo, progress)
        if silo._context.me == "south":
            assert isinstance(message.payload, Path)
            message.payload.write_bytes(payload)
        return message

    encode = Silo._encode
    monkeypatch.setattr(Silo, "_encode", spoil)
    world = World(tmp_path, protocol="silofuse", tables=tables.write_silos(tmp_path))
    run = world.hub.submit(tables.spec(training={"steps": 5, "batch": 16}))
    latents = "SELECT sender FROM inbox WHERE kind='silofuse.latents' AND state="
    while not world.parts["south"].state.rows("SELECT 1 FROM outbox WHERE kind='silofuse.latents'"):
        world.turn()
    world.asleep = {"south"}
    world.settle()
    world.parties["south"].exchange()
    world.asleep = set(world.silos)
    with measured() as cost:  # from the notice to the refusal
        world.settle()
    assert cost.bearable, cost
    world.asleep = set()
    world.settle()
    assert len(world.quarantined(HUB)) == 1
    assert {row["sender"] for row in world.parts[HUB].state.rows(f"{latents}'done'")} == {"north", "west"}
    assert world.run(HUB, run).phase == "running"
    assert not (tmp_path / "sprung").exists()
    world.close()
