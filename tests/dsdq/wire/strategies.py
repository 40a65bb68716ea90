"""Every message that the wire can carry, for property tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dsdq.contract import MAX_LOGPROBS, MAX_STOP_IDS, MAX_WINDOW, Contract, FinishReason, Rule, Sampling
from dsdq.laws import DraftLaw
from dsdq.logprobs import TokenLogprobs
from dsdq.wire import Cancel, Closed, Decode, Draft, Error, ErrorCode, Gap, Open, Opened, Verdict, pack_contract
from dsdq.wire.limits import (
    MAX_BUDGET_TOKENS,
    MAX_COUNT,
    MAX_DRAFT_TOKENS,
    MAX_MICROSECONDS,
    MAX_POSITION,
    MAX_TOKEN_ID,
)

NAMES = st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=40)
COUNTS = st.integers(0, MAX_COUNT)
ROUNDS = st.integers(1, MAX_COUNT)
POSITIONS = st.integers(0, MAX_POSITION // 2)
DIGESTS = st.binary(min_size=16, max_size=16)
MICROSECONDS = st.integers(0, MAX_MICROSECONDS)
WINDOWS = st.integers(0, MAX_WINDOW)
IDS = st.integers(0, MAX_TOKEN_ID) | st.integers(0, 70_000)


def tokens(most: int = 40) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(IDS, max_size=most).map(tuple)


BIASES = st.dictionaries(IDS, st.floats(-100, 100), max_size=6).map(lambda found: tuple(sorted(found.items())))
STOPS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), max_size=4).map(tuple)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.floats(0, 100),
    top_k=st.integers(0, 2**31 - 1),
    top_p=st.floats(0, 1, exclude_min=True),
    min_p=st.floats(0, 1, exclude_max=True),
    repetition_penalty=st.just(1.0) | st.floats(0, 10, exclude_min=True),
    presence_penalty=st.just(0.0) | st.floats(-2, 2),
    frequency_penalty=st.just(0.0) | st.floats(-2, 2),
    logit_bias=st.just(()) | BIASES,
)
CONTRACTS = st.builds(
    Contract,
    tenant=NAMES,
    producer=NAMES,
    session=NAMES,
    target=TEXTS.filter(bool),
    tokenizer_fingerprint=TEXTS,
    draft_fingerprint=TEXTS,
    target_revision=TEXTS,
    numerics=TEXTS,
    sampling=SAMPLINGS,
    rule=st.sampled_from(Rule),
    seed=st.integers(0, 2**64 - 1),
    choice=st.integers(0, 65_535),
    stop_ids=tokens(MAX_STOP_IDS),
    ignore_eos=st.booleans(),
    max_tokens=st.integers(1, 1 << 20),
    max_window=st.integers(1, MAX_WINDOW),
    trusted=st.booleans(),
    stop_strings=STOPS,
    logprobs=st.integers(0, MAX_LOGPROBS),
)


@st.composite
def laws(draw: st.DrawFn, window: int) -> DraftLaw:
    support = draw(st.integers(1, 8))
    ids = [[draw(IDS) for _ in range(support)] for _ in range(window)]
    weights = [[draw(st.integers(1, 65_535)), *(draw(st.integers(0, 65_535)) for _ in range(support - 1))] for _ in ids]
    return DraftLaw(np.array(ids, dtype=np.uint32), np.array(weights, dtype=np.uint16))


@st.composite
def token_logprobs(draw: st.DrawFn, count: int) -> TokenLogprobs:
    top = draw(st.integers(1, 3))
    values = st.floats(-100, 0, width=32)
    chosen = [draw(values) for _ in range(count)]
    ids, others = ([[draw(kind) for _ in range(top)] for _ in chosen] for kind in (IDS, values))
    return TokenLogprobs(np.array(chosen, np.float32), np.array(ids, np.uint32), np.array(others, np.float32))


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    ids = draw(tokens(MAX_DRAFT_TOKENS))
    law = draw(laws(len(ids))) if ids and len(ids) <= 4 and draw(st.booleans()) else None
    return Draft(draw(NAMES), draw(COUNTS), draw(ROUNDS), draw(POSITIONS), draw(DIGESTS), ids, law)


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict:
    ids, base, first = draw(tokens()), draw(POSITIONS), draw(st.integers(1, 1000))
    drafted = draw(st.integers(0, 64))
    return Verdict(
        session=draw(NAMES),
        first_round=first,
        last_round=first + draw(st.integers(0, 5)),
        branch=draw(COUNTS),
        base=base,
        drafted=drafted,
        accepted=draw(st.integers(0, min(drafted, len(ids)))),
        tokens=ids,
        length=base + len(ids),
        digest=draw(DIGESTS),
        verified=draw(COUNTS),
        queue_us=draw(MICROSECONDS),
        verify_us=draw(MICROSECONDS),
        batch_rows=draw(COUNTS),
        max_window=draw(WINDOWS),
        logprobs=draw(token_logprobs(len(ids))) if ids and len(ids) <= 4 and draw(st.booleans()) else None,
        prefill=draw(st.just(0) | POSITIONS),
    )


@st.composite
def opens(draw: st.DrawFn) -> Open:
    terms = draw(CONTRACTS)
    opening = Open(terms.session, pack_contract(terms), draw(tokens()))
    first = draw(st.one_of(st.none(), drafts().filter(lambda draft: draft.tokens), DECODES))
    return opening if first is None else opening.with_round(first)


DECODES = st.builds(Decode, NAMES, COUNTS, ROUNDS, POSITIONS, DIGESTS, st.integers(1, MAX_BUDGET_TOKENS), WINDOWS)
MESSAGES = st.one_of(
    opens(),
    st.builds(Opened, NAMES, NAMES, COUNTS, TEXTS, TEXTS, POSITIONS, DIGESTS, WINDOWS, POSITIONS, st.booleans()),
    drafts(),
    DECODES,
    st.builds(Cancel, NAMES),
    verdicts(),
    st.builds(Gap, NAMES, POSITIONS),
    st.builds(
        Closed,
        NAMES,
        st.sampled_from(FinishReason),
        POSITIONS,
        DIGESTS,
        COUNTS,
        COUNTS,
        COUNTS,
        COUNTS,
        st.just(0) | POSITIONS,
        st.just(b"") | st.binary(min_size=32, max_size=32),
        st.just(b"") | st.binary(min_size=64, max_size=64),
    ),
    st.builds(
        Error,
        NAMES,
        st.sampled_from(ErrorCode).map(str),
        TEXTS,
        st.sampled_from(["", "sessions"]),
        st.integers(0, 1 << 50),
        st.integers(-1, 1 << 39),
    ),
)
