"""The configuration names one store and one bus; what `init` writes of them is what the configuration reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from services.command import store_section
from services.config import check_config
from services.errors import ConfigError, StoreError
from services.party import Party
from services.store.probe import StoreRefused
from services.wiring import StoreConfig
from tests.world import World

S3 = {"endpoint": "https://store:9000", "bucket": "artifacts", "credentials": "store.json"}


def written(address: str) -> StoreConfig:
    """What a configuration in /etc/silo says after `init --store ADDRESS`."""
    value = yaml.safe_load(store_section(Path("/etc/silo"), address))
    return check_config(value, StoreConfig, "store").located(Path("/etc/silo"))


def test_a_folder_or_a_bucket_is_written_as_it_is_read() -> None:
    assert written("/srv/store").folder == Path("/srv/store")
    found = written("https://s3.example.org:9000/artifacts/").s3
    assert found is not None
    assert (found.endpoint, found.bucket, found.insecure) == ("https://s3.example.org:9000", "artifacts", False)
    assert (found.credentials, found.ca) == (
        Path("/etc/silo/state/store.json"),
        Path("/etc/silo/state/tls/authority.crt"),
    )


@pytest.mark.parametrize("host", ["localhost:8333", "127.0.0.1", "[::1]:80"])
def test_a_store_on_this_very_machine_may_go_without_encryption(host: str) -> None:
    found = written(f"http://{host}/artifacts").s3
    assert found is not None
    assert (found.endpoint, found.insecure, found.ca) == (f"http://{host}", True, None)


@pytest.mark.parametrize(
    "address",
    [
        "http://store.example.org/artifacts",
        "http://localhost.example.org/artifacts",
        "https://store.example.org",
        "https://store.example.org/",
        "https://store.example.org/a/b",
        "https://store.example.org/Artifacts",
        "https://key:secret@store.example.org/artifacts",
        "https://store.example.org:port/artifacts",
        "https://store.example.org/artifacts?versions",
        "https:///artifacts",
        "s3://artifacts/heart",
    ],
)
def test_what_is_no_address_of_a_bucket_is_refused_before_anything_is_written(address: str) -> None:
    with pytest.raises(ConfigError, match="no address of a bucket") as caught:
        written(address)
    assert "https://HOST/BUCKET" in caught.value.fix


@pytest.mark.parametrize("value", [{}, {"folder": "store", "s3": S3}, {"policy": {"versioned": "accept"}}])
def test_a_configuration_names_exactly_one_store(value: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="exactly one of `folder` and `s3`"):
        check_config(value, StoreConfig, "store")


def test_a_misspelt_key_of_the_store_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"s3\.buckt: unknown key; did you mean 'bucket'"):
        check_config({"s3": {**S3, "buckt": "x"}}, StoreConfig, "store")
    with pytest.raises(ConfigError, match=r"policy\.versions: unknown key; did you mean 'versioned'"):
        check_config({"s3": S3, "policy": {"versions": "warn"}}, StoreConfig, "store")


class Meeting(Party):
    """A party whose store answers as it is told when it is met; it stops once it is ready."""

    def __init__(self, world: World, answers: list[StoreError]) -> None:
        parts = world.parts["north"]
        self.answers = answers
        super().__init__(
            state=parts.state, courier=parts.courier, trust=parts.trust, host=parts.host, desk=world.desks["north"],
            meet_store=self.meet, skew=lambda: None, purse=parts.purse,
        )  # fmt: skip

    def meet(self) -> None:
        if self.answers:
            raise self.answers.pop()

    def _say_ready(self) -> None:
        self.stop()


def test_a_store_that_is_away_is_met_when_it_is_back(tmp_path: Path) -> None:
    party = Meeting(World(tmp_path), [StoreError("away"), StoreError("still away")])
    party.run()
    assert party.answers == []


def test_a_store_that_is_refused_ends_the_service(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused):
        Meeting(World(tmp_path), [StoreRefused("it cannot be trusted")]).run()
