"""Both charts as the real Helms render them, with every set of values under helm/*/ci/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from deploy.tools.charts import CHARTS, HELM
from deploy.tools.helm import HELM_3, HELM_4, Tool

Object = dict[str, Any]
HELMS: Mapping[str, Tool] = {"helm 3": HELM_3, "helm 4": HELM_4}
CASES = sorted(f"{path.parent.parent.name}/{path.stem}" for path in HELM.glob("*/ci/*.yaml"))
POD_KINDS = {"StatefulSet": ("template",), "CronJob": ("jobTemplate", "spec", "template"), "Pod": ()}


class Kitchen:
    """Renders charts.

    Args:
        folders: for each Helm, a copy of the charts to which it added what they depend on.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.folders = folders
        self._text = cache(self._render)

    def text(self, case: str, *more: str, helm: str = "helm 4") -> str:
        """What Helm renders.

        Args:
            case: a chart and one of its sets of values.
            more: further options of `helm template`.
            helm: which one.

        Raises:
            ToolError: Helm refuses; in its words.
        """
        return self._text(case, more, helm)

    def objects(self, case: str, *more: str) -> list[Object]:
        """What Helm renders, hooks and tests included."""
        return [found for found in yaml.safe_load_all(self.text(case, *more)) if found]

    def one(self, case: str, kind: str, *more: str) -> Object:
        """The first object of a kind."""
        return next(found for found in self.objects(case, *more) if found["kind"] == kind)

    def files(self, case: str, helm: str) -> tuple[Path, Path]:
        """The chart of a case, and its file of values."""
        chart, _, values = case.partition("/")
        folder = self.folders[helm] / chart
        return folder, folder / "ci" / f"{values}.yaml"

    def _render(self, case: str, more: tuple[str, ...], helm: str) -> str:
        chart, values = self.files(case, helm)
        return HELMS[helm]("template", "site", chart, "--namespace", "hospital", "--values", values, *more)


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """The specification of every pod that the objects lead to, each with the name of what leads to it."""
    for found in objects:
        if found["kind"] in POD_KINDS:
            pod = found if found["kind"] == "Pod" else found["spec"]
            for step in POD_KINDS[found["kind"]]:
                pod = pod[step]
            yield f"{found['kind']} {found['metadata']['name']}", pod["spec"]


def containers(pod: Object) -> list[Object]:
    """All containers of a pod."""
    return [*pod.get("initContainers", []), *pod["containers"]]


__all__ = ["CASES", "CHARTS", "HELMS", "Kitchen", "Object", "containers", "pods"]
