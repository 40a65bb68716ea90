"""What the models of a scenario are made of: bounded numbers, names, and parts that refuse unknown fields."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict

from dsdq.settings import Settings

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0, le=1e9, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, le=1e9, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]
At = Annotated[tuple[NotNegative, NotNegative], Strict(strict=False)]
"""When, in seconds, and what from then on."""


def live(setting: str) -> Any:  # noqa: ANN401 - a setting may be anything
    """Return what a live system does that nobody has told otherwise: a setting's default (:mod:`dsdq.settings`)."""
    return Settings.model_fields[setting].default


class Part(BaseModel):
    """Part of a scenario: unknown fields are errors, and nothing changes once it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
