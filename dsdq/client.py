"""What a program sees of dsdq: connect, generate, tokens, figures.

The client that speaks Redis lives with the producers; it is found by entry point, so that this package imports neither
producers nor workers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import entry_points
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, cast

from dsdq.contract import FinishReason, Rule, Sampling
from dsdq.drafting import Drafter
from dsdq.errors import ConfigError
from dsdq.settings import settings

if TYPE_CHECKING:
    from dsdq.receipts import Receipt  # whoever imports dsdq only to connect needs no cryptography yet

DEFAULT_DRAFT = "builtin/draft"
DEFAULT_WINDOW = 8
GREEDY = Sampling()
GATEWAYS = ("ws", "wss")


class TokenKind(StrEnum):
    """Where a committed token came from.

    ``ACCEPTED`` was drafted, by the device or the verifier, and stood. ``CORRECTION`` replaced the first rejected draft
    token, ``BONUS`` followed a window that was accepted whole, ``TARGET`` was decoded with nothing drafted.
    """

    ACCEPTED = "accepted"
    CORRECTION = "correction"
    BONUS = "bonus"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Token:
    """One committed token: its id, the text it completes (may be empty inside a character), and where it came from.

    Text that could begin a stop string comes with the token that shows that it does not; a stop string never comes.
    ``logprob`` and ``top_logprobs``, likeliest first, are there where log-probabilities were asked for.
    """

    id: int
    text: str
    kind: TokenKind
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class GenerationStats:
    """What one generation cost and gained; complete once the generation has ended.

    Of ``drafted_tokens``, which the device drafted, ``judged_tokens`` met the target (and of those that the verifier
    drafted itself), ``wasted_tokens`` stood behind a rejected one. Bytes are message payloads.
    Of ``rounds``, ``rounds_ahead`` were sent while another was unanswered. ``repeats`` counts requests that were sent
    again, ``takeovers`` changes of the verifier.
    The lists have one entry per verdict: ``round_trips_ms`` from publish to verdict, ``queue_ms`` and ``verify_ms`` of
    that at the verifier, ``batch_rows`` the sessions of the same forward,
    ``modes`` who drafted (:class:`dsdq.policies.window.Mode`).
    """

    prompt_tokens: int = 0
    committed_tokens: int = 0
    drafted_tokens: int = 0
    judged_tokens: int = 0
    wasted_tokens: int = 0
    accepted_tokens: int = 0
    rounds: int = 0
    rounds_ahead: int = 0
    repeats: int = 0
    takeovers: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    ttft_ms: float = 0.0
    draft_ms: float = 0.0
    duration_ms: float = 0.0
    round_trips_ms: list[float] = field(default_factory=list)
    verify_ms: list[float] = field(default_factory=list)
    queue_ms: list[float] = field(default_factory=list)
    batch_rows: list[int] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)

    @property
    def acceptance_rate(self) -> float:
        """Return the accepted share of the draft tokens that were judged, 0 when none was."""
        return self.accepted_tokens / self.judged_tokens if self.judged_tokens else 0.0

    @property
    def tokens_per_round(self) -> float:
        """Return the mean of committed tokens per round."""
        return self.committed_tokens / self.rounds if self.rounds else 0.0

    @property
    def tokens_per_s(self) -> float:
        """Return committed tokens per second, from the call to the last token."""
        return 1000 * self.committed_tokens / self.duration_ms if self.duration_ms else 0.0


class Generation(Protocol):
    """One running generation: iterate over its tokens; afterwards read what it was.

    ``session`` names it in all logs and traces, and is empty until it has begun. ``receipt`` proves what may be charged
    for it: it has been held against all verdicts.
    """

    session: str
    ids: list[int]
    prompt_ids: tuple[int, ...]
    stats: GenerationStats
    finish_reason: FinishReason | None
    receipt: Receipt | None

    def __aiter__(self) -> AsyncIterator[Token]:
        """Yield every committed token, in order, once."""
        ...

    def bursts(self) -> AsyncIterator[list[Token]]:
        """Yield the same tokens as they were committed: those of one verdict together."""
        ...

    async def aclose(self) -> None:
        """Cancel what still runs and free the session."""
        ...


class Client(Protocol):
    """A device's way into the service."""

    async def __aenter__(self) -> Self:
        """Connect, or raise :class:`dsdq.errors.UnavailableError`."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what runs and disconnect."""
        ...

    def generate(  # noqa: PLR0913 - keyword-only, each with a default
        self,
        prompt: str | Sequence[int],
        *,
        draft: str | Drafter | Sequence[str | Drafter] = DEFAULT_DRAFT,
        sampling: Sampling = GREEDY,
        max_tokens: int = 128,
        window: int | None = None,
        depth: int | None = None,
        policy: str | None = None,
        seed: int | None = None,
        model: str | None = None,
        rule: Rule = Rule.COUPLED,
        trusted: bool = False,
        stop: str | Sequence[str] = (),
        stop_ids: Sequence[int] = (),
        ignore_eos: bool = False,
        logprobs: int = 0,
        choice: int = 0,
        deadline_s: float | None = None,
    ) -> Generation:
        """Generate up to ``max_tokens`` tokens of the target's own text after ``prompt`` (text or token ids).

        Args:
            prompt: text, encoded by the target's tokenizer, or token ids.
            draft: a drafter by name (``builtin/draft``, ``ngram``, ``none``, …: see README.md), or one of your own. Of
                several the first is preferred; ``backoff`` goes on to the next where drafts keep being rejected.
            sampling: how the target draws its next token; greedy by default.
            max_tokens: bound of the generated tokens.
            window: draft tokens per round; at most, where a policy chooses.
            depth: rounds in flight; 1 waits for each verdict. At most, where a policy chooses.
            policy: what chooses window, depth and who drafts, by name (:data:`dsdq.policies.window.POLICIES`). None is
                ``optimal``, or always the same if ``window`` or ``depth`` is given, or the text follows from them, as
                under the rule ``rejection``.
            seed: 64 bits that fix the text; random when absent.
            model: which target, when the service runs several.
            rule: ``coupled`` (default) or ``rejection``.
            trusted: ask for the terms of a trusted tenant, which ``rejection`` needs.
            stop: strings that end the text; it is shown up to the earliest of them, without it.
            stop_ids: token ids that end the text, beside the target's own end of text.
            ignore_eos: go on after that one.
            logprobs: how many of the likeliest tokens to report with each token and its log-probability; 0 for none.
            choice: tells several answers to one prompt and seed apart.
            deadline_s: for the whole text; what is not done by then ends with an error. None: no bound.

        Raises (while iterating):
            ConfigError: an argument is not what was expected.
            RefusedError: the verifier refused the session.
            SessionError: the session ended early.
            BusError: Redis, or the gateway, failed for longer than the client waits.
        """
        ...


