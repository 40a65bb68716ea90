"""What is asked for: how long prompts and texts are, and how often drafts of them are right."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, Strict, model_serializer, model_validator

from dsdq.contract import MAX_WINDOW
from dsdq.sim.scenario.parts import Part, Share, Text


class Lengths(Part):
    """How many tokens: log-normal with this mean and coefficient of variation (deviation over mean), within bounds."""

    mean: Annotated[float, Field(ge=1.0, le=100_000)]
    variation: Annotated[float, Field(ge=0.0, le=4.0)] = 0.0
    least: Annotated[int, Field(ge=1)] = 1
    most: Annotated[int, Field(ge=1, le=200_000)] = 100_000

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.least <= self.mean <= self.most:
            msg = f"expected least <= mean <= most, got {self.least}, {self.mean:g}, {self.most}"
            raise ValueError(msg)
        return self


class Acceptance(Part):
    """How often a draft token is right, given that all before it are.

    Attributes:
        mean: α.
        first: φ, the same behind a wrong one; α if it is not given.
        between: standard deviation of α from text to text.
        telling: how much the drafter's confidence says of a single token: 0 nothing, 1 everything.
        by_place: instead of ``mean``: by the token's place in its draft; the last one goes for all behind it.
        trace: instead of ``mean``: JSONL of texts that ran live, each with ``right``, a string of 0 and 1.
    """

    mean: Share = 0.7
    first: Share | None = None
    between: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    telling: Share = 0.0
    by_place: Annotated[tuple[Share, ...], Field(min_length=1, max_length=MAX_WINDOW), Strict(strict=False)] | None = (
        None
    )
    trace: Text | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        instead = [name for name in ("by_place", "trace") if getattr(self, name) is not None]
        given = ("mean" in self.model_fields_set, self.first is not None, self.between, self.telling)
        beside = [name for name, one in zip(("mean", "first", "between", "telling"), given, strict=True) if one]
        if len(instead) > 1 or (instead and beside):
            msg = f"expected {instead[0]} alone, got {(instead[1:] + beside)[0]}, too"
            raise ValueError(msg)
        return self

    @model_serializer(mode="wrap")
    def _without_mean(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the mean out where something else is given instead."""
        document: dict[str, Any] = dump(self)
        if self.by_place is not None or self.trace is not None:
            document.pop("mean", None)
        return document


class Workload(Part):
    """What is asked for.

    Attributes:
        prompt: tokens of the prompt.
        output: tokens until the text ends by itself.
        acceptance: of the devices' drafts.
        own_acceptance: of drafts that a verifier makes; as the devices' if it is not given.
        known_length: whether devices know where the text ends (``max_tokens``), or the target says so.
    """

    prompt: Lengths = Lengths(mean=64)
    output: Lengths = Lengths(mean=128)
    acceptance: Acceptance = Acceptance()
    own_acceptance: Acceptance | None = None
    known_length: bool = False
