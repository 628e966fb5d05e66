"""Enrolment: keys never travel, credentials open only for whom they are meant, and issuing again changes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from coordinator import roster
from coordinator.credentials import Issuer
from coordinator.settings import CoordinatorConfig
from coordinator.trust import keyholders
from coordinator.trust.draft import Draft
from services import certificates
from services.enrolment import (
    STORE_CREDENTIALS,
    TLS_AUTHORITY,
    TLS_CERTIFICATE,
    TLS_KEY,
    read_admission,
    read_request,
    write_request,
)  # fmt: skip
from services.errors import TrustError
from services.keyring import KeyRing
from services.store.credentials import read_credentials
from services.wiring import BusConfig, StoreConfig
from silo_agent import enrolment
from silo_agent.settings import SiloConfig

FED = "heart"


class Consortium:
    """A coordinator and two silos that want to join."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        wire = {"store": StoreConfig(folder=folder / "store"), "bus": BusConfig(sqlite=folder / "bus.sqlite")}
        self.hub = CoordinatorConfig(
            federation=FED, name="hub", home=folder / "hub", keyholders=folder / "keyholders", **wire
        )
        holder = keyholders.make("holder", self.hub.keyholders)
        self.root = roster.found(self.hub, {holder.name: holder.verify}, 1).fingerprint
        self.silos = {
            name: SiloConfig(federation=FED, name=name, home=folder / name, policy=folder / "policy.yaml", **wire)
            for name in ("north", "south")
        }
        for name, config in self.silos.items():
            KeyRing.create(config.home, name)
            enrolment.request(config, self.request(name))

    def request(self, name: str) -> Path:
        return self.folder / f"{name}.request"

    def admission(self, name: str) -> Path:
        return self.folder / f"{name}.admission"

    def admit(self, name: str) -> None:
        roster.admit(self.hub, *roster.read_enrolment(self.hub, self.request(name)), self.admission(name))

    def home(self, name: str) -> Path:
        return self.silos[name].home


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium(tmp_path)


def test_an_admitted_silo_has_all_it_needs_on_the_wire(consortium: Consortium) -> None:
    consortium.admit("north")
    enrolment.admit(consortium.silos["north"], consortium.admission("north"), consortium.root)
    home = consortium.home("north")
    certificate = certificates.read_certificate(home / TLS_CERTIFICATE)
    assert certificates.common_name(certificate) == "north"
    assert certificate.public_key() == certificates.read_key(home / TLS_KEY).public_key()
    certificate.verify_directly_issued_by(certificates.read_certificate(home / TLS_AUTHORITY))
    assert certificates.days_left(certificate, datetime.now(UTC)) > 30
    assert read_credentials(home / STORE_CREDENTIALS) == Issuer(consortium.hub.home, FED).credentials("north")
    assert (home / STORE_CREDENTIALS).stat().st_mode & 0o777 == 0o600


def test_the_founder_has_all_it_needs_on_the_wire(consortium: Consortium) -> None:
    home = consortium.hub.home
    assert certificates.common_name(certificates.read_certificate(home / TLS_CERTIFICATE)) == "hub"
    assert read_credentials(home / STORE_CREDENTIALS) == Issuer(home, FED).credentials("hub")


def test_no_private_key_and_no_secret_is_readable_in_what_travels(consortium: Consortium) -> None:
    consortium.admit("north")
    travelling = consortium.request("north").read_bytes() + consortium.admission("north").read_bytes()
    assert b"PRIVATE KEY" not in travelling
    assert Issuer(consortium.hub.home, FED).credentials("north").secret_key.encode() not in travelling


