"""Alignment finds the common records, holds a share out, and tells nobody an identifier."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.learning.alignment import (
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
    orders = intersect({silo: read_pseudonyms(hashes.tobytes()) for silo, (hashes, _) in found.items()}, 0.2)
    named = {silo: [people[silo][found[silo][1][place]] for place in orders[silo].places] for silo in people}
    assert named["left"] == named["right"]
    assert sorted(named["left"]) == sorted(set(left) & set(right))
    assert orders["left"].held_out.sum() == round(0.2 * len(named["left"]))


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
def test_a_malformed_list_of_pseudonyms_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArtifact):
        read_pseudonyms(data)


@pytest.mark.parametrize("places", [[-1, 2], [0, 5], [2, 1], [1, 1]])
def test_an_order_that_does_not_fit_is_refused(places: list[int]) -> None:
    with pytest.raises(InvalidArtifact):
        check_order(Order(np.array(places), np.zeros(len(places), dtype=bool)), 5)


def test_an_order_that_fits_is_taken() -> None:
    check_order(Order(np.array([0, 3, 4]), np.zeros(3, dtype=bool)), 5)
