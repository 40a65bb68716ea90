"""32 sessions at once through planner, engine and judge: each has Hugging Face's own text, whatever memory there is."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dsdq.contract import Contract, Sampling
from dsdq.models.target import load_target
from dsdq.policies.batching import StepBudget
from dsdq.policies.paging import BLOCK
from dsdq.testing.reference import load_reference
from dsdq.testing.tiny import ARCHITECTURES, VOCAB_SIZE
from workers.engine.engine import Engine
from workers.engine.memory import KvMemory
from workers.engine.offline import Offline, Propose
from workers.engine.planner import Planner

SESSIONS = 32
NEW_TOKENS = 24
SEED = 20_261_125
MOST_TIES = 1  # of about 770 tokens; the design allows 1 per 10,000 over all models
BUDGET = StepBudget(window_tokens=200, prefill_tokens=90)
SAMPLED = Sampling(0.9, top_p=0.95)


def prompts() -> list[list[int]]:
    """Return mixed lengths; every second prompt begins like the others of its kind, for more than a block."""
    source = random.Random(SEED)
    common = source.choices(range(2, VOCAB_SIZE), k=BLOCK + 20)
    made = []
    for number in range(SESSIONS):
        own = source.choices(range(2, VOCAB_SIZE), k=source.randint(1, 70))
        made.append([*common, *own] if number % 2 else own)
    return made


def guesses(seed: int) -> Propose:
    """Return a drafter that is right now and then: it repeats what followed the last token before."""
    source = random.Random(seed)

    def propose(text: Sequence[int]) -> tuple[int, ...]:
        places = [place for place in range(len(text) - 1) if text[place] == text[-1]]
        place = source.choice(places) + 1 if places else source.randrange(len(text))
        return tuple(text[place : place + source.randint(0, 8)])

    return propose


def contract(number: int, sampling: Sampling) -> Contract:
    return Contract(
        "t", "p", f"s{number}", "m", "f", sampling=sampling, seed=number, max_tokens=NEW_TOKENS, max_window=8
    )


def run(folder: Path, memory: KvMemory, sampling: Sampling, *, drafts: bool = True) -> tuple[list[list[int]], Planner]:
    target = load_target(str(folder))
    engine = Engine(target, memory)
    planner = Planner(engine.kv_blocks, BUDGET)
    batch = Offline(engine, planner, target.eos_ids)
    options = {"propose": guesses(SEED)} if drafts else {}
    made = [batch.add(contract(n, sampling), prompt, **options) for n, prompt in enumerate(prompts())]
    batch.run()
    assert planner.paging.held == 0
    return [one.tokens for one in made], planner


def check(folder: Path, texts: list[list[int]], sampling: Sampling) -> None:
    reference, ties = load_reference(str(folder)), 0
    for number, (prompt, text) in enumerate(zip(prompts(), texts, strict=True)):
        wanted = reference.decode(prompt, NEW_TOKENS, sampling, number)
        if text != wanted:
            first = next(i for i, (a, b) in enumerate(zip(text, wanted, strict=False)) if a != b)
            assert first in reference.near_ties(prompt, wanted, sampling, number), f"session {number}, seed {SEED}"
            print(f"near-tie of the reference at position {first} of session {number}")
            ties += 1
    assert ties <= MOST_TIES


PLENTY, SCARCE = KvMemory(tokens=SESSIONS * 3 * BLOCK), KvMemory(tokens=7 * BLOCK)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_thirty_two_sessions_equal_generate(tiny: Callable[[str], Path], architecture: str) -> None:
    folder = tiny(architecture)
    texts, planner = run(folder, PLENTY, Sampling())
    assert planner.evictions == 0
    check(folder, texts, Sampling())
    scarce, planner = run(folder, SCARCE, Sampling())
    assert planner.evictions > 0
    assert scarce == texts


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "mixtral"])
def test_sampled_text_depends_on_neither_drafts_nor_memory(tiny: Callable[[str], Path], architecture: str) -> None:
    folder = tiny(architecture)
    texts, _ = run(folder, PLENTY, SAMPLED)
    check(folder, texts, SAMPLED)
    assert run(folder, SCARCE, SAMPLED)[0] == texts
    assert run(folder, PLENTY, SAMPLED, drafts=False)[0] == texts
