"""The client that speaks Redis: finds a verifier, keeps one feed for all its generations, loads drafters once."""

from __future__ import annotations

import asyncio
import random
import secrets
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from redis.asyncio import Redis

from dsdq.bus.address import shown
from dsdq.bus.connection import check_server, open_redis
from dsdq.bus.feed import FeedReader
from dsdq.bus.registry import WorkerInfo
from dsdq.bus.rights import Role
from dsdq.client import DEFAULT_DRAFT, GREEDY, GenerationStats
from dsdq.contract import Contract, Rule, Sampling
from dsdq.errors import ConfigError, PromptError
from dsdq.keys import fresh_name
from dsdq.policies.routing import POLICIES, prefix_of
from dsdq.policies.window import WindowPolicy
from dsdq.receipts import Receipt
from dsdq.settings import settings
from dsdq.tasks import run_all
from producers.device.choosing import DEEPEST, Choosing
from producers.device.drafting import Hand
from producers.device.finding import Directory, Finder, Found
from producers.device.generation import RedisGeneration
from producers.device.link import LOOK_AHEAD_MS, SessionLink
from producers.device.models import Models
from producers.device.patience import Patience
from producers.device.rounds import Prepared
from producers.device.sealer import Sealer
from producers.drafters import Drafter, model_of

CHECK_TRIPS = 4  # that a check of the server takes at least
WAYS = 2  # connections for a window in flight: its publication's and its answer's


