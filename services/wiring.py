"""Puts a party together: its configuration, the ports it names, and everything that stands on them.

The only place that knows which implementation stands behind a port.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self, cast

import structlog
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.functional_validators import AfterValidator

from services.artifact import Name, Spend
from services.bus import EventBus
from services.bus.rabbitmq import RabbitBus, RabbitConfig
from services.bus.sqlite import SqliteBus
from services.chain import AUDIT, Chain
from services.contract import Context, HalfFactory
from services.courier import Courier, Door, Guard
from services.errors import ConfigError, PolicyRefusal
from services.home import RUN_KEYS, TRUST_FOLDER
from services.host import Desk, Host
from services.keyring import KeyRing
from services.monitoring import MonitoringConfig
from services.party import Party
from services.purse import Purse, Reserve
from services.runs import Run, RunBook, RunKeys, UnknownRun
from services.state import LIVE, State
from services.store import ObjectStore, skew
from services.store.folder import FolderStore
from services.store.probe import StorePolicy, probe
from services.store.s3 import S3Config, S3Store
from services.trust import RESERVED_NAMES, departed
from services.trust.heed import heeding
from services.trust.tuf import News, TufTrust

Clock = Callable[[], datetime]
_log = structlog.get_logger()


def wall_clock() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


def _not_reserved(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError(f"{name!r} is taken by the federation itself: choose another name")
    return name


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreConfig(_Part):
    """Where sealed artifacts lie: exactly one of `folder` and `s3`."""

    folder: Path | None = Field(default=None, description="a folder that every party of the federation reaches")
    s3: S3Config | None = Field(default=None, description="a bucket of an S3 store")
    policy: StorePolicy = Field(default=StorePolicy(), description="what becomes of an S3 store that lacks something")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.folder is None) == (self.s3 is None):
            raise ValueError("name exactly one of `folder` and `s3`")
        return self

    def located(self, base: Path) -> Self:
        """The same configuration with every path made absolute from `base`."""
        folder = base / self.folder if self.folder else None
        s3 = self.s3.located(base) if self.s3 else None
        return self.model_copy(update={"folder": folder, "s3": s3})


class BusConfig(_Part):
    """Where notices are queued: exactly one of these."""

    sqlite: Path | None = Field(default=None, description="an SQLite file that every party of the federation reaches")
    rabbitmq: RabbitConfig | None = Field(default=None, description="a RabbitMQ broker over mutual TLS")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.sqlite is None) == (self.rabbitmq is None):
            raise ValueError("name exactly one of `sqlite` and `rabbitmq`")
        return self

    def located(self, base: Path) -> Self:
        """The same configuration with every path made absolute from `base`."""
        sqlite = base / self.sqlite if self.sqlite else None
        rabbitmq = self.rabbitmq.located(base) if self.rabbitmq else None
        return self.model_copy(update={"sqlite": sqlite, "rabbitmq": rabbitmq})


class PartyConfig(_Part):
    """What both programs are told in their configuration file; relative paths start at that file."""

    federation: Name = Field(description="the federation's name")
    name: Annotated[Name, AfterValidator(_not_reserved)] = Field(description="this party's name in the federation")
    home: Path = Field(default=Path("state"), description="private folder for keys and state; one per party")
    outputs: Path = Field(default=Path("outputs"), description="where results go, a folder per run")
    store: StoreConfig
    bus: BusConfig
    monitoring: MonitoringConfig | None = Field(
        default=None, description="where health and metrics are served; nowhere without it"
    )
    device: str = Field(default="auto", pattern="^(auto|cpu|cuda(:[0-9]+)?)$", description="where to train")

    def located(self, base: Path) -> Self:
        """The same configuration with every path made absolute from `base`.

        Raises:
            ConfigError: what is private lies in the store's folder.
        """
        store = self.store.located(base)
        for key, path in (("home", base / self.home), ("outputs", base / self.outputs)):
            if store.folder and path.resolve().is_relative_to(store.folder.resolve()):
                raise ConfigError(
                    f"`{key}` ({path}) lies in the store's folder, which every party reads",
                    fix=f"point `{key}` at a private folder, or `store.folder` at one that holds the store alone",
                    kept="nothing was written",
                )
        return self.model_copy(
            update={
                "home": base / self.home,
                "outputs": base / self.outputs,
                "store": store,
                "bus": self.bus.located(base),
            }
        )


def open_store(config: StoreConfig) -> ObjectStore:
    """The object store that a configuration names; one that is away does not keep a party from starting.

    Raises:
        ConfigError: the credentials, the address or a file for TLS cannot be used.
        StoreError: the folder cannot be used.
    """
    if config.s3 is not None:
        return S3Store(config.s3)
    return FolderStore(cast(Path, config.folder))


def examine_store(config: PartyConfig, store: ObjectStore) -> list[str]:
    """What an S3 store lacks and the configuration tolerates, a sentence each; a folder is taken as it is.

    Raises:
        StoreRefused: it lacks what the configuration does not do without.
        StoreError: it does not answer, or does not let this party do its work.
    """
    if config.store.s3 is None:
        return []
    # whatever the parties are called, this is the prefix of another
    return probe(store, config.federation, config.name, f"not-{config.name}").judge(config.store.policy)


def open_bus(config: PartyConfig) -> EventBus:
    """The event bus that a configuration names; a broker that is away does not keep a party from starting.

    Raises:
        BusError: the SQLite file cannot be used.
    """
    if config.bus.rabbitmq is not None:
        return RabbitBus(config.bus.rabbitmq, config.federation, config.name)
    return SqliteBus(cast(Path, config.bus.sqlite), config.name)


def load_keys(config: PartyConfig) -> KeyRing:
    """The party's keys.

    Raises:
        TrustError: there are none.
        ConfigError: they are another party's.
    """
    ring = KeyRing(config.home)
    if ring.name != config.name:
        raise ConfigError(
            f"the keys in {config.home} belong to {ring.name}, the configuration says {config.name}",
            fix="name the party as its keys do, or point `home` at its own folder",
        )
    return ring


def trust_folder(config: PartyConfig) -> Path:
    """Where a party keeps the pinned root, and what it believed last."""
    return config.home / TRUST_FOLDER


@dataclass(frozen=True)
class Assembly:
    """A party's parts, standing on each other."""

    config: PartyConfig
    ring: KeyRing
    store: ObjectStore
    bus: EventBus
    state: State
    audit: Chain
    book: RunBook
    keys: RunKeys
    trust: TufTrust
    courier: Courier
    host: Host
    purse: Purse
    clock: Clock

    def party(self, desk: Desk) -> Party:
        """The party, ready to run."""
        return Party(
            state=self.state, courier=self.courier, trust=self.trust, host=self.host, desk=desk,
            meet_store=self.meet_store, skew=lambda: skew(self.store, self.clock), purse=self.purse,
        )  # fmt: skip

    def end_without_members(self) -> None:
        """End the runs of which a participant has left the federation, as far as fresh trust tells."""
        for run in self.book.live():
            gone = departed(self.trust, (run.coordinator, *run.silos))
            if gone and self.book.move(run.run, "failed", self.clock(), f"{', '.join(gone)} left the federation"):
                self.host.interrupt(run.run)
                _log.warning("run ended", run=run.run, phase="failed", left=gone)

    def meet_store(self) -> None:
        """Find out whether the store can be trusted with the federation, and say what it lacks.

        Raises:
            StoreRefused, StoreError: as `examine_store`.
        """
        for lack in examine_store(self.config, self.store):
            _log.warning("the store lacks something", lack=lack)

    def purge(self, run: str) -> str:
        """Delete what this party published for a run that has ended, and destroy its run key.

        Raises:
            UnknownRun: there is no such run, it has not ended, or some of it has yet to leave.
            StoreError: the store does not answer.
        """
        found = self.book.get(run)
        if found.phase in LIVE:
            raise UnknownRun(f"run {run} is {found.phase}", fix="cancel or decline it first")
        if self.courier.owes(run):
            raise UnknownRun(
                f"what run {run} has yet to publish would come after the purge",
                fix="purge again when store and bus answer",
                kept="everything: nothing was deleted",
            )
        self.keys.destroy(run)
        count = self.courier.purge(run)
        self.audit.append("run purged", self.clock(), run=run, objects=count)
        return f"{count} objects of run {run} are deleted, its run key is destroyed; results in `outputs` stay"


