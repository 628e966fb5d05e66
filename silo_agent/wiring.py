"""Stands a silo's parts on each other as its configuration says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import protocols
from services.contract import Context, Message
from services.runs import Run
from services.trust.tuf import News, TufTrust
from services.wiring import Assembly, assemble, load_keys, open_bus, open_store, trust_folder, wall_clock
from silo_agent.settings import SiloConfig, load_policy
from silo_agent.spending import Spending


def build(config: SiloConfig) -> Assembly:
    """The silo's parts, from its configuration.

    Raises:
        SilokitError: keys, trust, store, bus or state cannot be used.
    """

    def guard(_run: str, message: Message, recipients: Sequence[str]) -> str:
        return load_policy(config).check_message(message, recipients)

    def context(run: Run, workspace: Path) -> Context:
        return Context(
            run=run.run, spec=run.spec, me=config.name, coordinator=run.coordinator, silos=run.silos,
            workspace=workspace, data=config.data, minimum_rows=load_policy(config).minimum_rows, device=config.device,
        )  # fmt: skip

    store = open_store(config.store)

    def trust(news: News) -> TufTrust:
        return TufTrust(config.federation, trust_folder(config), store, wall_clock, news)

    return assemble(
        config=config,
        ring=load_keys(config),
        trust=trust,
        store=store,
        bus=open_bus(config),
        guard=guard,
        load=lambda name: protocols.half(name, "silo"),
        context=context,
        reserve=lambda state: Spending(state, config.dataset, lambda: load_policy(config), wall_clock).reserve,
    )
