"""What is pulled from the pool is what its silo lists today, and what does not add up is refused while others go on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.artifact import POOL
from services.errors import StoreError
from services.mechanism import Gaussian, Mechanism, Sampled
from services.seal import read_manifest
from services.trust.catalog import Listed, make_catalog, release_text
from silo_agent.pool.index import Entry, Judge, PoolIndex, UnknownGenerator, totals
from silo_agent.pool.puller import Pool
from tests.pool import change_keys, join, publish, settle, spend
from tests.services.test_catalog import listed
from tests.world import DATASET, FEDERATION, HUB, World


def check(path: Path, _: Listed) -> None:
    if not path.read_bytes().startswith(b"a generator"):
        raise ValueError("some words that may quote the file")


def reader(world: World, name: str = "south") -> Pool:
    return Pool(world.parts[name], lambda: world.policies[name], world.outputs(name), check)


def entries(world: World, name: str = "south") -> dict[str, Entry]:
    return {one.listed.digest: one for one in PoolIndex(world.parts[name].state).entries()}


def pulled(world: World, digest: str, name: str = "south") -> bytes | None:
    path = world.outputs(name) / "pool" / "north" / f"{digest}.generator"
    return path.read_bytes() if path.exists() else None


def in_pool(world: World, ending: str) -> str:
    (key,) = (key for key in world.store.objects if f"/north/{POOL}/" in key and key.endswith(ending))
    return key


@pytest.fixture
def digest(world: World, run: str) -> str:
    """Of a generator that north has published, and everybody can see."""
    found = publish(world, run)
    settle(world)
    return found


def test_from_publication_to_the_list_to_a_file(world: World, run: str, digest: str) -> None:
    pool = reader(world)
    assert pool.refresh()["generators"] == 1
    one = entries(world)[digest]
    assert (one.state, one.listed.about.run) == ("listed", run)
    assert one.epsilon == pytest.approx(Mechanism(event=Gaussian(noise_multiplier=8.0)).epsilon(1e-5))
    assert pool.pull(digest[:10])["state"] == "pulled"
    assert pulled(world, digest) == b"a generator"
    pool.refresh()
    assert entries(world)[digest].state == "pulled"
    assert not list((world.outputs("south") / "pool" / "north").glob(".*"))


def test_the_coordinator_and_the_owner_can_use_it_too(world: World, digest: str) -> None:
    assert HUB in world.parts["north"].trust.roster.members
    pool = reader(world, "north")
    pool.refresh()
    assert pool.pull(f"north/{digest}")["state"] == "pulled"
    assert pulled(world, digest, "north") == b"a generator"


def test_the_index_is_as_it_was_while_the_store_is_away(world: World, digest: str) -> None:
    pool = reader(world)
    pool.refresh()
    world.store.down = True
    with pytest.raises(StoreError):
        pool.refresh()
    with pytest.raises(StoreError):
        pool.pull(digest)
    assert entries(world)[digest].state == "listed"
    world.store.down = False
    assert pool.pull(digest)["state"] == "pulled"


def test_names_that_are_none_or_several_are_said(world: World, digest: str) -> None:
    index = PoolIndex(world.parts["south"].state)
    with pytest.raises(UnknownGenerator, match="not been read"):
        index.summary()
    pool = reader(world)
    pool.refresh()
    for name in ("", "north/", "nobody", f"south/{digest}", "%"):
        with pytest.raises(UnknownGenerator):
            pool.pull(name)
    with pytest.raises(UnknownGenerator, match="was named"):
        index.choose()
    assert [one.listed.digest for one in index.choose(silo="north")] == [digest]
    assert index.choose(run="another") == []


# what is wrong is refused, and the others go on


def refused(world: World, digest: str, words: str) -> None:
    pool = reader(world)
    pool.refresh()
    outcome = pool.pull(digest)
    assert outcome["state"] == "refused"
    assert words in outcome["why"]
    assert pulled(world, digest) is None
    assert words in world.quarantined("south")[-1]


def test_a_swapped_body_is_refused(world: World, digest: str) -> None:
    key = in_pool(world, ".body")
    world.store.objects[key] = bytes(len(world.store.objects[key]))
    refused(world, digest, "does not authenticate")


def test_a_manifest_that_is_not_the_listed_one_is_refused(world: World, digest: str) -> None:
    world.store.objects[in_pool(world, ".manifest")] += b" "
    refused(world, digest, "not what its name promises")


def test_a_generator_that_no_reader_takes_is_refused_without_quoting_it(world: World, run: str) -> None:
    bad, good = publish(world, run, step="one", payload=b"litter"), publish(world, run, step="two")
    settle(world)
    refused(world, bad, "no generator that this program reads (ValueError)")
    assert reader(world).pull(good)["state"] == "pulled"
    assert "quote" not in "".join(world.quarantined("south"))


def relist(world: World, change: Any) -> None:
    """North signs another catalog than its agent does."""
    shelf = world.silo("north").shelf
    one = change(shelf.listed()[0])
    made = make_catalog(90, [one], world.now + timedelta(days=30))
    made.sign(world.rings["north"].signing.signer())
    world.repository.adopt("north", made.to_bytes())
    world.repository.upload(world.store)


def test_a_silo_that_seals_another_thing_than_it_lists_is_refused(world: World, digest: str) -> None:
    relist(world, lambda one: Listed(one.silo, one.digest, "0" * 64, one.length, one.about))
    refused(world, digest, "not what the catalog lists")


def test_a_silo_that_claims_another_release_in_the_catalog_is_refused(world: World, digest: str) -> None:
    better = spend(Mechanism(event=Gaussian(noise_multiplier=80.0)))
    text = release_text(better)

    def change(one: Listed) -> Listed:
        return Listed(one.silo, one.digest, one.sha256, one.length, one.about.model_copy(update={"release": text}))

    relist(world, change)
    refused(world, digest, "something else of its release")


def test_a_body_that_is_gone_is_no_forgery(world: World, digest: str) -> None:
    pool = reader(world)
    pool.refresh()
    key = in_pool(world, ".body")
    body = world.store.objects.pop(key)
    assert pool.pull(digest)["state"] == "listed"
    assert world.quarantined("south") == []
    world.store.objects[key] = body
    assert pool.pull(digest)["state"] == "pulled"


def test_what_a_revoked_silo_published_is_refused(world: World, digest: str) -> None:
    pool = reader(world)
    pool.refresh()
    pool.pull(digest)
    world.publish_roster(without=("north",))
    pool.refresh()
    assert entries(world)[digest].why == "north is no member any more"
    assert pool.pull(digest)["state"] == "refused"


def test_a_withdrawn_generator_is_gone_unless_it_was_pulled(world: World, digest: str) -> None:
    pool, other = reader(world), reader(world, "west")
    pool.refresh()
    pool.pull(digest)
    other.refresh()
    world.silo("north").shelf.withdraw(digest)
    settle(world)
    pool.refresh()
    assert entries(world)[digest].state == "withdrawn"
    assert pulled(world, digest) is not None
    pool.refresh()
    (spent,) = PoolIndex(world.parts["south"].state).totals()
    assert spent.generators == 1, "a withdrawal takes no copy back"
    assert spent.epsilon == entries(world)[digest].epsilon
    other.refresh()
    assert entries(world, "west") == {}
    assert PoolIndex(world.parts["west"].state).totals() == [], "nobody told west of it again"


# keys that change, members that come late


def test_a_late_member_pulls_what_was_sealed_for_it_anew(world: World, digest: str) -> None:
    join(world, "late")
    pool = reader(world, "late")
    pool.refresh()
    outcome = pool.pull(digest)
    assert outcome["state"] == "listed"
    assert "not sealed it to this silo's keys yet" in outcome["why"]
    settle(world)
    pool.refresh()
    assert pool.pull(digest)["state"] == "pulled"
    assert world.quarantined("late") == []


@pytest.mark.parametrize("who", ["north", "south"])
def test_a_generator_is_had_after_its_owner_or_its_reader_changed_keys(world: World, digest: str, who: str) -> None:
    change_keys(world, who, grace=timedelta(minutes=1))
    settle(world)
    world.pass_time(3600)
    settle(world)
    pool = reader(world)
    assert pool.refresh()["faults"] == {}
    assert pool.pull(digest)["state"] == "pulled"


def test_between_an_owner_s_change_of_keys_and_its_new_catalog_it_is_refused_for_now(world: World, digest: str) -> None:
    pool = reader(world)
    pool.refresh()
    change_keys(world, "north")
    assert "signed by 0/1" in pool.refresh()["faults"]["north"]
    assert pool.pull(digest)["state"] == "refused"
    settle(world)
    pool.refresh()
    assert pool.pull(digest)["state"] == "pulled"


# claims


def claim(release: str) -> Listed:
    return listed(release=release)


@pytest.mark.parametrize(
    "release",
    [
        "",
        "litter",
        "[" * 4000,
        '{"release":"no-data"}',
        '{"release":"spend","mechanism":{},"delta":1e-5}',
        '{"release":"spend","mechanism":{"event":{"event":"laplace","scale":1}},"delta":1e-5}',
        '{"release":"spend","mechanism":{"event":{"event":"gaussian","noise_multiplier":NaN}},"delta":1e-5}',
        '{"release":"spend","mechanism":{"event":{"event":"gaussian","noise_multiplier":1e-9}},"delta":1e-5}',
        '{"release":"spend","mechanism":{"event":{"event":"gaussian","noise_multiplier":9}},"delta":0}',
        release_text(spend(Mechanism(adjacency="replace-one", event=Gaussian(noise_multiplier=8.0)))),
    ],
)
def test_a_crafted_claim_is_refused(release: str) -> None:
    entry = Judge(10.0).judge(claim(release))
    assert (entry.state, entry.epsilon) == ("refused", None)


def release(mechanism: Mechanism, delta: float = 1e-5) -> str:
    return release_text(spend(mechanism, delta))


def test_what_costs_more_than_the_policy_takes_is_refused_with_its_figure() -> None:
    loud = release(Mechanism(event=Gaussian(noise_multiplier=0.2)))
    entry = Judge(10.0).judge(claim(loud))
    assert (entry.state, "above this silo's ceiling" in entry.why) == ("refused", True)
    assert Judge(100.0).judge(claim(loud)).state == "listed"
    assert "δ" in Judge(10.0).judge(claim(release(Mechanism(event=Gaussian(noise_multiplier=8.0)), 0.1))).why


def test_a_silo_cannot_make_readers_compute_for_ever() -> None:
    judge = Judge(10.0)
    claims = [release(Mechanism(event=Sampled(rate=0.01, noise_multiplier=4.0 + step / 1000))) for step in range(40)]
    states = [judge.judge(claim(one)).state for one in claims]
    assert states.count("listed") == 16
    assert judge.judge(listed("south", release=claims[-1])).state == "listed"


def test_totals_are_compositions_for_each_silo_and_data_set() -> None:
    judge = Judge(10.0)
    one = Mechanism(event=Gaussian(noise_multiplier=8.0))
    made = [judge.judge(listed(number=number, dataset=DATASET, release=release(one))) for number in range(4)]
    made.append(judge.judge(listed(number=9, dataset="others", release="litter")))
    first, second = totals(made)
    assert (first.silo, first.dataset, first.generators) == ("north", "others", 1)
    assert first.epsilon is None
    assert (second.generators, second.delta) == (4, 1e-5)
    assert second.epsilon == pytest.approx(Mechanism(event=Gaussian(noise_multiplier=4.0)).epsilon(1e-5))


def test_the_store_holds_nothing_of_a_generator_in_the_clear(world: World, digest: str) -> None:
    assert digest in in_pool(world, ".manifest")
    assert read_manifest(world.store.objects[in_pool(world, ".manifest")]).header.federation == FEDERATION
    assert not [key for key, data in world.store.objects.items() if b"a generator" in data]
