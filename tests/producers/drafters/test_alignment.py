"""Reading a model along with the target's text shows what it would have drafted there."""

from __future__ import annotations

import numpy as np
import pytest

from dsdq.alignment.rounds import agreement
from dsdq.contract import Contract, Sampling
from dsdq.models.tokenizer import Tokenizer
from producers.drafters import load_drafter
from producers.drafters.alignment import load

WINDOW = 5


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.8, top_k=50)])
def test_one_step_a_token_tells_what_whole_windows_would(sampling: Sampling) -> None:
    tokenizer = Tokenizer.load("builtin/target")
    contract = Contract("t", "p", "s", "x", tokenizer.fingerprint, sampling=sampling, seed=3, max_window=WINDOW)
    prompt = tokenizer.encode("def read(self, path):\n")
    drafter, text = load_drafter("builtin/draft"), list(prompt)
    rng = np.random.default_rng(0)
    while len(text) < len(prompt) + 40:  # the draft's own words, with a slip here and there
        (token,) = drafter.start(contract, tokenizer).propose(text, 1).tokens
        text.append(token if rng.random() < 0.8 else int(rng.integers(4, 2000)))
    generated = text[len(prompt) :]
    followed = load("builtin/draft").follow(contract, tokenizer, prompt, generated)
    windows = [
        drafter.start(contract, tokenizer).propose(text[: len(prompt) + place], WINDOW).tokens for place in range(40)
    ]
    assert followed.runs == [agreement(window, generated[place:]) for place, window in enumerate(windows)]
    assert 0 < sum(run == 0 for run in followed.runs) < 40
    assert followed.logits is not None
    assert followed.logits.shape == (40, tokenizer.vocab_size)
