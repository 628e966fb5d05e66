"""JSON from strangers: whatever the kit itself may write is read; what is more is refused before it costs anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.artifact import (
    MAX_JSON_DEPTH,
    MAX_JSON_VALUES,
    MAX_MANIFEST_BYTES,
    MAX_MANIFEST_VALUES,
    MAX_RECIPIENTS,
    canonical_json,
    parse_header,
    parse_json,
)
from services.errors import InvalidArtifact
from services.trust import MAX_CATALOG_BYTES
from services.trust.catalog import MAX_GENERATORS, MAX_SEALS

TEXTS = st.text(st.sampled_from('ab,[]{}:"\\é∀\n'), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def counted(value: Any) -> int:
    """How many values there are."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(counted, inner))


@given(VALUES)
def test_what_is_written_is_read_and_no_value_escapes_the_count(value: Any) -> None:
    text = canonical_json(value)
    count = counted(value)
    assert parse_json(text, most=2 * count) == value  # an empty container counts twice
    with pytest.raises(InvalidArtifact, match="holds more than"):
        parse_json(text, most=count - 1)


def test_brackets_and_commas_in_a_text_are_text() -> None:
    text = '"[{,' * 1000 + "\\"
    assert parse_json(canonical_json(text), most=1) == text


def test_a_document_as_deep_as_allowed_is_read_and_no_deeper_one() -> None:
    assert parse_json(canonical_json(nested(MAX_JSON_DEPTH))) == nested(MAX_JSON_DEPTH)
    with pytest.raises(InvalidArtifact, match="nests deeper"):
        parse_json(canonical_json(nested(MAX_JSON_DEPTH + 1)))


@pytest.mark.parametrize(
    "text",
    [
        "[" * MAX_MANIFEST_BYTES,
        "[" + "[]," * 340_000 + "[]]",
        '["' + '","' * 300_000 + '"]',
        "[" + "0," * 500_000 + "0]",
    ],
    ids=["brackets", "lists", "texts", "numbers"],
)
def test_too_many_values_are_refused_before_they_are_parsed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.artifact.json.loads", lambda *_, **__: pytest.fail("it was parsed"))
    with pytest.raises(InvalidArtifact, match=f"holds more than {MAX_JSON_VALUES} values"):
        parse_json(text.encode())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_no_encoding_hides_values(encoding: str) -> None:
    # as UTF-16, this letter holds the byte of a quotation mark
    text = '["\u2122", [], [], []]'
    assert parse_json(text.encode(encoding), most=9) == ["\u2122", [], [], []]
    with pytest.raises(InvalidArtifact, match="holds more than"):
        parse_json(text.encode(encoding), most=4)


def test_a_header_with_all_that_is_allowed_keeps_far_from_the_limit() -> None:
    digests = [f"{i:064x}" for i in range(1024)]
    single = {"event": "poisson-sampled-gaussian", "rate": 0.01, "noise_multiplier": 1.0}
    composed = {"event": "composed", "of": [{"event": "repeated", "count": 9, "of": single}] * 16}
    for release in (
        {"release": "derived", "digests": digests},
        {"release": "spend", "delta": 1e-5, "mechanism": {"partition": "label", "event": composed}},
    ):
        header = {
            "version": 1, "federation": "f", "run": "r", "sender": "north", "kind": "latents", "round": 0,
            "sequence": 1, "previous": None, "created": "2026-01-01T00:00:00Z", "expires": "2026-01-02T00:00:00Z",
            "recipients": digests[:MAX_RECIPIENTS], "schema_hash": None, "release": release,
            "heads": {f"chain-{i}": digests[0] for i in range(8)},
        }  # fmt: skip
        assert parse_header(canonical_json(header)).sender == "north"
        assert counted(header) < MAX_MANIFEST_VALUES / 2


def test_the_fullest_catalogs_and_specifications_are_read() -> None:
    named = {"run": "r", "kind": "sgde.generator", "release": "{}", "dataset": "d", "family": "f", "label": "l"}

    def catalog(generators: int, seals: int) -> dict[str, Any]:
        custom = {**named, "seals": ["0" * 64] * seals}
        target = {"length": 1, "hashes": {"sha256": "0" * 64}, "custom": custom}
        return {f"north/{i:064x}.generator": target for i in range(generators)}

    labels = [str(i) for i in range(1000)]
    column = {"type": "category", "categories": labels}
    full = {
        "many generators": (catalog(MAX_GENERATORS, 1), MAX_CATALOG_BYTES),
        "many seals": (catalog(800, MAX_SEALS), MAX_CATALOG_BYTES),
        "many categories": ({f"c{i}": column for i in range(160)}, MAX_MANIFEST_BYTES),
    }
    for name, (document, limit) in full.items():
        text = json.dumps(document, separators=(",", ":")).encode()
        assert 0.85 * limit < len(text), name
        assert parse_json(text, limit) == document
