"""A silo's report about its own columns: the measures of `protocols.learning.evaluate`, and how well its latents hide."""

from __future__ import annotations

import importlib.util

EXTRA = ("anonymeter", "jinja2", "matplotlib", "sklearn", "xgboost")


def available() -> bool:
    """Whether the `evaluation` extra is installed."""
    return all(importlib.util.find_spec(name) is not None for name in EXTRA)
