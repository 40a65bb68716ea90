from __future__ import annotations

import pytest

from dsdq.errors import ConfigError
from producers.twin.world import CROWD, VARIANTS, Variant


@pytest.mark.parametrize("variant", [*VARIANTS, CROWD], ids=lambda one: one.name)
def test_texts_have_prompts_of_their_own_and_so_have_those_before_them(variant: Variant) -> None:
    texts = 48 // variant.devices
    variant.check(texts)
    counting = [str(prompt) for text in range(texts) for prompt in variant.prompts(text)]
    before = {str(prompt) for text in range(texts) for prompt in variant.prompts_before(text)}
    assert len(counting) == len(set(counting)) == texts * variant.devices
    assert not before & set(counting)
    assert len(variant.prompts_before(0)) == variant.devices


def test_more_texts_than_the_built_in_pair_has_prompts_for_are_told_beforehand() -> None:
    pair, stated = VARIANTS[0], VARIANTS[1]
    with pytest.raises(ConfigError, match="--texts: expected at most 48 at all round trips of pair, got 49"):
        pair.check(49)
    stated.check(1000)
