"""What was measured, under keys that stay: `report.json` is read by programs, and its keys are a promise.

Resemblance and utility count to 100 (best); the detection AUC and memorisation are best at 0.5; attacks are rates of
success. What could not be measured is null, and `notes` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

MEMORISED = 0.55
"""Above this share of synthetic rows nearer to a training row than to a held-out one, a report warns, unless so few
real rows were compared that chance explains it."""

LEAKED = 0.05
"""An attack's excess on training rows that a report warns of, once its 95% interval lies above."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rows(_Part):
    """How many rows of each kind were compared."""

    training: int
    held_out: int
    synthetic: int


class Resemblance(_Part):
    """The composite of SiloFuse (arXiv 2404.03299, section V) and its five parts, of 100."""

    overall: float
    column: float
    correlation: float
    js: float
    ks: float
    propensity: float


class Reference(Resemblance):
    """Another table put through the same measures."""

    detection_auc: float
    utility: float | None = None
    memorisation: float | None = None


class TargetUtility(_Part):
    """One target's scores on held-out rows, by what the trees were trained on; macro-F1, or D² absolute error."""

    measure: str
    real: float
    synthetic: float
    independent: float


class Attack(_Part):
    """One of Anonymeter's attacks: how often it succeeds on training rows, on held-out rows, and by guessing.

    `risk` is the success on training rows beyond that on held-out rows, as a share of what was left to win, with the
    bounds of its 95% interval; null where the attack does no better than guessing and so tells nothing.
    """

    attack: float | None = None
    control: float | None = None
    baseline: float | None = None
    risk: float | None = None
    risk_low: float | None = None
    risk_high: float | None = None
    attacks: int = 0
    reason: str | None = None


class Privacy(_Part):
    """The three risks that anonymisation must exclude (Article 29 Working Party, opinion 05/2014)."""

    singling_out: Attack
    linkability: Attack
    inference: Attack


class Inversion(_Part):
    """What the better of two attacks makes of 20 and of 500 leaked (latent, row) pairs, measured on other rows.

    R² of the quantities' normal scores, at least 0 per column, averaged; the categories' accuracy, averaged, beside
    that of always naming the most frequent label.
    """

    r2_20: float | None = None
    r2_500: float | None = None
    accuracy_20: float | None = None
    accuracy_500: float | None = None
    majority: float | None = None


class NoisePoint(_Part):
    """What leaked pairs tell under the noise that stands for an ε; without noise where that is null."""

    epsilon: float | None
    inversion: Inversion


class NoiseCurve(_Part):
    """What leaked pairs would tell by noise, on this silo's rows, in the encoding that carries a claim.

    Attributes:
        delta: at which every ε is told.
        claimed: the run's own ε for one person's values in this silo's upload; null where it makes no claim.
        together: the ε of all the run's silos' uploads about one person.
        points: without noise first, then with more and more.
    """

    delta: float
    claimed: float | None = None
    together: float | None = None
    points: tuple[NoisePoint, ...]


class Report(_Part):
    """All measures of one synthetic table; the last four parts are facts of the run, merged from outside.

    Attributes:
        columns: the columns that were compared.
        resemblance: of the synthetic to held-out rows.
        baseline_independent: every column of the training rows resampled on its own, which keeps no relation.
        real_rows: the training rows themselves in place of synthetic ones: what a perfect generator would score.
        utility: for each target, trees trained on synthetic rows over trees trained on real ones, and `overall`.
        utility_scores: the scores behind `utility`.
        memorisation: the share of synthetic rows nearer to a training row than to one of as many held-out rows.
        memorisation_error: its standard error if training had left no trace.
    """

    rows: Rows
    columns: tuple[str, ...]
    resemblance: Resemblance
    baseline_independent: Reference
    real_rows: Reference
    utility: dict[str, float | None]
    utility_scores: dict[str, TargetUtility]
    detection_auc: float
    memorisation: float
    memorisation_error: float
    privacy: Privacy
    notes: tuple[str, ...] = ()
    latent_inversion: Inversion | None = None
    noise_curve: NoiseCurve | None = None
    seconds: dict[str, float] | None = None
    bytes_sent: dict[str, int] | None = None

    def with_facts(self, facts: Mapping[str, Any]) -> Self:
        """The same report with facts of the run: `latent_inversion`, `noise_curve`, `seconds`, `bytes_sent`.

        Raises:
            pydantic.ValidationError: a fact that a report does not know.
        """
        return type(self).model_validate({**self.model_dump(), **facts})

    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before any score, in sentences; empty when nothing stands out."""
        found = []
        ours, independent = self.resemblance, self.baseline_independent
        if self.memorisation > max(MEMORISED, 0.5 + 2 * self.memorisation_error):
            found.append(
                f"The synthetic rows lie too near to training rows: memorisation is {self.memorisation:.2f}, "
                f"and more than {MEMORISED} means that the generator repeats people."
            )
        if ours.propensity <= independent.propensity or ours.correlation <= independent.correlation:
            found.append(
                "The synthetic table is no better than columns drawn independently of each other: "
                "it should not be used for anything that relates columns."
            )
        for name, attack in (("Singling out", self.privacy.singling_out), ("Linkability", self.privacy.linkability),
                             ("Inference", self.privacy.inference)):  # fmt: skip
            if attack.risk_low is not None and attack.risk_low > LEAKED:
                found.append(f"{name} succeeds more often on training rows than on rows that no training saw.")
        return tuple(found)