class RedisClient:
    """See :class:`dsdq.client.Client`."""

    def __init__(
        self,
        url: str | None = None,
        *,
        tenant: str = "default",
        producer: str | None = None,
        sealer: Sealer | None = None,
        models: Models | None = None,
    ) -> None:
        """Speak for a device of ``tenant``: named ``producer``, or as ``sealer`` is, else as the settings say.

        Clients that share ``models`` load each of them once.
        """
        self._settings = settings()
        self._url = url or self._settings.redis_url
        self._tenant = tenant
        self._sealer = sealer or Sealer.of(self._settings, producer)
        self._producer = self._sealer.producer
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311 - spreads load, guards nothing
        self._route = POLICIES[self._settings.routing](self._rng)
        self._redis: Redis | None = None
        self._feed: FeedReader | None = None
        self._directory: Directory | None = None
        self._models = models or Models()
        self._generations: weakref.WeakSet[RedisGeneration] = weakref.WeakSet()

    async def __aenter__(self) -> Self:
        """Connect, check that the server is fit for use, look who serves, and start following this device's feed."""
        self._redis = open_redis(self._url)
        try:
            began_s = monotonic()
            await check_server(self._redis, role=Role.DEVICE, allow_unsafe=self._settings.allow_unsafe_redis)
            is_far = 1000 * (monotonic() - began_s) > CHECK_TRIPS * LOOK_AHEAD_MS
            self._feed = FeedReader(self._redis, self._producer, self._tenant)
            self._directory = Directory(self._redis)
            # At the same time: one connection is the feed's from now on, others are there for what is published.
            await run_all(
                self._directory.workers(None),
                self._feed.start(),
                self._feed.prepare(WAYS * DEEPEST if is_far else 0),
            )
        except BaseException:
            if self._feed is not None:
                await self._feed.stop()
            await self._redis.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what runs and disconnect."""
        for generation in list(self._generations):
            await generation.aclose()
        if self._feed is not None:
            await self._feed.stop()
        if self._redis is not None:
            await self._redis.aclose()

    async def workers(self, model: str | None = None) -> list[WorkerInfo]:
        """Return the verifiers that take sessions, of ``model`` or of all; as they were seen a moment ago.

        Raises:
            BusError: Redis does not say.
        """
        if self._directory is None:
            raise _not_entered()
        return await self._directory.workers(model)

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
    ) -> RedisGeneration:
        """See :meth:`dsdq.client.Client.generate`."""
        choosing = Choosing.of(policy, window, depth, rule)
        terms = partial(
            Contract,
            tenant=self._tenant,
            producer=self._producer,
            sampling=sampling,
            rule=rule,
            choice=choice,
            stop_strings=(stop,) if isinstance(stop, str) else tuple(stop),
            stop_ids=tuple(stop_ids),
            ignore_eos=ignore_eos,
            logprobs=logprobs,
            max_tokens=max_tokens,
            max_window=choosing.max_window,
            trusted=trusted,
        )

        async def _prepare(stats: GenerationStats) -> Prepared:
            beginning = prefix_of(prompt)
            found = await self._finder.find(model, beginning)
            link = self._link(found, beginning, stats, deadline_s)
            fixed = partial(terms, seed=_seed(seed), version=found.version)
            drafts = draft if isinstance(draft, Sequence) and not isinstance(draft, str) else (draft,)
            return await self._prepare(found, prompt, drafts, fixed, choosing.policy(found.worker, drafts), link)

        generation = RedisGeneration(_prepare, self._doubt, self._keep)
        self._generations.add(generation)
        return generation

    async def _prepare(
        self,
        found: Found,
        prompt: str | Sequence[int],
        drafts: Sequence[str | Drafter],
        terms: Callable[..., Contract],
        policy: WindowPolicy,
        link: SessionLink,
    ) -> Prepared:
        drafters = [await self._models.drafter(draft) for draft in drafts]
        # A device without a tokenizer of its own borrows the target's.
        named = zip(drafts, drafters, strict=True)
        models = [model_of(name) for name, one in named if isinstance(name, str) and one.fingerprint]
        tokenizer = await self._models.tokenizer(models[0] if models else found.worker.tokenizer)
        fingerprints = {one.fingerprint for one in drafters if one.fingerprint}
        if len(fingerprints) > 1:
            msg = f"drafters: expected one tokenizer for all, got fingerprints {', '.join(sorted(fingerprints))}"
            raise ConfigError(msg)
        contract = terms(
            session=fresh_name(),
            target=found.worker.model,
            tokenizer_fingerprint=tokenizer.fingerprint,
            draft_fingerprint=next(iter(fingerprints), ""),
        )
        ids = tuple(tokenizer.encode(prompt) if isinstance(prompt, str) else prompt)
        if not ids:
            msg = "expected a prompt of at least one token, got an empty one"
            raise PromptError(msg)
        hands = [Hand(await asyncio.to_thread(one.start, contract, tokenizer), one.brief) for one in drafters]
        trip_ms, key = found.round_trip_ms, self._settings.receipt_key
        return Prepared(contract, ids, tokenizer, hands, policy, link, found.worker.wid, trip_ms, key)

    def _link(self, found: Found, beginning: bytes, stats: GenerationStats, deadline_s: float | None) -> SessionLink:
        if self._redis is None or self._feed is None:
            raise _not_entered()
        patience = Patience(
            self._settings.open_timeout_ms,
            self._settings.verdict_timeout_ms,
            self._settings.give_up_ms,
            None if deadline_s is None else round(1000 * deadline_s),
        )

        async def _find_worker() -> str:
            return (await self._finder.find(found.worker.model, beginning, found.version, anew=True)).worker.wid

        return SessionLink(
            self._redis, self._feed, _find_worker, patience, stats, self._rng, self._sealer, found.round_trip_ms
        )

    @property
    def _finder(self) -> Finder:
        if self._directory is None:
            raise _not_entered()
        return Finder(
            self._directory,
            self._route,
            where=shown(self._url),
            patience_ms=self._settings.find_verifier_ms,
            outage_ms=self._settings.give_up_ms,
        )

    def _keep(self, receipt: Receipt) -> None:
        """Keep a receipt if that is wished: one line, in one piece, behind those of other clients."""
        if self._settings.receipts:
            try:
                with Path(self._settings.receipts).open("ab", buffering=0) as file:
                    file.write(f"{receipt.write()}\n".encode())
            except OSError as error:
                msg = f"DSDQ_RECEIPTS: expected a file to keep receipts in, got {self._settings.receipts}: {error}"
                raise ConfigError(msg) from error

    def _doubt(self) -> None:
        if self._directory is not None:
            self._directory.doubt()


def _seed(given: int | None) -> int:
    return secrets.randbits(64) if given is None else given


def _not_entered() -> ConfigError:
    return ConfigError("expected an entered client: use `async with dsdq.connect(url) as client`")
