"""The consortium's keeping of its roster: founding, admitting, renewing. Every version is signed by the root key.

The root key lies beside the coordinator's own keys. Whoever holds it decides who is a member: keep a copy offline.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import structlog

from coordinator.credentials import Issuer
from coordinator.settings import CoordinatorConfig
from services.certificates import make_key, write_key
from services.certificates import request as certificate_request
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
from services.keys import Identity, PublicIdentity, SigningKey, fingerprint, load_signing, save_private
from services.trust import Roster, read_roster, roster_key, sign_roster
from services.wiring import open_store, pin_root, wall_clock

_ROSTER_FILE = "roster.json"
_log = structlog.get_logger()


def found(config: CoordinatorConfig) -> str:
    """Make the coordinator's keys, the root key and the first roster; returns the root's fingerprint.

    Raises:
        TrustError: there are keys already.
    """
    identity = Identity.create(config.home / "keys", config.name)
    root = SigningKey.generate()
    save_private(config.home / "root.key", root)
    pin_root(config, root.public)
    _certify(config)
    _publish(config, {identity.name: identity.public}, version=1)
    return fingerprint(root.public.raw)


def root_fingerprint(config: CoordinatorConfig) -> str:
    """The fingerprint that silos compare before they pin the root."""
    return fingerprint(_root(config).public.raw)


def members(config: CoordinatorConfig) -> Roster:
    """The roster as it was published last.

    Raises:
        TrustError: there is none, or it was tampered with.
    """
    return read_roster(read_limited(config.home / _ROSTER_FILE), _root(config).public)


def admit(config: CoordinatorConfig, request: Request, target: Path) -> Roster:
    """Take a silo into the roster, publish it, and write the silo's admission file.

    Raises:
        TrustError: the name belongs to other keys, or the certificate request does not hold.
    """
    roster = members(config)
    silo = request.identity
    known = roster.members.get(silo.name)
    if known is not None and known != silo:
        raise TrustError(
            f"{silo.name} is a member already, with other keys",
            fix="give the new silo another name; a key change is a new enrolment after the old one was retired",
            kept="the roster stays as it is",
        )
    issuer = Issuer(config.home, config.federation)
    certificate = issuer.certificate(silo.name, request.certificate_request.encode())
    if known is None:
        roster = _publish(config, {**roster.members, silo.name: silo}, roster.version + 1)
    data = admission(
        config.federation,
        silo,
        root=_root(config).public,
        roster=read_limited(config.home / _ROSTER_FILE),
        authority=issuer.authority.pem,
        certificate=certificate,
        credentials=issuer.credentials(silo.name),
    )
    write_atomic(target, data, mode=0o644)
    return roster


def read_enrolment(config: CoordinatorConfig, path: Path) -> Request:
    """An enrolment request.

    Raises:
        TrustError: the request does not hold.
    """
    return read_request(read_limited(path), config.federation)


def renew(config: CoordinatorConfig) -> Roster:
    """Publish the same members anew, so that the roster lives on."""
    roster = members(config)
    return _publish(config, roster.members, roster.version + 1)


def publish(config: CoordinatorConfig) -> None:
    """Publish the roster, where the store was away when it was made.

    Raises:
        TrustError: there is none, or the store holds another of its version.
        StoreError: the store does not answer.
    """
    _upload(config, members(config).version, read_limited(config.home / _ROSTER_FILE))


def _certify(config: CoordinatorConfig) -> None:
    """Give the coordinator its own certificate and store credentials for the wire."""
    issuer, key = Issuer(config.home, config.federation), make_key()
    private_folder((config.home / TLS_KEY).parent)
    write_key(config.home / TLS_KEY, key)
    write_atomic(config.home / TLS_CERTIFICATE, issuer.certificate(config.name, certificate_request(key, config.name)))
    write_atomic(config.home / TLS_AUTHORITY, issuer.authority.pem)
    issuer.credentials(config.name).write(config.home / STORE_CREDENTIALS)


def _publish(config: CoordinatorConfig, people: dict[str, PublicIdentity], version: int) -> Roster:
    now = wall_clock()
    roster = Roster(
        federation=config.federation,
        version=version,
        created=now,
        expires=now + timedelta(days=config.roster_days),
        coordinator=config.name,
        members=people,
    )
    data = sign_roster(roster, _root(config))
    try:
        _upload(config, version, data)
    except StoreError as error:  # it may not even exist: `provision` writes, from this roster, what it needs to know
        _log.warning("the roster is kept here; `coordinator serve` publishes it", reason=error.what)
    write_atomic(config.home / _ROSTER_FILE, data)
    return roster


def _upload(config: CoordinatorConfig, version: int, data: bytes) -> None:
    store, key = open_store(config.store), roster_key(config.federation, version)
    if not store.put(key, data) and store.read(key, 1 << 24) != data:
        raise TrustError(
            f"the store holds another roster of version {version}",
            fix="if this state folder was restored from an old backup, restore the newest one",
        )


def _root(config: CoordinatorConfig) -> SigningKey:
    return load_signing(config.home / "root.key")