def assemble(
    *,
    config: PartyConfig,
    ring: KeyRing,
    trust: Callable[[News], TufTrust],
    store: ObjectStore,
    bus: EventBus,
    guard: Guard,
    load: Callable[[str], HalfFactory],
    context: Callable[[Run, Path], Context],
    reserve: Callable[[State], Reserve] = lambda _: _spend_nothing,
    clock: Clock = wall_clock,
) -> Assembly:
    """Stand a party's parts on each other.

    Args:
        config: located configuration; its ports are not opened here.
        ring: the party's keys.
        trust: makes its trust, which is to tell what it believes.
        store: the federation's store.
        bus: the federation's bus, as this party.
        guard: what may leave.
        load: finds the factory of a protocol's half for this party's role.
        context: makes what a half may know about a run.
        reserve: makes, of its state, what asks its ledger before work that spends.
        clock: the present.

    Raises:
        StateError: another process is this party.
    """
    state = State(config.home)
    keys = RunKeys(config.home / RUN_KEYS)
    audit = Chain(state, AUDIT)
    believed = trust(heeding(config.home, ring, audit, clock))
    courier = Courier(state, Door(config.federation, ring, store, bus, believed), keys.find, guard, clock)
    purse = Purse(state, reserve(state), courier.look_back)
    host = Host(
        state=state, courier=courier, keys=keys, load=load, context=context, outputs=config.outputs,
        reserve=purse, clock=clock,
    )  # fmt: skip
    return Assembly(config, ring, store, bus, state, audit, RunBook(state), keys, believed, courier, host, purse, clock)


def _spend_nothing(_run: str, step: str, _spend: Spend) -> None:
    raise PolicyRefusal(f"{step!r} would spend privacy, and this party has no data set")
