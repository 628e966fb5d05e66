"""An upload that is reset at any byte leaves an object intact or none, never half of one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from services.errors import StoreError
from tests.wire.objects import FEDERATION, MIB, Objects, made, sha
from tests.wire.proxy import Proxy, Weather

SIZES = {"in one piece": 0.25, "in parts": 11.0}  # MiB


@pytest.mark.parametrize("how", SIZES)
def test_an_upload_that_is_reset_is_intact_or_absent(
    objects: Objects, tmp_path: Path, how: str, figure: Callable[[str], None]
) -> None:
    source = made(tmp_path / "in", SIZES[how])
    size = source.stat().st_size
    step = size // 12
    intact = 0
    places = [*range(1, 8000, 800), *range(8000, size + 3 * step, step)]  # handshake and headers, then the whole body
    with objects.store("south") as south:
        for place in places:
            name = f"{FEDERATION}/north/reset/{place}.body"
            with (
                Proxy(objects.server.port, Weather(cut_every=place)) as proxy,
                objects.store("north", proxy.port, patience=0) as north,
            ):
                with suppress(StoreError):
                    north.put(name, source)
                assert proxy.made_cuts or place >= size
            if south.stat(name) is not None:
                south.get(name, tmp_path / "out", 12 * MIB)
                assert sha(tmp_path / "out") == sha(source), f"reset at byte {place}"
                intact += 1
    figure(f"{how}: reset at {len(places)} places, {intact} intact, {len(places) - intact} absent")
    assert 0 < intact < len(places)
