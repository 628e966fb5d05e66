"""The ledger proves itself: its chain is whole, its sums are its records', and what left is what was paid for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from services.artifact import POOL, Header, Spend
from services.chain import Chain
from services.errors import InvalidArtifact, StateError
from services.ledger.entry import LEDGER, Entry, entries, same, text_of
from services.seal import read_manifest
from services.state import State, now_text


def verify(state: State, chain: Chain) -> int:
    """See `Ledger.verify`."""
    headers = _headers(state)
    count = chain.verify(header.heads[LEDGER] for header in headers.values() if LEDGER in header.heads)
    charges = _replay(chain)
    if (wrong := _differing(state, charges)) is not None:
        raise _broken(f"the sums in the state file are not those of the ledger: {wrong}")
    paid = {row["digest"]: (row["run"], entry) for row, entry in charges.values() if row["digest"]}
    released = {digest: header for digest, header in headers.items() if isinstance(header.release, Spend)}
    if missing := paid.keys() - released.keys():
        raise _broken(f"the ledger has paid for {len(missing)} releases that are not in the outbox")
    for digest, header in released.items():
        if digest not in paid or not _covers(*paid[digest], header):
            raise _broken(f"a {header.kind} of run {header.run} left that the ledger has not paid for")
    return count


def _headers(state: State) -> dict[str, Header]:
    out = {}
    for row in state.rows("SELECT run, digest, manifest FROM outbox"):
        try:
            claim = read_manifest(bytes(row["manifest"]))
        except (InvalidArtifact, TypeError) as error:  # text where bytes belong is no manifest either
            raise _broken(f"the outbox of run {row['run']} holds a manifest that is none") from error
        if claim.digest != row["digest"]:
            raise _broken(f"the outbox of run {row['run']} holds another manifest than it says")
        out[claim.digest] = claim.header
    return out


def _replay(chain: Chain) -> dict[tuple[str, str], tuple[dict[str, Any], Entry]]:
    out: dict[tuple[str, str], tuple[dict[str, Any], Entry]] = {}
    for entry in entries(chain):
        key = (entry.run, entry.step)
        known = out.get(key)
        if (known is not None) == (entry.event == "reserved"):
            raise _broken(f"record {entry.number} of the ledger does not follow from those before it")
        if known is None:
            out[key] = (_row(entry), entry)
        elif known[0]["digest"] is not None or known[1].charge != entry.charge:
            raise _broken(f"record {entry.number} of the ledger contradicts an earlier one")
        else:
            known[0]["digest"] = entry.digest
    return out


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "run": entry.run, "step": entry.step, "dataset": entry.charge.dataset,
        "mechanism": text_of(entry.charge.mechanism), "delta": entry.charge.delta,
        "approver": entry.approver, "reserved": now_text(entry.at), "digest": None,
    }  # fmt: skip


def _differing(state: State, charges: Mapping[tuple[str, str], tuple[dict[str, Any], Entry]]) -> str | None:
    kept = {(row["run"], row["step"]): dict(row) for row in state.rows("SELECT * FROM charges")}
    for key in sorted(kept.keys() | charges.keys()):
        if key not in kept or key not in charges or kept[key] != charges[key][0]:
            return f"step {key[1]} of run {key[0]}"
    sums = {(row["dataset"], row["mechanism"]): row["times"] for row in state.rows("SELECT * FROM spent")}
    counted = Counter((row["dataset"], row["mechanism"]) for row, _ in charges.values())
    return None if sums == counted else "how often each mechanism was reserved"


def _covers(run: str, entry: Entry, header: Header) -> bool:
    release = header.release
    # what is published lies outside its run, in the pool
    return (
        isinstance(release, Spend)
        and header.run in {run, POOL}
        and same(release.mechanism, release.delta, entry.charge)
    )


def _broken(what: str) -> StateError:
    return StateError(what, fix="compare with a backup, and find out who could write to the state folder")
