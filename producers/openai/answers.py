"""What a text looks like to OpenAI's clients: whole or in chunks, with usage, likelihoods, and dsdq's own figures."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dsdq.client import GenerationStats, Token
from dsdq.contract import FinishReason
from dsdq.models.tokenizer import Tokenizer
from producers.openai.requests import TextRequest

Json = dict[str, Any]

LEAST_LOGPROB = -9999.0  # JSON has no infinity


@dataclass(frozen=True, slots=True)
class Shape:
    """One answer's frame: what every object and chunk of it has in common, and how its choices are written."""

    request: TextRequest
    tokenizer: Tokenizer
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def name(self) -> str:
        """Return the id by which its reader knows the answer."""
        return f"{'chatcmpl' if self.request.is_chat else 'cmpl'}-{self.id}"

    def whole(self, texts: Sequence[Sequence[Token]], reasons: Sequence[str], stats: Sequence[GenerationStats]) -> Json:
        """Return the answer as one object: the tokens, finish reason and figures of each choice."""
        choices = [
            self._choice(index, tokens, reason, whole=True)
            for index, (tokens, reason) in enumerate(zip(texts, reasons, strict=True))
        ]
        return self._frame(choices) | {"usage": self.usage(stats), "metrics": metrics(stats)}

    def begin(self, index: int) -> Json | None:
        """Return the chunk that begins a choice, if there is one."""
        if not self.request.is_chat:
            return None
        delta = {"role": "assistant", "content": ""}
        return self._chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])

    def chunk(self, index: int, tokens: Sequence[Token], offset: int) -> Json:
        """Return the chunk of some tokens of a choice whose text has ``offset`` characters before them."""
        return self._chunk([self._choice(index, tokens, None, whole=False, offset=offset)])

    def end(self, index: int, reason: str, stats: GenerationStats) -> Json:
        """Return the chunk that ends a choice."""
        return self._chunk([self._choice(index, (), reason, whole=False)]) | {"metrics": metrics([stats])}

    def last(self, stats: Sequence[GenerationStats]) -> Json | None:
        """Return the chunk that ends a stream, if one was asked for: how much was used."""
        if not self.request.include_usage:
            return None
        return self._frame([], streamed=True) | {"usage": self.usage(stats)}

    def usage(self, stats: Sequence[GenerationStats]) -> Json:
        """Return how many tokens were used; a prompt counts once, whatever the number of its choices."""
        prompt = sum(one.prompt_tokens for one in stats[:: self.request.n])
        completion = sum(one.committed_tokens for one in stats)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _chunk(self, choices: list[Json]) -> Json:
        frame = self._frame(choices, streamed=True)
        return frame | {"usage": None} if self.request.include_usage else frame

    def _frame(self, choices: list[Json], *, streamed: bool = False) -> Json:
        kind = "chat.completion" if self.request.is_chat else "text_completion"
        return {
            "id": self.name,
            "object": f"{kind}.chunk" if streamed and self.request.is_chat else kind,
            "created": self.created,
            "model": self.request.model,
            "choices": choices,
        }

    def _choice(self, index: int, tokens: Sequence[Token], reason: str | None, *, whole: bool, offset: int = 0) -> Json:
        text = "".join(token.text for token in tokens)
        choice: Json = {"index": index, "finish_reason": reason, "logprobs": self._logprobs(tokens, offset)}
        if not self.request.is_chat:
            choice["text"] = text
        elif whole:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["delta"] = {"content": text} if tokens else {}
        if self.request.return_tokens and tokens:
            choice["tokens"] = [{"id": one.id, "text": one.text, "kind": one.kind} for one in tokens]
        return choice

    def _logprobs(self, tokens: Sequence[Token], offset: int) -> Json | None:
        top = self.request.top_logprobs
        if top is None or not tokens:
            return None
        if self.request.is_chat:
            return {"content": [self._likelihood(one, top) for one in tokens], "refusal": None}
        return {
            "tokens": [self._spelled(one.id)[0] for one in tokens],
            "token_logprobs": [_finite(one.logprob) for one in tokens],
            "top_logprobs": [
                {self._spelled(token)[0]: _finite(logprob) for token, logprob in one.top_logprobs[:top]}
                for one in tokens
            ]
            if top
            else None,
            "text_offset": _offsets(tokens, offset),
        }

    def _likelihood(self, token: Token, top: int) -> Json:
        others = [self._one_likelihood(other, logprob) for other, logprob in token.top_logprobs[:top]]
        return self._one_likelihood(token.id, token.logprob) | {"top_logprobs": others}

    def _one_likelihood(self, token: int, logprob: float | None) -> Json:
        text, spelling = self._spelled(token)
        return {"token": text, "logprob": _finite(logprob), "bytes": list(spelling)}

    def _spelled(self, token: int) -> tuple[str, bytes]:
        """Return a token as text and as bytes; a special one as the vocabulary writes it."""
        spellings = self.tokenizer.spellings
        spelling = spellings[token] if token < len(spellings) else b""
        spelling = spelling or (self.tokenizer.written(token) or "").encode()
        return spelling.decode(errors="replace"), spelling


def finish_reason(reason: FinishReason | None) -> str:
    """Return why a text ended, in OpenAI's words."""
    return "length" if reason is FinishReason.LENGTH else "stop"


def metrics(stats: Sequence[GenerationStats]) -> Json:
    """Return what speculation did for some texts together; the first token is the first of all."""
    drafted, judged = sum(one.drafted_tokens for one in stats), sum(one.judged_tokens for one in stats)
    accepted, rounds = sum(one.accepted_tokens for one in stats), sum(one.rounds for one in stats)
    committed = sum(one.committed_tokens for one in stats)
    return {
        "draft_tokens": drafted,
        "judged_tokens": judged,
        "accepted_tokens": accepted,
        "draft_acceptance_rate": accepted / judged if judged else None,
        "rounds": rounds,
        "tokens_per_round": committed / rounds if rounds else None,
        "takeovers": sum(one.takeovers for one in stats),
        "time_to_first_token_ms": min((one.ttft_ms for one in stats), default=None),
        "duration_ms": max((one.duration_ms for one in stats), default=None),
    }


def _offsets(tokens: Iterable[Token], offset: int) -> list[int]:
    found = []
    for token in tokens:
        found.append(offset)
        offset += len(token.text)
    return found


def _finite(logprob: float | None) -> float | None:
    return None if logprob is None else max(logprob, LEAST_LOGPROB)
