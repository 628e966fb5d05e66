"""The silo's own word: what may be run, what may leave, and who may have it. No hub ever writes this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

import protocols
from protocols.learning.schema import Columns, Identifier
from protocols.spec import RunSpec
from services.artifact import Name, Unprotected, canonical_json, digest
from services.contract import Message
from services.courier import CONTROL
from services.errors import PolicyRefusal
from services.ledger import Budget
from services.trust import CATALOG
from services.trust.catalog import SEAL

TABLE = "product.table"
TABLE_REASON = "synthetic columns without differential privacy: they can resemble real people"
_OWN = {TABLE: "unprotected", CATALOG: "derived", SEAL: "derived"}
"""What the program itself sends beside control messages, and what it says of each."""


class DeclaredTable(BaseModel):
    """What this silo itself declares public about its table.

    Attributes:
        identifier: the column that is a person: under another one, a person's privacy would be counted by the visit.
        columns: the public schema. Joining or declining a run tells whether the rows fit what the run declares; where
            that is what is declared here, nobody outside chooses the question.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    identifier: Identifier
    columns: Columns


class Policy(BaseModel):
    """What this silo allows.

    Attributes:
        protocols: protocols that may run here.
        unprotected: what may leave without a privacy claim: a kind of artifact, and the sentence that says what
            that means; the sentence must be the protocol's own, word for word, so that nobody agrees unread.
        minimum_rows: the fewest common training records that a run may have.
        approval: whether a person approves each run (`silo-agent approve RUN`).
        release_to: members that this silo's synthetic columns may be released to.
        pool_epsilon: the most ε that somebody else's generator may have cost its people, to be pulled here.
        datasets: what may be released about each data set under differential privacy; one not named here is refused.
        table: what runs may say of this silo's columns, word for word; None lets runs say it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocols: tuple[str, ...] = Field(default=(), description="protocols that may run here")
    unprotected: dict[str, str] = Field(
        default_factory=dict, description="kinds that may leave without a privacy claim, each with its sentence"
    )
    minimum_rows: int = Field(default=100, ge=2, description="the fewest common training records of a run")
    approval: Literal["manual", "automatic"] = Field(default="manual", description="whether a person approves runs")
    release_to: tuple[Name, ...] = Field(default=(), description="members that synthetic columns may go to")
    datasets: dict[Name, Budget] = Field(
        default_factory=dict, description="data sets that may be released under differential privacy, with budgets"
    )
    table: DeclaredTable | None = Field(
        default=None, description="the identifier and columns as runs must declare them; without it, runs say it"
    )
    pool_epsilon: float = Field(
        default=10.0, gt=0, le=1000, description="the most ε of a generator that is pulled from the pool"
    )

    def check_run(self, protocol: str, needs: Mapping[str, str]) -> None:
        """Refuse a run before anything is computed for it.

        Args:
            protocol: the run's protocol.
            needs: what leaves unprotected under it, and each kind's sentence.

        Raises:
            PolicyRefusal: the protocol, or something that it must send, is not allowed.
        """
        if protocol not in self.protocols:
            raise PolicyRefusal(
                f"the policy does not allow the protocol {protocol!r}", fix="add it under `protocols` if you agree"
            )
        for kind, sentence in needs.items():
            self._check_unprotected(kind, sentence)

    def check_table(self, columns: Columns, identifier: Identifier | None) -> None:
        """Refuse a run that says of this silo's table what the silo does not; no row is looked at.

        Args:
            columns: what the run declares of this silo's columns.
            identifier: and of the column that is the person.

        Raises:
            PolicyRefusal: it differs from what the policy declares, where that declares anything.
        """
        if self.table is None or not columns:
            return
        others = [name for name, column in columns.items() if self.table.columns.get(name) != column]
        if others or identifier != self.table.identifier:
            what = f"the columns {', '.join(sorted(others)[:5])}" if others else "the identifier"
            raise PolicyRefusal(
                f"the run declares {what} otherwise than the policy's `table`",
                fix="agree with the consortium on one public schema, and write it under `table`",
            )

    @property
    def version(self) -> str:
        """What the audit log says of the policy that allowed something."""
        return digest(canonical_json(self.model_dump(mode="json")))

    def check_message(self, message: Message, recipients: Sequence[str], spec: RunSpec | None) -> str:
        """Refuse an artifact that may not leave; returns the version of this policy.

        Args:
            message: the artifact.
            recipients: who is to have it.
            spec: what the run that it belongs to has agreed on; None where it belongs to none.

        Raises:
            PolicyRefusal: its release is not allowed, or not to these recipients, or claims more than is true, or its
                run does not call for it.
        """
        declared = "no-data" if message.kind.startswith(CONTROL) else _OWN.get(message.kind)
        declared = declared or protocols.release_of(message.kind)
        if message.release.release != declared:
            raise PolicyRefusal(
                f"{message.kind!r} was labelled {message.release.release!r} and is declared "
                + (f"as {declared!r}" if declared else "nowhere"),
                fix="this is a fault of the program: report it",
                kept="nothing was sealed",
            )
        if isinstance(message.release, Unprotected):
            self._check_unprotected(message.kind, message.release.reason)
            if message.kind not in _OWN and (spec is None or message.kind not in protocols.unprotected(spec)):
                raise PolicyRefusal(
                    f"the run does not call for {message.kind!r} to leave unprotected",
                    fix="this is a fault of the program: report it",
                    kept="nothing was sealed",
                )
        if message.kind == TABLE and (others := sorted(set(recipients) - set(self.release_to))):
            raise PolicyRefusal(
                f"the policy does not release synthetic columns to {', '.join(others)}",
                fix="add them under `release_to` if you agree",
            )
        return self.version

    def _check_unprotected(self, kind: str, sentence: str) -> None:
        if self.unprotected.get(kind) != sentence:
            raise PolicyRefusal(
                f"the policy does not let {kind!r} leave unprotected",
                fix=f'if you agree, write under `unprotected`:  {kind}: "{sentence}"',
            )
