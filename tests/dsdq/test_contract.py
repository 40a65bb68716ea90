from __future__ import annotations

import math
from typing import Any

import pytest

from dsdq.contract import Contract, Sampling
from dsdq.errors import ConfigError

TERMS: dict[str, Any] = {
    "tenant": "t",
    "producer": "p",
    "session": "s",
    "target": "m",
    "tokenizer_fingerprint": "f",
}


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -0.1), ("temperature", math.nan), ("temperature", math.inf), ("top_k", -1), ("top_p", 0.0),
     ("top_p", 1.1), ("top_p", math.nan), ("min_p", 1.0), ("min_p", -0.1), ("repetition_penalty", 0.0),
     ("repetition_penalty", 10.1), ("repetition_penalty", math.nan), ("presence_penalty", 2.1),
     ("presence_penalty", math.nan), ("frequency_penalty", -2.1), ("logit_bias", ((5, 100.1),)),
     ("logit_bias", ((5, math.nan),)), ("logit_bias", ((-1, 1.0),)), ("logit_bias", ((5, 1.0), (5, 2.0))),
     ("logit_bias", ((6, 1.0), (5, 2.0))), ("logit_bias", tuple((token, 1.0) for token in range(301)))],
    ids=str,
)  # fmt: skip
def test_sampling_out_of_range_names_the_field(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        Sampling(**{"temperature": 1.0, field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", -1), ("seed", 2**64), ("choice", 65_536), ("max_tokens", 0), ("max_window", 0), ("max_window", 65),
     ("stop_ids", tuple(range(17))), ("stop_strings", ("x",) * 17), ("stop_strings", ("",)),
     ("stop_strings", ("x" * 129,)), ("logprobs", -1), ("logprobs", 21)],
)  # fmt: skip
def test_a_contract_out_of_range_names_the_field(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        Contract(**{**TERMS, field: value})