def connect(url: str | None = None, *, tenant: str = "default", key: str | None = None) -> Client:
    """Return a client for the service at ``url``, to be entered with ``async with``.

    Args:
        url: of Redis, ``redis://``, ``rediss://`` or ``unix://``; or of a gateway, ``ws://`` or ``wss://``, for a
            device that must not reach Redis. The setting ``DSDQ_REDIS_URL`` when absent.
        tenant: on whose behalf; with a gateway the key says so.
        key: the tenant's API key, for a gateway; the setting ``DSDQ_API_KEY`` when absent.

    Raises:
        ConfigError: no client is installed for the address, or a key is given for Redis.
    """
    address = url or settings().redis_url
    scheme = address.partition("://")[0]
    gateway = entry_points(group="dsdq.clients", name=scheme) if scheme in GATEWAYS else ()
    found = gateway or entry_points(group="dsdq.clients", name="redis")
    if not found:
        msg = "expected dsdq's producers to be installed, found none; reinstall dsdq"
        raise ConfigError(msg)
    if key is not None and not gateway:
        msg = "key: expected a gateway's URL with it, ws:// or wss://; Redis knows users and passwords"
        raise ConfigError(msg)
    try:
        make = next(iter(found)).load()
    except ModuleNotFoundError as error:
        msg = f"{scheme}: expected {error.name} to be installed; install dsdq[websocket]"
        raise ConfigError(msg) from error
    return cast("Client", make(address, tenant=tenant, **({} if key is None else {"key": key})))
