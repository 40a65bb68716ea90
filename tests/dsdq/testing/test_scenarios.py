from __future__ import annotations

import pytest

from dsdq.contract import Sampling
from dsdq.errors import ConfigError
from dsdq.models.names import HASH_TARGET
from dsdq.testing import hashed
from dsdq.testing.reference import load_reference
from dsdq.testing.scenarios import PAIR_TARGET, find_scenario

PROMPT = (5, 6, 7)


def test_the_right_texts_of_the_hash_model_are_its_own() -> None:
    decode = find_scenario(HASH_TARGET).load_decoder()
    assert decode(PROMPT, 4, Sampling(), 1, 0) == hashed.decode(PROMPT, 4)


def test_the_right_texts_of_the_pair_are_those_of_the_reference() -> None:
    decode = find_scenario(PAIR_TARGET).load_decoder()
    drawn = Sampling(temperature=1.0)
    assert decode(PROMPT, 4, drawn, 1, 0) == load_reference(PAIR_TARGET).decode(PROMPT, 4, drawn, 1)


def test_the_reference_says_that_it_knows_one_choice_only() -> None:
    decode = find_scenario(PAIR_TARGET).load_decoder()
    with pytest.raises(ConfigError, match="choice 1"):
        decode(PROMPT, 4, Sampling(), 1, 1)


def test_a_verifier_of_the_pair_is_killed_only_while_another_works() -> None:
    scenario = find_scenario(PAIR_TARGET)
    assert scenario.working == scenario.verifiers == 2


def test_a_target_without_a_scenario_is_refused() -> None:
    with pytest.raises(ConfigError, match="testing/hash, builtin/target"):
        find_scenario("builtin/draft")
