"""The one door: what leaves is checked, sealed and recorded before it leaves; what arrives is verified, then opened.

`outgoing` is the half that sends, `incoming` the half that receives; they share the ports and the state file, and
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from services.courier.door import CONTROL, OUTLIVING, Door, Equivocation, Guard, RunOver
from services.courier.incoming import Incoming
from services.courier.outgoing import Outgoing
from services.courier.past import Past
from services.keys import SealingKey
from services.state import State

__all__ = ["CONTROL", "OUTLIVING", "Courier", "Door", "Equivocation", "Guard", "RunOver"]


class Courier:
    """Carries artifacts for one party; safe to call from the worker's and the wire's thread.

    What it does is documented at its halves, `Outgoing` and `Incoming`, and at `Past`.

    Args:
        state: the party's state, held for writing.
        door: keys, store, bus and trust.
        run_key: returns this party's private key of a run, or None when it does not exist (any more).
        guard: the party's policy.
        clock: the present, for tests that move it.
    """

    def __init__(
        self,
        state: State,
        door: Door,
        run_key: Callable[[str], SealingKey | None],
        guard: Guard,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.me = door.ring.name
        self.outgoing = Outgoing(state, door, guard, clock)
        self.incoming = Incoming(state, door, run_key, clock)
        self.send = self.outgoing.send
        self.publish = self.outgoing.publish
        self.everybody = self.outgoing.everybody
        self.deliver = self.outgoing.deliver
        past = Past(state, door)
        self.check_own_past = past.check_own_past
        self.look_back = past.look_back
        self.owes = self.outgoing.owes
        self.purge = self.outgoing.purge
        self.delete = self.outgoing.delete
        self.hear = self.incoming.hear
        self.reconcile = self.incoming.reconcile
        self.accept = self.incoming.accept
        self.close = door.bus.close
