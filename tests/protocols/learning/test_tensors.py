"""What a stranger's tensors must be before they are believed."""

from __future__ import annotations

import json
import pickle
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save

from protocols.learning.tensors import TensorSpec, read_tensors, write_tensors, writing_rows
from services.errors import InvalidArtifact, RunFailed

EXPECTED = {"latents": TensorSpec("float32", (None, 3), most=100), "held": TensorSpec("uint8", (None,), most=100)}
LATENTS = np.arange(12, dtype=np.float32).reshape(4, 3)
HELD = np.array([0, 1, 0, 1], dtype=np.uint8)


def raw(header: str | bytes, data: bytes) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list[Any], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


GOOD = {"latents": entry("F32", [4, 3], 0, 48), "held": entry("U8", [4], 48, 52)}
DATA = LATENTS.tobytes() + HELD.tobytes()


def test_what_was_written_is_read_back_exactly(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t", {"latents": LATENTS, "held": HELD})
    read = read_tensors(tmp_path / "t", EXPECTED)
    assert list(read) == ["latents", "held"]
    np.testing.assert_array_equal(read["latents"], LATENTS)
    np.testing.assert_array_equal(read["held"], HELD)
    assert (tmp_path / "t").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "view",
    [LATENTS.reshape(3, 4).T, LATENTS[::-1], np.asfortranarray(LATENTS)],
    ids=["transposed", "strided", "Fortran"],
)
def test_an_array_is_written_as_it_reads_and_not_as_its_memory_lies(
    view: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    write_tensors(tmp_path / "t", {"latents": view})
    read = read_tensors(tmp_path / "t", {"latents": TensorSpec("float32", (4, 3))})
    np.testing.assert_array_equal(read["latents"], view)


def test_a_matrix_written_row_by_row_is_the_file_that_it_is_when_written_at_once(tmp_path: Path) -> None:
    with writing_rows(tmp_path / "rows", "latents", 4, 3) as write:
        write(LATENTS[:1])
        write(np.asfortranarray(LATENTS[1:]))
    write_tensors(tmp_path / "whole", {"latents": LATENTS})
    assert (tmp_path / "rows").read_bytes() == (tmp_path / "whole").read_bytes()
    assert (tmp_path / "rows").stat().st_mode & 0o777 == 0o600


def test_rows_that_are_not_finite_leave_no_file(tmp_path: Path) -> None:
    def spoil() -> None:
        with writing_rows(tmp_path / "t", "latents", 4, 3) as write:
            write(LATENTS[:2])
            write(np.full((2, 3), np.nan, np.float32))

    with pytest.raises(RunFailed, match="not finite"):
        spoil()
    assert list(tmp_path.iterdir()) == []


def test_reading_takes_no_memory_of_its_own_and_lends_nobody_the_file_to_write_to(tmp_path: Path) -> None:
    large = {"latents": TensorSpec("float32", (1 << 16, 256))}
    with writing_rows(tmp_path / "t", "latents", 1 << 16, 256) as write:
        for _ in range(1 << 6):
            write(np.ones((1 << 10, 256), np.float32))
    tracemalloc.start()
    read = read_tensors(tmp_path / "t", large)["latents"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20  # of 64 MiB
    with pytest.raises(ValueError, match="read-only"):
        read[0, 0] = 7


def test_a_scalar_keeps_its_shape(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t", {"x": np.array(1.5)})
    assert read_tensors(tmp_path / "t", {"x": TensorSpec("float64", ())})["x"].shape == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_neither_written_nor_read(value: float, tmp_path: Path) -> None:
    bad = LATENTS.copy()
    bad[1, 1] = value
    with pytest.raises(RunFailed, match="not finite"):
        write_tensors(tmp_path / "t", {"latents": bad, "held": HELD})
    assert not (tmp_path / "t").exists()
    (tmp_path / "t").write_bytes(save({"latents": bad, "held": HELD}))
    with pytest.raises(InvalidArtifact, match="'latents' holds values that are not finite"):
        read_tensors(tmp_path / "t", EXPECTED)


def test_a_type_that_no_reader_takes_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="float16"):
        write_tensors(tmp_path / "t", {"latents": LATENTS.astype(np.float16)})


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty file": (lambda: b"", "not safetensors"),
    "pickle": (lambda: pickle.dumps({"latents": LATENTS, "held": HELD}), "not safetensors"),
    "no header": (lambda: raw("", b""), "not the JSON"),
    "header is a list": (lambda: raw("[]", b""), "not an object"),
    "header longer than the file": (lambda: (1000).to_bytes(8, "little") + b"{}", "not safetensors"),
    "header of 2^64-1 bytes": (lambda: b"\xff" * 8 + b"{}", "not safetensors"),
    "absent tensor": (lambda: save({"latents": LATENTS}), "exactly the tensors"),
    "one tensor more": (lambda: save({"latents": LATENTS, "held": HELD, "more": HELD}), "exactly the tensors"),
    "metadata": (lambda: save({"latents": LATENTS, "held": HELD}, {"note": "x"}), "exactly the tensors"),
    "another type": (lambda: save({"latents": LATENTS.view(np.int32), "held": HELD}), "must be of type float32"),
    "another width": (
        lambda: save({"latents": LATENTS.reshape(3, 4), "held": HELD}),
        r"must have the shape \(1 to 100\) x 3",
    ),
    "another rank": (lambda: save({"latents": LATENTS.ravel(), "held": HELD}), "must have the shape"),
    "no rows": (lambda: save({"latents": LATENTS[:0], "held": HELD}), "must have the shape"),
    "too many rows": (lambda: save({"latents": np.zeros((101, 3), np.float32), "held": HELD}), "must have the shape"),
    "shape [2^62, 0]": (
        lambda: raw(json.dumps({**GOOD, "latents": entry("F32", [2**62, 0], 0, 0)}), HELD.tobytes()),
        "must have the shape",
    ),
    "negative size": (lambda: raw(json.dumps({**GOOD, "latents": entry("F32", [-4, 3], 0, 48)}), DATA), "the shape"),
    "size true": (lambda: raw(json.dumps({**GOOD, "held": entry("U8", [True], 48, 52)}), DATA), "malformed"),
    "size 4.0": (lambda: raw(json.dumps({**GOOD, "held": entry("U8", [4.0], 48, 52)}), DATA), "malformed"),
    "unknown field": (lambda: raw(json.dumps({**GOOD, "held": {**GOOD["held"], "x": 1}}), DATA), "malformed"),
    "offsets overlap": (lambda: raw(json.dumps({**GOOD, "held": entry("U8", [4], 0, 4)}), DATA), "overlap"),
    "offsets beyond": (lambda: raw(json.dumps({**GOOD, "held": entry("U8", [4], 49, 53)}), DATA), "overlap"),
    "trailing bytes": (lambda: raw(json.dumps(GOOD), DATA + b"\0"), "53 bytes of tensors where its header declares 52"),
    "truncated": (lambda: raw(json.dumps(GOOD), DATA[:-1]), "51 bytes of tensors"),
    "duplicate name": (
        lambda: raw('{"held":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' + json.dumps(GOOD)[1:], DATA),
        "not the JSON",
    ),
    "duplicate field": (
        lambda: raw(json.dumps(GOOD).replace('"dtype": "U8"', '"dtype": "F64", "dtype": "U8"'), DATA),
        "not the JSON",
    ),
    "deep header": (lambda: raw('{"a":' + "[" * 5000 + "]" * 5000 + "}", b""), "nests deeper"),
    "not UTF-8": (lambda: raw(b'{"\xff":1}', b""), "not the JSON"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_anything_but_the_declared_tensors_is_refused(name: str, tmp_path: Path) -> None:
    make, reason = HOSTILE[name]
    (tmp_path / "t").write_bytes(make())
    with pytest.raises(InvalidArtifact, match=reason):
        read_tensors(tmp_path / "t", EXPECTED)


def test_the_handmade_files_are_refused_for_their_fault_alone(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(raw(json.dumps(GOOD), DATA))
    np.testing.assert_array_equal(read_tensors(tmp_path / "t", EXPECTED)["latents"], LATENTS)


def test_an_archive_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", latents=LATENTS, held=HELD)
    assert zipfile.is_zipfile(tmp_path / "t.npz")
    with pytest.raises(InvalidArtifact, match="not safetensors"):
        read_tensors(tmp_path / "t.npz", EXPECTED)


def test_reading_unpickles_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    (tmp_path / "t").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InvalidArtifact):
        read_tensors(tmp_path / "t", EXPECTED)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("tensors", [300_000, 10_000], ids=["over the header's limit", "under the header's limit"])
def test_a_file_of_many_tensors_is_refused_fast_and_small(tensors: int, tmp_path: Path) -> None:
    header = json.dumps({f"{i:x}": entry("U8", [0], 0, 0) for i in range(tensors)})
    (tmp_path / "t").write_bytes(raw(header, b""))
    start = time.process_time()
    with pytest.raises(InvalidArtifact):
        read_tensors(tmp_path / "t", EXPECTED)
    seconds = time.process_time() - start
    tracemalloc.start()  # which slows it fourfold
    with pytest.raises(InvalidArtifact):
        read_tensors(tmp_path / "t", EXPECTED)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 2.0
    assert peak < 32 << 20


def test_a_file_larger_than_the_declaration_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "t").open("wb") as sparse:
        sparse.write(raw(json.dumps(GOOD), DATA))
        sparse.truncate(1 << 40)
    with pytest.raises(InvalidArtifact, match="more than the expected tensors can need"):
        read_tensors(tmp_path / "t", EXPECTED)
