"""Every change of the federation's trust: founding, admitting, retiring, renewing, changing keys and keyholders.

Each makes a draft of what is to hold next. Where enough keyholders' keys are at hand, in the folder that the
configuration names, it is signed and published at once; otherwise the draft is a file for the keyholders to sign. One
waits for them at a time: of two that follow the same version only one could ever be published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tuf.api.metadata import Metadata, Root

from coordinator.credentials import Issuer
from coordinator.settings import CoordinatorConfig
from coordinator.trust import keyholders
from coordinator.trust.draft import Draft
from coordinator.trust.metadata import ROOT_LIFE, holders_of, make_root, make_targets, roster_bytes
from coordinator.trust.repository import Repository
from services.certificates import make_key, write_key
from services.certificates import request as certificate_request
from services.documents import write_document
from services.enrolment import (
    STORE_CREDENTIALS,
    TLS_AUTHORITY,
    TLS_CERTIFICATE,
    TLS_KEY,
    Request,
    admission,
    read_limited,
    read_request,
)  # fmt: skip
from services.errors import StoreError, TrustError
from services.files import private_folder, write_atomic
from services.keyring import KeyRing
from services.keys import PublicIdentity, VerifyKey
from services.trust import FormerKey, Roster
from services.trust.root import PINNED, pin, root_fingerprint
from services.wiring import load_keys, open_store, trust_folder, wall_clock


@dataclass(frozen=True)
class Outcome:
    """What became of a change.

    Attributes:
        version: the trust's version that it leads to.
        fingerprint: of the root that will be in force.
        lacks: how many keyholders must still sign; 0 when it is published.
        draft: where the draft lies for them; None when it is published.
        shown: whether the store has it already; the running coordinator brings it there otherwise.
    """

    version: int
    fingerprint: str
    lacks: int
    draft: Path | None
    shown: bool


def repository(config: CoordinatorConfig) -> Repository:
    """The coordinator's master copy of the trust repository."""
    return Repository(config.home / "repository", config.federation, wall_clock)


def fingerprint(config: CoordinatorConfig) -> str:
    """What silos compare before they pin the root in force.

    Raises:
        TrustError: it was not signed yet.
    """
    return root_fingerprint(repository(config).root_bytes)


def found(config: CoordinatorConfig, holders: Mapping[str, VerifyKey], threshold: int) -> Outcome:
    """Make the coordinator's keys, and found the federation with it as the only member.

    Args:
        config: the coordinator's configuration.
        holders: the keyholders by their names.
        threshold: how many of them must sign each change.

    Raises:
        TrustError: there are keys already.
    """
    _check_threshold(holders, threshold)
    ring = KeyRing.create(config.home, config.name)
    _certify(config)
    store = repository(config)
    root = make_root(1, holders, threshold, store.draw_online().public, wall_clock())
    roster = Roster(federation=config.federation, coordinator=config.name, members={ring.name: ring.public})
    return _change(config, store, roster, root)


def read_enrolment(config: CoordinatorConfig, path: Path) -> tuple[Request, VerifyKey | None]:
    """An enrolment request, and the member's key that vouches for it, where a member changes its keys.

    Raises:
        TrustError: the request does not hold.
    """
    return read_request(read_limited(path), config.federation)


def admit(config: CoordinatorConfig, request: Request, former: VerifyKey | None, target: Path) -> Outcome | None:
    """Take a silo into the roster, or its new keys, and write its admission file; None when the roster names it so.

    Raises:
        TrustError: the name belongs to other keys, the certificate request does not hold, or another change waits for
            signatures.
    """
    store, silo = repository(config), request.identity
    roster = store.roster
    known = roster.members.get(silo.name)
    if known is not None and known != silo and known.verify != former:
        raise TrustError(
            f"{silo.name} is a member already, with other keys",
            fix="a member changes its keys by `silo-agent rotate`; one that lost them must be retired first",
            kept="the roster stays as it is",
        )
    draft = _draft(config, store, _renewed(config, roster, silo)) if known != silo else None
    issuer = Issuer(config.home, config.federation)
    data = admission(
        config.federation,
        silo,
        root=store.root_bytes,
        authority=issuer.authority.pem,
        certificate=issuer.certificate(silo.name, request.certificate_request.encode()),
        credentials=issuer.credentials(silo.name),
    )
    outcome = _settle(config, store, draft) if draft is not None else None
    write_document(target, data)
    return outcome


def retire(config: CoordinatorConfig, name: str) -> Outcome:
    """Take a member off the roster.

    Raises:
        TrustError: it is no member, or the coordinator itself.
    """
    store = repository(config)
    roster = store.roster
    if name not in roster.members or name == roster.coordinator:
        raise TrustError(
            f"{name} is no silo of {config.federation}",
            fix=f"silos: {', '.join(sorted(set(roster.members) - {roster.coordinator})) or 'none'}",
        )
    members = {one: keys for one, keys in roster.members.items() if one != name}
    former = {one: keys for one, keys in roster.former.items() if one != name}
    return _change(config, store, roster.model_copy(update={"members": members, "former": former}))


def renew(config: CoordinatorConfig) -> Outcome:
    """Have the same members signed anew, so that the roster lives on; and a new root after half of its life."""
    store = repository(config)
    root = store.root.signed
    old = root.expires - wall_clock() < ROOT_LIFE / 2
    return _change(config, store, store.roster, _next_root(root) if old else None)


