"""Alignment finds the common records, holds a share out, and tells nobody an identifier."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.learning.alignment import (
    PSEUDONYM_BYTES,
    Order,
    check_order,
    intersect,
    make_secret,
    pseudonyms,
    read_pseudonyms,
)
from services.errors import InvalidArtifact

identifiers = st.lists(st.text(min_size=1, max_size=8), unique=True, min_size=1, max_size=40)


@given(identifiers, identifiers)
def test_the_common_order_names_the_same_people_in_every_silo(left: list[str], right: list[str]) -> None:
    secret = make_secret()
    people = {"left": left, "right": right}
    found = {silo: pseudonyms(secret, "run-1", ids) for silo, ids in people.items()}
    orders = intersect({silo: hashes for silo, (hashes, _) in found.items()}, 0.2)
    named = {silo: [people[silo][found[silo][1][place]] for place in orders[silo].places] for silo in people}
    assert named["left"] == named["right"]
    assert sorted(named["left"]) == sorted(set(left) & set(right))
    assert orders["left"].held_out.sum() == round(0.2 * len(named["left"]))


def awkward(size: int) -> st.SearchStrategy[bytes]:
    """Bytes that agree at their beginnings, end in zeros, or would be negative were they signed."""
    return st.lists(st.sampled_from([0, 1, 127, 128, 255]), min_size=2, max_size=2).map(
        lambda ends: bytes([ends[0]]) * (size - 1) + bytes([ends[1]])
    )


@given(st.lists(st.sets(awkward(PSEUDONYM_BYTES), min_size=1), min_size=2, max_size=4))
def test_the_common_records_are_those_of_the_sets_whatever_their_bytes(sets: list[set[bytes]]) -> None:
    listed = [sorted(one) for one in sets]
    kind = f"V{PSEUDONYM_BYTES}"
    orders = intersect({str(n): np.frombuffer(b"".join(one), kind) for n, one in enumerate(listed)}, 0.2)
    common = sorted(set.intersection(*sets))
    for number, one in enumerate(listed):
        assert [one[place] for place in orders[str(number)].places] == common


def test_pseudonyms_are_sorted_as_bytes_are_and_say_whose_they_are() -> None:
    people = [str(number) for number in range(5000)]
    found, rows = pseudonyms(b"k" * 32, "run-1", people)
    each = {person: pseudonyms(b"k" * 32, "run-1", [person])[0].tobytes() for person in people[:50]}
    listed = [found[place].tobytes() for place in range(len(found))]
    assert listed == sorted(listed)
    assert all(listed[place] == each[people[row]] for place, row in enumerate(rows) if people[row] in each)


def test_a_list_that_came_over_the_wire_reads_as_it_was_made(tmp_path: Path) -> None:
    found, _ = pseudonyms(b"k" * 32, "run-1", [str(number) for number in range(20_000)])
    (tmp_path / "list").write_bytes(found.tobytes())
    assert read_pseudonyms(tmp_path / "list").tobytes() == found.tobytes()
    swapped = found.copy()
    swapped[[16_383, 16_384]] = found[[16_384, 16_383]]
    (tmp_path / "list").write_bytes(swapped.tobytes())
    with pytest.raises(InvalidArtifact, match="sorted"):
        read_pseudonyms(tmp_path / "list")


def test_pseudonyms_change_with_secret_and_run() -> None:
    secret = make_secret()
    one, _ = pseudonyms(secret, "run-1", ["a"])
    assert one.tobytes() == pseudonyms(secret, "run-1", ["a"])[0].tobytes()
    assert one.tobytes() != pseudonyms(secret, "run-2", ["a"])[0].tobytes()
    assert one.tobytes() != pseudonyms(make_secret(), "run-1", ["a"])[0].tobytes()


def test_length_prefixes_keep_run_and_identifier_apart() -> None:
    secret = make_secret()
    assert pseudonyms(secret, "run-1", ["1x"])[0].tobytes() != pseudonyms(secret, "run-11", ["x"])[0].tobytes()


@pytest.mark.parametrize(
    "data", [b"", b"x" * 31, b"b" * 32 + b"a" * 32, b"a" * 64], ids=["empty", "ragged", "unsorted", "repeated"]
)
def test_a_malformed_list_of_pseudonyms_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(data)
    with pytest.raises(InvalidArtifact):
        read_pseudonyms(tmp_path / "list")


@pytest.mark.parametrize("places", [[-1, 2], [0, 5], [2, 1], [1, 1]])
def test_an_order_that_does_not_fit_is_refused(places: list[int]) -> None:
    with pytest.raises(InvalidArtifact):
        check_order(Order(np.array(places), np.zeros(len(places), dtype=bool)), 5)


def test_an_order_that_fits_is_taken() -> None:
    check_order(Order(np.array([0, 3, 4]), np.zeros(3, dtype=bool)), 5)
