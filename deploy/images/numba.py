"""Stands in for numba, which with LLVM is an eighth of the image.

Anonymeter compiles a search for nearest neighbours with it, which the report never asks for. As plain Python that
search gives the same answers, later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def jit(**_: Any) -> Callable[[Function], Function]:
    """Leave a function as it is."""
    return lambda function: function
