"""How good and how private a synthetic table is, measured on real rows: needs the `evaluation` extra.

`measure.evaluate` puts all measures into a `report.Report`, `inversion.inversion` says how much of the rows leaked
latents give away, `page.render` makes a page for people. Every measure takes its rows and its seed as arguments,
draws from no global generator, and repeats itself exactly.
"""

from __future__ import annotations

import importlib.util

from services.errors import ConfigError

EXTRA = ("anonymeter", "jinja2", "matplotlib", "sklearn", "xgboost")

if absent := [name for name in EXTRA if importlib.util.find_spec(name) is None]:
    raise ConfigError(
        f"measuring needs packages that are absent: {', '.join(absent)}", fix="pip install 'silokit[evaluation]'"
    )
