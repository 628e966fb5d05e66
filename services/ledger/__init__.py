"""The privacy ledger: what a silo's data sets have paid for what left the house, for life, on a hash chain.

Promises:
- Nothing is computed for a release that was not reserved; what is reserved counts as spent and is never given back.
- What leaves is what was reserved: the same mechanism at the same δ, or nothing leaves.
- The sum over all releases stays within the silo's ceiling for life, and each run within its own, whatever dies,
  repeats itself or runs at the same time: a charge is judged and written in one transaction on the state file.

An entry states a mechanism; every ε is computed from it, when asked. Two sums are kept. For life, a Rényi filter
(`services.renyi`), since what comes next depends on what came before. For one run, whose parameters are fixed
beforehand, the exact ε of its mechanisms together (`Mechanism.epsilon`) at the smallest δ that it names.
"""

from __future__ import annotations

from services.ledger.account import Account, RunAccount
from services.ledger.book import Ledger
from services.ledger.budget import Budget, Charge
from services.ledger.entry import LEDGER, Entry

__all__ = ["LEDGER", "Account", "Budget", "Charge", "Entry", "Ledger", "RunAccount"]
