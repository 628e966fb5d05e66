"""The real Helms, and the charts as they render them."""

from __future__ import annotations

import os

import pytest

from deploy.tools.charts import copy
from deploy.tools.helm import ToolError
from tests.helm.charts import HELMS, Kitchen


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Kitchen:
    try:
        return Kitchen({name: copy(tmp_path_factory.mktemp("charts"), helm) for name, helm in HELMS.items()})
    except ToolError as error:
        if os.environ.get("CI") or "cannot be fetched" not in error.what:
            raise
        pytest.skip(f"{error.what} ({error.fix})")
