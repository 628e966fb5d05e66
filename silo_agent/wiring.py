"""Stands a silo's parts on each other as its configuration says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import protocols
from protocols.learning import gpu
from protocols.spec import parse_spec
from services.contract import Context, Message
from services.control import Handler
from services.errors import NotYet
from services.home import holds_party
from services.runs import Run
from services.serving import Opened
from services.trust.root import pinned
from services.trust.tuf import News, TufTrust
from services.watch import Watch
from services.wiring import Assembly, assemble, load_keys, open_bus, open_store, trust_folder, wall_clock
from silo_agent.checks import check_data
from silo_agent.desk import SiloDesk
from silo_agent.pool import commands as pool_commands
from silo_agent.product import table_message
from silo_agent.settings import SiloConfig, load_policy
from silo_agent.spending import Spending


def open_party(config: SiloConfig) -> Opened:
    """The silo, ready to serve.

    Raises:
        SilokitError: as `build`.
    """
    parts = build(config)
    spending = Spending(parts.state, config.dataset, lambda: load_policy(config), parts.clock)
    desk = SiloDesk(
        parts,
        lambda: load_policy(config),
        check_data=lambda run: check_data(config, run.spec),
        check_budget=spending.check,
        outputs=config.outputs,
    )

    def release(run: str, to: list[str]) -> str:
        return desk.release(run, table_message(config.outputs / run), tuple(to))

    handlers: dict[str, Handler] = {
        "approve": desk.approve,
        "decline": desk.decline,
        "release": release,
        "purge": parts.purge,
        **pool_commands.handlers(parts, config, desk.shelf),
    }
    party = parts.party(desk)
    watch = Watch(parts, party, "silo", budgets=lambda: load_policy(config).datasets, gpu=gpu.memory)
    return Opened(party, handlers, watch)


def build(config: SiloConfig) -> Assembly:
    """The silo's parts, from its configuration.

    Raises:
        NotYet: it has no keys yet, or has not been admitted.
        SilokitError: keys, trust, store, bus or state cannot be used.
    """
    if not holds_party(config.home):  # keys drawn here and now would leave no room for a backup to come back
        raise NotYet("this silo has no keys yet", fix="run `silo-agent enroll`, or bring a backup back")
    ring = load_keys(config)
    pinned(trust_folder(config))

    def guard(run: str, message: Message, recipients: Sequence[str]) -> str:
        known = parts.book.find(run)
        spec = parse_spec(known.spec) if known else None
        return load_policy(config).check_message(message, recipients, spec)

    def context(run: Run, workspace: Path) -> Context:
        return Context(
            run=run.run, spec=run.spec, me=config.name, coordinator=run.coordinator, silos=run.silos,
            workspace=workspace, data=config.data, minimum_rows=load_policy(config).minimum_rows, device=config.device,
        )  # fmt: skip

    store = open_store(config.store)

    def trust(news: News) -> TufTrust:
        return TufTrust(config.federation, trust_folder(config), store, wall_clock, news)

    parts = assemble(
        config=config,
        ring=ring,
        trust=trust,
        store=store,
        bus=open_bus(config),
        guard=guard,
        load=lambda name: protocols.half(name, "silo"),
        context=context,
        reserve=lambda state: Spending(state, config.dataset, lambda: load_policy(config), wall_clock).reserve,
    )
    return parts