def change_keys(config: CoordinatorConfig) -> Outcome:
    """Change the coordinator's own keys: those of its identity, and the online key.

    The identity turns to the new ones when the running coordinator sees the roster that names them.
    """
    store, ring = repository(config), load_keys(config)
    after = ring.draw_next().public
    root = _next_root(store.root.signed, online=store.draw_online().public)
    return _change(config, store, _renewed(config, store.roster, after), root)


def change_keyholders(config: CoordinatorConfig, holders: Mapping[str, VerifyKey], threshold: int) -> Outcome:
    """Have others hold the keys; enough of the present keyholders and of the new ones must sign."""
    _check_threshold(holders, threshold)
    store = repository(config)
    return _change(config, store, store.roster, _next_root(store.root.signed, holders=holders, threshold=threshold))


def publish(config: CoordinatorConfig, drafts: list[Path]) -> Outcome:
    """Publish a draft that enough keyholders have signed, in one file or in copies.

    Raises:
        TrustError: it is not, or it does not follow what is in force.
    """
    first, *others = [Draft.read(path) for path in drafts]
    return _publish(config, repository(config), first.merge(others))


def _change(
    config: CoordinatorConfig, store: Repository, roster: Roster, root: Metadata[Root] | None = None
) -> Outcome:
    return _settle(config, store, _draft(config, store, roster, root))


def _draft(config: CoordinatorConfig, store: Repository, roster: Roster, root: Metadata[Root] | None = None) -> Draft:
    """The draft of a change; the one that waits for signatures, where it says the same.

    Raises:
        TrustError: one that waits says something else.
    """
    before = store.root if store.founded else None
    version = store.targets.version + 1 if store.founded else 1
    now = wall_clock()
    former = {
        name: alive for name, keys in roster.former.items() if (alive := tuple(one for one in keys if one.until > now))
    }
    roster = roster.model_copy(update={"former": former})
    targets = make_targets(version, roster, now + timedelta(days=config.roster_days))
    draft = Draft.make(before, root, targets, roster_bytes(roster))
    path = _path(config, version)
    if not store.founded or not path.exists():
        return draft
    waiting = Draft.read(path)
    if waiting.new_targets.signed.expires <= now:
        return draft
    if (waiting.roster, waiting.root) != (draft.roster, draft.root):
        raise TrustError(
            f"another change waits for signatures, in {path}",
            fix="have it signed and publish it, or delete the file to drop that change; then make this one again",
            kept="that draft with its signatures, and what is in force",
        )
    return waiting


def _settle(config: CoordinatorConfig, store: Repository, draft: Draft) -> Outcome:
    """Sign a draft with the keys at hand; publish it, or leave it to the other keyholders."""
    for key in keyholders.present(config.keyholders):
        if draft.lacks() and draft.asks(key.public):
            draft = draft.sign(key)
    if not (lacks := draft.lacks()):
        return _publish(config, store, draft)
    version = draft.new_targets.signed.version
    draft.write(path := _path(config, version))
    return Outcome(version, draft.fingerprint, lacks, path, shown=False)


def _path(config: CoordinatorConfig, version: int) -> Path:
    """Where the draft of a version lies for the keyholders."""
    return config.keyholders.parent / f"draft-{version}.json"


def _publish(config: CoordinatorConfig, store: Repository, draft: Draft) -> Outcome:
    store.publish(draft)
    Issuer(config.home, config.federation).keep_only(store.roster.members)
    folder = trust_folder(config)
    if not (folder / PINNED).exists():
        pin(folder, store.root_bytes)
    try:
        store.upload(open_store(config.store))
        shown = True
    except StoreError:
        shown = False  # the running coordinator brings it there
    return Outcome(store.targets.version, draft.fingerprint, 0, None, shown)


def _renewed(config: CoordinatorConfig, roster: Roster, identity: PublicIdentity) -> Roster:
    """The roster with a member's keys; those that it gives up hold for a grace."""
    members, former = {**roster.members, identity.name: identity}, dict(roster.former)
    if (old := roster.members.get(identity.name)) is not None and old.verify != identity.verify:
        given_up = FormerKey(verify=old.verify, until=wall_clock() + timedelta(days=config.grace_days))
        former[identity.name] = (*former.get(identity.name, ()), given_up)
    return roster.model_copy(update={"members": members, "former": former})


def _next_root(
    root: Root,
    *,
    holders: Mapping[str, VerifyKey] | None = None,
    threshold: int | None = None,
    online: VerifyKey | None = None,
) -> Metadata[Root]:
    """The root that follows, with what is not named as it was."""
    (online_id,) = root.roles["timestamp"].keyids
    return make_root(
        root.version + 1,
        holders or holders_of(root),
        threshold or root.roles["root"].threshold,
        online or VerifyKey(root.get_key(online_id).keyval["public"]),
        wall_clock(),
    )


def _check_threshold(holders: Mapping[str, VerifyKey], threshold: int) -> None:
    if not 1 <= threshold <= len(holders):
        raise TrustError(
            f"{threshold} of {len(holders)} keyholders cannot sign", fix="name at least as many keyholders as must sign"
        )


def _certify(config: CoordinatorConfig) -> None:
    """Give the coordinator its own certificate and store credentials for the wire."""
    issuer, key = Issuer(config.home, config.federation), make_key()
    private_folder((config.home / TLS_KEY).parent)
    write_key(config.home / TLS_KEY, key)
    write_atomic(config.home / TLS_CERTIFICATE, issuer.certificate(config.name, certificate_request(key, config.name)))
    write_atomic(config.home / TLS_AUTHORITY, issuer.authority.pem)
    issuer.credentials(config.name).write(config.home / STORE_CREDENTIALS)
