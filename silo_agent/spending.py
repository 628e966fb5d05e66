"""What runs spend on this silo's data set: asked of the ledger before a run is joined, reserved before work begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import protocols
from protocols.spec import parse_spec
from services.artifact import Spend
from services.errors import BudgetRefusal
from services.ledger import Charge, Ledger
from services.mechanism import Mechanism
from services.metrics import REFUSED
from services.runs import Run
from services.state import State
from silo_agent.policy import Policy

BY_POLICY = "the policy (automatic approval)"


class Spending:
    """The ledger as this silo's policy grants it.

    Args:
        state: the silo's state.
        dataset: the name under which the policy registers the silo's table.
        policy: reads the policy as it stands now.
        clock: the present.
    """

    def __init__(self, state: State, dataset: str, policy: Callable[[], Policy], clock: Callable[[], datetime]) -> None:
        self._state = state
        self._dataset = dataset
        self._policy = policy
        self._clock = clock
        self._ledger = Ledger(state)
        self._refused = REFUSED.labels(dataset)

    def check(self, run: Run) -> None:
        """Refuse a run whose release the ledger would not allow; nothing is written.

        Raises:
            BudgetRefusal: the data set is not registered, or its budget for a run or for life is exceeded.
        """
        if (spend := protocols.spends(parse_spec(run.spec))) is not None:
            with self._counted():
                self._ledger.check(run.run, self._charge(spend), self._policy().datasets.get(self._dataset))

    def reserve(self, run: str, step: str, spend: Spend) -> None:
        """See `services.purse.Reserve`."""
        with self._counted():
            self._ledger.reserve(
                run, step, self._charge(spend), self._policy().datasets.get(self._dataset),
                at=self._clock(), approver=self._state.fact(f"approved:{run}") or BY_POLICY,
            )  # fmt: skip

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except BudgetRefusal:
            self._refused.inc()
            raise

    def _charge(self, spend: Spend) -> Charge:
        return Charge(self._dataset, Mechanism.model_validate(spend.mechanism), spend.delta)
