"""A silo's policy fails closed: what it does not name stays in the house."""

from __future__ import annotations

import pytest

from protocols.silofuse import UNPROTECTED
from protocols.silofuse.messages import LATENTS
from protocols.spec import RunSpec, parse_spec
from services.artifact import Derived, NoData, Release, Spend, Unprotected
from services.contract import Message
from services.errors import PolicyRefusal
from silo_agent.policy import TABLE, TABLE_REASON, Policy
from tests import tables

ALLOWED = Policy(protocols=("silofuse",), unprotected={**UNPROTECTED, TABLE: TABLE_REASON}, release_to=("south",))
TRUE_WORDS = Unprotected(reason=UNPROTECTED[LATENTS])

RUN = parse_spec(tables.spec())
NOISED = parse_spec(tables.spec(training={"noise": {"epsilon": 2.0}}))


def test_an_untouched_policy_allows_nothing() -> None:
    with pytest.raises(PolicyRefusal, match="does not allow the protocol"):
        Policy().check_run("silofuse", UNPROTECTED)
    with pytest.raises(PolicyRefusal, match="leave unprotected"):
        Policy().check_message(Message(LATENTS, b"", TRUE_WORDS), ("hub",), RUN)


def test_what_it_names_may_leave() -> None:
    ALLOWED.check_run("silofuse", UNPROTECTED)
    ALLOWED.check_message(Message(LATENTS, b"", TRUE_WORDS), ("hub",), RUN)


@pytest.mark.parametrize("run", [NOISED, None])
def test_what_the_run_does_not_call_for_stays_although_the_policy_would_let_it_leave(run: RunSpec | None) -> None:
    with pytest.raises(PolicyRefusal, match="does not call for"):
        ALLOWED.check_message(Message(LATENTS, b"", TRUE_WORDS), ("hub",), run)


def test_a_sentence_that_differs_by_a_word_is_no_agreement() -> None:
    policy = Policy(protocols=("silofuse",), unprotected={kind: text + "!" for kind, text in UNPROTECTED.items()})
    with pytest.raises(PolicyRefusal, match="if you agree"):
        policy.check_run("silofuse", UNPROTECTED)


DECLARED = Policy(protocols=("silofuse",), table={"identifier": RUN.identifier, "columns": RUN.columns_of("south")})


def test_a_run_says_of_the_table_what_the_policy_declares_or_is_refused_before_a_row_is_read() -> None:
    columns, identifier = RUN.columns_of("south"), RUN.identifier
    assert identifier is not None
    DECLARED.check_table(columns, identifier)
    DECLARED.check_table(dict(list(columns.items())[:1]), identifier)
    DECLARED.check_table({}, None)  # a run that needs no table
    narrower = {name: column.model_copy(update={"missing": not column.missing}) for name, column in columns.items()}
    for other in (narrower, {**columns, "visit": next(iter(columns.values()))}):
        with pytest.raises(PolicyRefusal, match=r"the columns .* otherwise"):
            DECLARED.check_table(other, identifier)
    for person in (None, identifier.model_copy(update={"column": "visit_id"})):
        with pytest.raises(PolicyRefusal, match="the identifier otherwise"):
            DECLARED.check_table(columns, person)
    Policy().check_table(narrower, None)


@pytest.mark.parametrize("release", [NoData(), Derived(digests=("0" * 64,))])
def test_private_codes_under_a_harmless_label_do_not_leave(release: Release) -> None:
    with pytest.raises(PolicyRefusal, match="is declared as 'unprotected'"):
        ALLOWED.check_message(Message(LATENTS, b"", release), ("hub",), RUN)


@pytest.mark.parametrize("release", [NoData(), TRUE_WORDS, Spend(mechanism={}, delta=1e-6)])
def test_a_kind_that_no_protocol_declares_does_not_leave_whatever_it_says(release: Release) -> None:
    with pytest.raises(PolicyRefusal, match="declared nowhere"):
        ALLOWED.check_message(Message("x", b"", release), ("hub",), RUN)


def test_synthetic_columns_go_only_to_whom_the_policy_names() -> None:
    columns = Message(TABLE, b"", Unprotected(reason=TABLE_REASON))
    ALLOWED.check_message(columns, ("south",), None)
    with pytest.raises(PolicyRefusal, match="to west"):
        ALLOWED.check_message(columns, ("south", "west"), None)
