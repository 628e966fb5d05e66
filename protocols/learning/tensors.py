"""Tensors from strangers: only safetensors, only the declared names, types and shapes, and only finite numbers.

Everything is refused before it costs memory: the file's size is bounded by what was declared, the header's by 1 MiB,
and the header is read by the kit's own strict JSON reader before safetensors sees the file. Nothing is unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from protocols.learning.rows import spans
from services.artifact import parse_json
from services.errors import InvalidArtifact, RunFailed
from services.files import replacing, write_atomic

MAX_HEADER_BYTES = 1 << 20
_LENGTH_BYTES = 8
_METADATA, _DESCRIPTION = "__metadata__", "description"

Dtype = Literal["float32", "float64", "int64", "uint8"]
_WIRE_TYPES: Mapping[Dtype, str] = {"float32": "F32", "float64": "F64", "int64": "I64", "uint8": "U8"}


@dataclass(frozen=True)
class TensorSpec:
    """What one tensor must be.

    Attributes:
        dtype: its exact element type.
        shape: its exact shape; None is a free dimension of at least 1.
        most: the greatest size of a free dimension.
    """

    dtype: Dtype
    shape: tuple[int | None, ...]
    most: int = 0

    @property
    def max_bytes(self) -> int:
        """The greatest size that a tensor of this specification may have."""
        return self.bytes_of([self.most if size is None else size for size in self.shape])

    def bytes_of(self, shape: list[int]) -> int:
        """The size of a tensor of this type and the given shape."""
        return math.prod(shape) * np.dtype(self.dtype).itemsize

    def allows(self, shape: list[int]) -> bool:
        """Whether a shape is of this specification."""
        return len(shape) == len(self.shape) and all(
            1 <= found <= self.most if size is None else found == size
            for found, size in zip(shape, self.shape, strict=True)
        )


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    dtype: str
    shape: list[int] = Field(max_length=8)
    data_offsets: list[int] = Field(min_length=2, max_length=2)


def write_tensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]], description: str | None = None) -> None:
    """Write tensors durably; the file appears whole or not at all.

    Args:
        path: where.
        tensors: by name.
        description: a text that goes with them in the file's header.

    Raises:
        RunFailed: a value is not finite, or a type is not one that travels: no reader would take it.
    """
    for name, tensor in tensors.items():
        if tensor.dtype.name not in _WIRE_TYPES:
            raise RunFailed(f"tensor {name!r} is of type {tensor.dtype.name}, which does not travel")
        _check_finite(name, tensor)
    # safetensors copies memory as it lies, so a transposed or sliced array would be written as another one
    whole = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    write_atomic(path, save(whole, metadata=None if description is None else {_DESCRIPTION: description}))


@contextmanager
def writing_rows(path: Path, name: str, rows: int, width: int) -> Iterator[Callable[[npt.NDArray[np.float32]], None]]:
    """Write one matrix [rows, width] durably, some rows at a time; the file appears when all are there, or not at all.

    Yields:
        What writes the next rows [n, width].

    Raises:
        RunFailed: a value is not finite.
    """
    entry = {"dtype": _WIRE_TYPES["float32"], "shape": [rows, width], "data_offsets": [0, 4 * rows * width]}
    header = json.dumps({name: entry}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _LENGTH_BYTES)  # the format wants the numbers aligned
    with replacing(path) as file:
        file.write(len(header).to_bytes(_LENGTH_BYTES, "little") + header)

        def write(part: npt.NDArray[np.float32]) -> None:
            _check_finite(name, part)
            file.write(np.ascontiguousarray(part, dtype="<f4").data)

        yield write


def _check_finite(name: str, tensor: npt.NDArray[Any]) -> None:
    if not np.isfinite(tensor).all():
        raise RunFailed(f"training diverged: tensor {name!r} came out with values that are not finite")


def read_tensors(path: Path, expected: Mapping[str, TensorSpec]) -> dict[str, npt.NDArray[Any]]:
    """Read a stranger's tensors, as maps of the file: large ones take no memory that cannot be taken back.

    Args:
        path: a file that came from another party.
        expected: exactly the tensors that must be there.

    Raises:
        InvalidArtifact: it is not safetensors, names other tensors, or one has another type or shape, or a value that
            is not finite.
    """
    return _read(path, expected, described=False)


def read_described(path: Path, expected: Mapping[str, TensorSpec]) -> dict[str, npt.NDArray[Any]]:
    """Read a stranger's tensors whose description has been read, and says what to expect.

    Raises:
        InvalidArtifact: as `read_tensors`.
    """
    return _read(path, expected, described=True)


def read_description(path: Path, limit: int) -> bytes:
    """The description in a stranger's file of tensors, itself still to be judged.

    Raises:
        InvalidArtifact: the file is not safetensors, or has no description of at most `limit` bytes and nothing else
            beside its tensors.
    """
    header, _ = _read_header(path, None)
    metadata = header.get(_METADATA)
    if not isinstance(metadata, dict) or metadata.keys() != {_DESCRIPTION}:
        raise InvalidArtifact("the file must describe its tensors, and say nothing else")
    text = metadata[_DESCRIPTION]
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else b""
    if not 0 < len(data) <= limit:
        raise InvalidArtifact(f"a description of tensors is a text of at most {limit} bytes")
    return data


def _read(path: Path, expected: Mapping[str, TensorSpec], *, described: bool) -> dict[str, npt.NDArray[Any]]:
    header, data_bytes = _read_header(path, sum(spec.max_bytes for spec in expected.values()))
    if described:
        header.pop(_METADATA, None)
    if header.keys() != expected.keys():
        raise InvalidArtifact(f"the file must hold exactly the tensors {', '.join(sorted(expected))}")
    declared = sum(_check_entry(name, header[name], spec) for name, spec in expected.items())
    if declared != data_bytes:
        raise InvalidArtifact(f"the file holds {data_bytes} bytes of tensors where its header declares {declared}")
    try:
        with safe_open(path, "numpy"):
            pass  # it has judged the places of the tensors
    except SafetensorError:
        raise InvalidArtifact("the tensors overlap, leave gaps, or are otherwise not safetensors") from None
    tensors = {name: _map(path, data_bytes, header[name], spec.dtype) for name, spec in expected.items()}
    for name, tensor in tensors.items():
        for span in spans(len(flat := tensor.reshape(-1))):
            if not np.isfinite(flat[span]).all():
                raise InvalidArtifact(f"tensor {name!r} holds values that are not finite")
    return tensors


def map_rows(path: Path, name: str = "latents") -> npt.NDArray[np.float32]:
    """What `writing_rows` wrote at this party, as a map of the file."""
    header, data_bytes = _read_header(path, None)
    return _map(path, data_bytes, header[name], "float32")


def _map(path: Path, data_bytes: int, entry: Mapping[str, Any], dtype: Dtype) -> npt.NDArray[Any]:
    """A tensor of a file that was judged."""
    if not data_bytes:
        return np.empty(entry["shape"], dtype)
    start, stop = entry["data_offsets"]
    data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))[-data_bytes:][start:stop]
    return np.require(data.view(dtype).reshape(entry["shape"]), requirements="A")


def _read_header(path: Path, max_bytes: int | None) -> tuple[dict[str, Any], int]:
    """The header's JSON object, and how many bytes follow it."""
    size = path.stat().st_size
    if max_bytes is not None and size > _LENGTH_BYTES + MAX_HEADER_BYTES + max_bytes:
        raise InvalidArtifact(f"the file has {size} bytes, more than the expected tensors can need")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > min(MAX_HEADER_BYTES, size - _LENGTH_BYTES):
            # a pickle's or an archive's first bytes, read as a length, end here
            raise InvalidArtifact("the file is not safetensors (no other form is read), or its header exceeds 1 MiB")
        header = parse_json(file.read(length), MAX_HEADER_BYTES)
    if not isinstance(header, dict):
        raise InvalidArtifact("the header of the tensors is not an object")
    return header, size - _LENGTH_BYTES - length


def _check_entry(name: str, value: Any, spec: TensorSpec) -> int:
    """The size in bytes of a tensor that is of its specification."""
    try:
        entry = _Entry.model_validate(value)
    except ValidationError:
        raise InvalidArtifact(f"the header's entry for tensor {name!r} is malformed") from None
    if entry.dtype != _WIRE_TYPES[spec.dtype]:
        raise InvalidArtifact(f"tensor {name!r} must be of type {spec.dtype}")
    if not spec.allows(entry.shape):
        wanted = " x ".join(f"(1 to {spec.most})" if size is None else str(size) for size in spec.shape)
        raise InvalidArtifact(f"tensor {name!r} must have the shape {wanted or 'of a scalar'}")
    return spec.bytes_of(entry.shape)
