"""One process of those that tests/workers/engine/test_parallel.py starts: ``rank.py SCENARIO [TARGET]``."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from dsdq.errors import ParallelError
from workers.engine import parallel

LIMIT_MS, SILENT_MS = 60_000, 3_000
PROMPTS = ([5, 9, 200, 31], list(range(40, 110)))
NEW_TOKENS = 40
PROMPT_PIECE = 30


class Fragile:
    """Stands for an engine; its calls go wrong on one rank alone."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def work(self) -> int:
        return self.rank

    def die(self) -> None:
        if self.rank:
            os._exit(3)

    def fail(self) -> None:
        if self.rank:
            raise RuntimeError("no memory here")


def greedy(engine: Any, prompt: Sequence[int]) -> list[int]:
    """Feed a prompt in pieces, then decode one token at a time."""
    from workers.engine.rows import Row

    text, fed, blocks = list(prompt), 0, tuple(range(4))
    while len(text) < len(prompt) + NEW_TOKENS:
        piece = text[fed : fed + PROMPT_PIECE]
        logits = engine.forward([Row("s", fed, piece, 1, blocks)])
        fed += len(piece)
        if fed == len(text):
            text.append(int(logits[-1].argmax()))
    return text[len(prompt) :]


def serve(ranks: parallel.Ranks, target: str) -> None:
    from dsdq.models.target import load_target  # takes seconds, which the other scenarios need not wait for
    from workers.engine.engine import Engine
    from workers.engine.memory import KvMemory

    loaded = load_target(target, ranks=ranks.size)
    ranks.meet()
    engine = Engine(loaded, KvMemory(tokens=1024))
    if ranks.rank:
        parallel.follow(engine, ranks)
        return
    leader = parallel.Leader(engine, ranks)
    texts = [greedy(leader, prompt) for prompt in PROMPTS]
    print(json.dumps({"texts": texts, "numerics": leader.target.numerics}))
    leader.stop()


def call_twice(ranks: parallel.Ranks, method: str) -> None:
    """Make a call that goes wrong on rank 1, and one more."""
    engine = Fragile(ranks.rank)
    ranks.meet()
    if ranks.rank:
        parallel.follow(engine, ranks)
        return
    leader = parallel.Leader(engine, ranks)
    getattr(leader, method)()
    while True:  # the first ones may still be sent to a process that is about to end
        leader.work()


def fall_silent(ranks: parallel.Ranks) -> None:
    ranks.meet()
    if ranks.rank:
        parallel.follow(Fragile(ranks.rank), ranks)
    else:
        os.kill(os.getpid(), signal.SIGSTOP)


def main(scenario: str, *arguments: str) -> None:
    ranks = parallel.join("cpu", SILENT_MS if scenario == "silent" else LIMIT_MS)
    try:
        if scenario == "serve":
            serve(ranks, *arguments)
        elif scenario == "silent":
            fall_silent(ranks)
        else:
            call_twice(ranks, scenario)
    except ParallelError as error:
        print(error)
        sys.stdout.flush()
        os._exit(2)
    ranks.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
