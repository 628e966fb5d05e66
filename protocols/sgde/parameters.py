"""Placeholder until the families arrive."""

from pydantic import BaseModel, ConfigDict


class SgdeParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    label: str = ""
    delta: float = 1e-5
    family: str = "moments"

    def check_columns(self, columns): ...
