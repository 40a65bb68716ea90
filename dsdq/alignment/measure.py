"""Measures a pair: the target makes its own text of each prompt, the draft follows it, the laws are compared.

Only the target's own text tells of acceptance: it is what drafts will have to continue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from dsdq.alignment.laws import Distances, distances, joined
from dsdq.alignment.rounds import Position, positions, tokens_per_round
from dsdq.alignment.sides import DraftSide, TargetSide, draft_loader, target_loader
from dsdq.alignment.speeds import matching_acceptance
from dsdq.contract import MAX_SEED, Contract, Sampling
from dsdq.errors import ConfigError, ModelError
from dsdq.models.tokenizer import Tokenizer
from dsdq.policies.paging import BLOCK
from dsdq.policies.window import rates

AT_ONCE = 16
"""Texts for which the target's cache has room; more take turns."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be measured: models by name, how the target draws, and how much text."""

    target: str
    draft: str
    sampling: Sampling
    seed: int
    max_tokens: int
    max_window: int
    device: str = "cpu"
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Alignment:
    """How well a draft fits.

    Attributes:
        texts: how many there are.
        places: generated tokens in all.
        acceptance: α, the share of places at which the draft's next token is the target's.
        by_position: what became of each position of a window.
        tokens_per_round: for windows of 1, 2, … draft tokens; None where no text was long enough.
        distances: how far apart the laws are; None for a draft without a law over the target's ids.
        draft_ms: median time of a draft token here.
    """

    texts: int
    places: int
    acceptance: float
    by_position: Sequence[Position]
    tokens_per_round: Sequence[float | None]
    distances: Distances | None
    draft_ms: float


@dataclass(frozen=True, slots=True)
class Stated:
    """Speeds that the user knows, in milliseconds: of a draft token, of a pass over one position, of a further one."""

    draft_ms: float | None = None
    target_ms: float | None = None
    position_ms: float | None = None


class Pair:
    """A target and a draft that share a tokenizer, or a draft that needs none."""

    def __init__(self, question: Question, draft: DraftSide, tokenizer: Tokenizer, target: TargetSide) -> None:
        self._question, self._draft, self._tokenizer, self._target = question, draft, tokenizer, target
        self._contracts: list[Contract] = []
        self._texts: list[tuple[Sequence[int], list[int]]] = []

    def measure(self, prompts: Sequence[Sequence[int]], tell: Callable[[str], None]) -> Alignment:
        """Measure on ``prompts`` of token ids; ``tell`` is told what is going on.

        Raises:
            ConfigError: the target ends every text at once.
        """
        self._contracts = [self._contract(number) for number in range(len(prompts))]
        tell(f"the target's own text of {len(prompts)} prompts")
        self._texts = list(zip(prompts, self._target.decode(self._contracts, prompts), strict=True))
        if not any(generated for _, generated in self._texts):
            msg = "expected the target to say something after these prompts, it ends every text at once"
            raise ConfigError(msg)
        tell("the draft along with it")
        runs, compared, times = [], [], []
        for contract, (prompt, generated) in zip(self._contracts, self._texts, strict=True):
            if not generated:
                continue
            followed = self._draft.follow(contract, self._tokenizer, prompt, generated)
            runs.append(followed.runs)
            times.append(followed.draft_ms)
            if followed.logits is not None:
                target = self._target.logits(prompt, generated)
                compared.append(distances(target, followed.logits, self._question.sampling))
        places, windows = sum(map(len, runs)), range(1, self._question.max_window + 1)
        return Alignment(
            texts=len(runs),
            places=places,
            acceptance=sum(run > 0 for text in runs for run in text) / places,
            by_position=positions(runs, self._question.max_window),
            tokens_per_round=[tokens_per_round(runs, window) for window in windows],
            distances=joined(compared) if compared else None,
            draft_ms=median(times),
        )

    def pass_ms(self) -> tuple[float, float]:
        """Return what a forward pass of the target takes here, and what each further position of it takes, in ms."""
        prompt, generated = max(self._texts, key=lambda text: len(text[0]) + len(text[1]))
        text, widest = [*prompt, *generated], self._question.max_window + 1
        most = min(widest, len(text) - 1)
        one_ms, most_ms = (self._target.pass_ms(self._contracts[0], text, count) for count in (1, most))
        position_ms = max(0.0, (most_ms - one_ms) / (most - 1)) if most > 1 else 0.0
        return max(one_ms - position_ms, 0.0), position_ms

    def _contract(self, number: int) -> Contract:
        question = self._question
        return Contract(
            tenant="align",
            producer="align",
            session=f"text-{number}",
            target=question.target,
            tokenizer_fingerprint=self._tokenizer.fingerprint,
            draft_fingerprint=self._draft.fingerprint,
            sampling=question.sampling,
            seed=(question.seed + number) & MAX_SEED,
            max_tokens=question.max_tokens,
            max_window=question.max_window,
        )


def load_pair(question: Question, texts: Sequence[str]) -> tuple[Pair, list[list[int]]]:
    """Load both sides and encode the prompts. Whether the tokenizers agree is known before the target is loaded.

    Raises:
        ModelError: a model cannot be loaded, or the draft has another tokenizer than the target.
        ConfigError: something is not installed.
    """
    tokenizer, draft = Tokenizer.load(question.target), draft_loader()(question.draft)
    if not draft.fits(tokenizer):
        msg = (
            f"draft {question.draft!r} has the tokenizer {draft.fingerprint or 'of its file'}, target "
            f"{question.target!r} has {tokenizer.fingerprint}: their ids mean different things; "
            f"retokenise:{question.draft} drafts text, which is encoded again"
        )
        raise ModelError(msg)
    prompts = [tokenizer.encode(text) for text in texts]
    longest = max(map(len, prompts)) + question.max_tokens + question.max_window
    kv_tokens = AT_ONCE * -(-longest // BLOCK) * BLOCK
    target = target_loader()(question.target, question.device, question.dtype, kv_tokens)
    return Pair(question, draft, tokenizer, target), prompts


def speeds_of(alignment: Alignment, pair: Pair, stated: Stated) -> rates.Speeds:
    """Return the speeds to reckon with: those that were stated, else those of this machine."""
    if stated.target_ms is None:
        step_ms, position_ms = pair.pass_ms()
    else:
        step_ms, position_ms = max(0.0, stated.target_ms - (stated.position_ms or 0.0)), 0.0
    position_ms = position_ms if stated.position_ms is None else stated.position_ms
    draft_ms = alignment.draft_ms if stated.draft_ms is None else stated.draft_ms
    return rates.Speeds(_round_acceptance(alignment), draft_ms, 0.0, 0.0, step_ms, position_ms)


def _round_acceptance(alignment: Alignment) -> float:
    """Return the acceptance that the widest rounds which were measured show."""
    known = [(one, window) for window, one in enumerate(alignment.tokens_per_round, 1) if one is not None]
    return matching_acceptance(*known[-1]) if known else alignment.acceptance
