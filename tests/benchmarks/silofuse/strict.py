"""A second judge: trees at XGBoost's own defaults, deeper and bolder than the calm ones of `evaluate`.

Published figures of resemblance were taken with such trees. They call fresh real rows unlike real rows as well, so
the row `real` says what can be reached.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from protocols.learning.evaluate.arrays import matrix
from protocols.learning.evaluate.measure import DETECTION
from protocols.learning.evaluate.report import Report
from protocols.learning.evaluate.trees import detection
from protocols.learning.schema import Columns

DEFAULTS = {"max_depth": 6, "eta": 0.3}
ROUNDS = 100


def judge(
    held_out: pd.DataFrame, synthetic: pd.DataFrame, columns: Columns, report: Report, seed: int
) -> dict[str, float]:
    """Propensity and detection by these trees, and the resemblance whose other four parts are the report's."""
    rng = np.random.default_rng([seed, DETECTION])
    rows = (matrix(table, columns) for table in (held_out, synthetic))
    propensity, area = detection(*rows, columns, rng, trees=DEFAULTS, rounds=ROUNDS)
    parts = report.resemblance
    others = parts.column, parts.correlation, parts.js, parts.ks
    return {
        "resemblance": float(np.mean([*others, 100 * propensity])),
        "propensity": 100 * propensity,
        "detection_auc": area,
    }