def test_another_silo_s_admission_is_of_no_use(consortium: Consortium) -> None:
    consortium.admit("north")
    consortium.admit("south")
    found = read_admission(consortium.admission("north").read_bytes())
    south, north = KeyRing(consortium.home("south")), KeyRing(consortium.home("north"))
    with pytest.raises(TrustError):
        found.open_credentials(south, FED)
    with pytest.raises(TrustError):
        found.open_credentials(north, "lung")
    swapped = json.loads(consortium.admission("south").read_bytes())
    swapped["credentials"] = found.credentials
    consortium.admission("south").write_text(json.dumps(swapped))
    with pytest.raises(TrustError, match="not made for the keys of south"):
        enrolment.admit(consortium.silos["south"], consortium.admission("south"), consortium.root)
    assert not (consortium.home("south") / STORE_CREDENTIALS).exists()


def test_a_certificate_request_in_another_s_name_is_refused(consortium: Consortium) -> None:
    key = certificates.make_key()
    ring = KeyRing(consortium.home("north"))
    write_request(ring.public, ring.signing, FED, certificates.request(key, "south"), consortium.request("north"))
    before = roster.repository(consortium.hub).targets.version
    with pytest.raises(TrustError):
        consortium.admit("north")
    assert roster.repository(consortium.hub).targets.version == before


def test_admitting_again_hands_out_the_same_credentials_and_touches_nobody_else_s(consortium: Consortium) -> None:
    for name in ("north", "south", "north"):
        consortium.admit(name)
        enrolment.admit(consortium.silos[name], consortium.admission(name), consortium.root)
    issuer = Issuer(consortium.hub.home, FED)
    kept = {name: read_credentials(consortium.home(name) / STORE_CREDENTIALS) for name in consortium.silos}
    assert kept == {name: issuer.credentials(name) for name in consortium.silos}
    issuer.keep_only({"hub", "south"})
    assert Issuer(consortium.hub.home, FED).credentials("north") != kept["north"]
    assert Issuer(consortium.hub.home, FED).credentials("south") == kept["south"]


def test_a_change_that_waits_for_signatures_is_not_overwritten_by_another(consortium: Consortium) -> None:
    drawer = consortium.hub.keyholders.rename(consortium.folder / "drawer")
    consortium.admit("north")
    draft = consortium.folder / "draft-2.json"
    waits = draft.read_bytes()
    for change in (lambda: consortium.admit("south"), lambda: roster.renew(consortium.hub)):
        with pytest.raises(TrustError, match=r"draft-2\.json") as told:
            change()
        assert "delete the file to drop" in told.value.fix
    assert not consortium.admission("south").exists()
    consortium.admit("north")  # the same change is no other
    assert draft.read_bytes() == waits
    drawer.rename(consortium.hub.keyholders)
    consortium.admit("north")
    consortium.admit("south")
    for name in consortium.silos:
        enrolment.admit(consortium.silos[name], consortium.admission(name), consortium.root)
    issuer = Issuer(consortium.hub.home, FED)
    kept = {name: read_credentials(consortium.home(name) / STORE_CREDENTIALS) for name in consortium.silos}
    assert kept == {name: issuer.credentials(name) for name in consortium.silos}
    assert set(roster.repository(consortium.hub).roster.members) == {"hub", "north", "south"}
    assert issuer.retired == ()


def test_a_change_that_nobody_signed_in_time_waits_no_more(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium.hub.keyholders.rename(consortium.folder / "drawer")
    consortium.admit("north")
    later = datetime.now(UTC) + timedelta(days=consortium.hub.roster_days + 1)
    monkeypatch.setattr(roster, "wall_clock", lambda: later)
    consortium.admit("south")
    assert set(Draft.read(consortium.folder / "draft-2.json").read_roster().members) == {"hub", "south"}


def test_enrolling_again_keeps_the_key_on_the_wire(consortium: Consortium) -> None:
    first, _ = read_request(consortium.request("north").read_bytes(), FED)
    enrolment.request(consortium.silos["north"], consortium.request("north"))
    again, _ = read_request(consortium.request("north").read_bytes(), FED)
    keys = [x509.load_pem_x509_csr(one.certificate_request.encode()).public_key() for one in (first, again)]
    assert keys[0] == keys[1]
