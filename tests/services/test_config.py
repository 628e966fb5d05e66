"""A wrong configuration is an error that names the key and the nearest valid one."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from services.config import read_config
from services.errors import ConfigError
from services.wiring import BusConfig, PartyConfig, StoreConfig


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    folder: Path


class _Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    parts: dict[str, _Part] = {}


def _read(tmp_path: Path, text: str) -> _Whole:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return read_config(path, _Whole)


def test_a_good_file_becomes_its_model(tmp_path: Path) -> None:
    assert _read(tmp_path, "name: x\nparts: {a: {folder: /tmp}}").parts["a"].folder == Path("/tmp")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nam: x", "did you mean 'name'"),
        ("name: x\nparts: {a: {foldr: y}}", "parts.a.foldr: unknown key; did you mean 'folder'"),
        ("name: x\nparts: {a: {}}", "parts.a.folder: Field required"),
        ("name: x\nname: y", "stands twice"),
        ("name: [", "not valid YAML"),
        ("- x", "must be a mapping"),
        ("name: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_bad_file_is_a_clear_error(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, text)
    assert words in str(caught.value)


def test_an_absent_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        read_config(tmp_path / "none.yaml", _Whole)


@pytest.mark.parametrize("key", ["home", "outputs"])
@pytest.mark.parametrize("place", ["store", "store/north/private", "elsewhere/../store/private", "link/private"])
def test_what_is_private_cannot_lie_where_every_party_reads(tmp_path: Path, key: str, place: str) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    config = PartyConfig(
        federation="testers", name="north", store=StoreConfig(folder=Path("store")), bus=BusConfig(sqlite=Path("bus")),
        **{key: Path(place)},
    )  # fmt: skip
    with pytest.raises(ConfigError, match=f"`{key}` .* lies in the store's folder"):
        config.located(tmp_path)


def test_what_is_private_may_lie_beside_the_store(tmp_path: Path) -> None:
    config = PartyConfig(
        federation="testers", name="north", store=StoreConfig(folder=Path("store")), bus=BusConfig(sqlite=Path("bus"))
    )
    assert config.located(tmp_path).outputs == tmp_path / "outputs"
