"""What is compared: yardsticks of real rows, our forms over silos, and the peers that see the pooled table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from protocols.silofuse.parameters import FormName


@dataclass(frozen=True)
class Model:
    """A row of the benchmark's tables.

    Attributes:
        about: what it is, for people.
        form: of our autoencoders; none where the model is not ours.
        silos: over how many silos our columns are shared out; none for the table's own blocks.
        permuted: whether columns are shuffled before that.
        peer: SDV's name of a peer.
        timed: whether the peer trains as long as our opaque form did on the same rows, instead of its default epochs.
        tables: where it is run; empty for everywhere.
    """

    about: str
    form: FormName | None = None
    silos: int | None = None
    permuted: bool = False
    peer: Literal["CTGAN", "TVAE"] | None = None
    timed: bool = False
    tables: tuple[str, ...] = ()


INDEPENDENT, REAL, TIMEKEEPER = "independent", "real", "opaque"
MODELS = {
    INDEPENDENT: Model("columns of training rows, each resampled on its own"),
    REAL: Model("one half of the training rows in the place of synthetic ones, the other half as training rows"),
    TIMEKEEPER: Model("our default: silo-secret codes under a silo-secret rotation", form="opaque"),
    "paper": Model("our form after the paper: a learned autoencoder", form="paper"),
    "layout": Model("codes as they are, and the coordinator knows which is which", form="layout"),
    "pooled": Model("our opaque form with one silo that holds all columns", form="opaque", silos=1),
    "opaque-8": Model("the opaque form over 8 silos", form="opaque", silos=8, tables=("adult",)),
    "opaque-permuted": Model(
        "the opaque form over 4 silos, columns shuffled", form="opaque", silos=4, permuted=True, tables=("adult",)
    ),
    "ctgan-timed": Model("CTGAN (SDV) on the pooled table, as many seconds as opaque", peer="CTGAN", timed=True),
    "tvae-timed": Model("TVAE (SDV) on the pooled table, as many seconds as opaque", peer="TVAE", timed=True),
    "ctgan": Model("CTGAN (SDV) on the pooled table, its default epochs", peer="CTGAN"),
    "tvae": Model("TVAE (SDV) on the pooled table, its default epochs", peer="TVAE"),
}
POOLED = "pooled"
FORMS: tuple[FormName, ...] = get_args(FormName)
SHORT = (INDEPENDENT, REAL, *FORMS, POOLED)
"""What the short form runs."""
