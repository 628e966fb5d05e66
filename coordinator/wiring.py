"""Stands the coordinator's parts on each other as its configuration says."""

from __future__ import annotations

from pathlib import Path

import protocols
from coordinator import roster
from coordinator.desk import CoordinatorDesk
from coordinator.settings import CoordinatorConfig
from coordinator.trust.kept import KeptTrust
from protocols.learning import gpu
from services.contract import Context
from services.control import Handler
from services.errors import NotYet
from services.home import holds_party
from services.runs import Run
from services.serving import Opened
from services.trust.root import pinned
from services.trust.tuf import News
from services.watch import Watch
from services.wiring import Assembly, assemble, load_keys, open_bus, open_store, trust_folder, wall_clock


def open_party(config: CoordinatorConfig) -> Opened:
    """The coordinator, ready to serve.

    Raises:
        SilokitError: as `build`.
    """
    parts = build(config)
    desk = CoordinatorDesk(parts, roster.repository(config).adopt)
    handlers: dict[str, Handler] = {"submit": desk.submit, "cancel": desk.cancel, "purge": parts.purge}
    party = parts.party(desk)
    return Opened(party, handlers, Watch(parts, party, "coordinator", budgets=dict, gpu=gpu.memory))


def build(config: CoordinatorConfig) -> Assembly:
    """The coordinator's parts, from its configuration.

    Raises:
        NotYet: its federation was not founded.
        SilokitError: keys, trust, store, bus or state cannot be used.
    """

    def context(run: Run, workspace: Path) -> Context:
        return Context(
            run=run.run, spec=run.spec, me=config.name, coordinator=config.name, silos=run.silos,
            workspace=workspace, device=config.device, processes=config.processes,
        )  # fmt: skip

    if not holds_party(config.home):
        raise NotYet("this coordinator has not founded its federation yet", fix="run `coordinator found`")
    repository = roster.repository(config)
    repository.require_founded()
    pinned(trust_folder(config))
    store = open_store(config.store)

    def trust(news: News) -> KeptTrust:
        return KeptTrust(
            repository, store, federation=config.federation, folder=trust_folder(config), clock=wall_clock, news=news
        )

    return assemble(
        config=config,
        ring=load_keys(config),
        trust=trust,
        store=store,
        bus=open_bus(config),
        guard=lambda _run, _message, _to: "",  # what reaches the coordinator has passed the silos' policies
        load=lambda name: protocols.half(name, "coordinator"),
        context=context,
    )
