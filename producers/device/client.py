"""What a program sees of a device, whichever way it reaches the service: finds verifiers, loads drafters once."""

from __future__ import annotations

import asyncio
import random
import secrets
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from dsdq.bus.registry import WorkerInfo
from dsdq.client import DEFAULT_DRAFT, GREEDY, GenerationStats
from dsdq.contract import Contract, Rule, Sampling
from dsdq.errors import ConfigError, PromptError
from dsdq.keys import fresh_name
from dsdq.policies.routing import POLICIES, prefix_of
from dsdq.policies.window import Experience, WindowPolicy
from dsdq.receipts import Receipt
from dsdq.settings import Settings
from dsdq.tasks import run_all
from producers.device.choosing import Choosing
from producers.device.drafting import Hand
from producers.device.finding import Directory, Finder, Found
from producers.device.generation import DeviceGeneration
from producers.device.link import SessionLink
from producers.device.models import Models
from producers.device.patience import Patience
from producers.device.rounds import Prepared
from producers.device.way import Way
from producers.drafters import Drafter, model_of

MOST_REMEMBERED = 16
"""So many kinds of text, by policy, target and drafters, begin with what the last of their kind has learned."""


class DeviceClient:
    """See :class:`dsdq.client.Client`."""

    def __init__(self, way: Way, chosen: Settings, models: Models | None = None) -> None:
        self._settings = chosen
        self._way = way
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311 - spreads load, guards nothing
        self._route = POLICIES[self._settings.routing](self._rng)
        self._directory: Directory | None = None
        self._models = models or Models()
        self._experience = Experience(MOST_REMEMBERED)
        self._generations: weakref.WeakSet[DeviceGeneration] = weakref.WeakSet()

    async def __aenter__(self) -> Self:
        """Connect, check that the service is fit for use, look who serves, and start following this device's sessions.

        Raises:
            BusError: the service cannot be reached, or does not let us.
        """
        try:
            await self._way.open()
            directory = Directory(self._way)
            # At the same time: each takes a round trip or more.
            await run_all(directory.workers(None), self._way.prepare())
        except BaseException:
            await self._way.close()
            raise
        self._directory = directory
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what runs and disconnect."""
        try:
            for generation in list(self._generations):
                await generation.aclose()
        finally:
            await self._way.close()

    async def workers(self, model: str | None = None) -> list[WorkerInfo]:
        """Return the verifiers that take sessions, of ``model`` or of all; as they were seen a moment ago.

        Raises:
            BusError: the service does not say.
        """
        return await self._entered.workers(model)

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
    ) -> DeviceGeneration:
        """See :meth:`dsdq.client.Client.generate`."""
        choosing = Choosing.of(policy, window, depth, rule)
        terms = partial(
            Contract,
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
            return await self._prepare(found, prompt, drafts, fixed, self._policy(choosing, found, drafts), link)

        generation = DeviceGeneration(_prepare, self._doubt, self._keep)
        self._generations.add(generation)
        return generation

    def _policy(self, choosing: Choosing, found: Found, drafts: Sequence[str | Drafter]) -> WindowPolicy:
        """Return a text's policy, which begins with what the last one of its kind has learned."""
        # Another object may have an old one's id by now: what a policy then begins with is a worse guess, no more.
        drafters = tuple(one if isinstance(one, str) else id(one) for one in drafts)
        return self._experience.begin(choosing.policy(found.worker, drafts), (choosing, found.worker.model, drafters))

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
            tenant=self._way.tenant,
            producer=self._way.producer,
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
        patience = Patience(
            self._settings.open_timeout_ms,
            self._settings.verdict_timeout_ms,
            self._settings.give_up_ms,
            None if deadline_s is None else round(1000 * deadline_s),
        )

        async def _find_worker() -> str:
            return (await self._finder.find(found.worker.model, beginning, found.version, anew=True)).worker.wid

        return SessionLink(self._way, _find_worker, patience, stats, self._rng, found.round_trip_ms)

    @property
    def _entered(self) -> Directory:
        if self._directory is None:
            raise ConfigError("expected an entered client: use `async with dsdq.connect(url) as client`")
        return self._directory

    @property
    def _finder(self) -> Finder:
        return Finder(
            self._entered,
            self._route,
            where=self._way.where,
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
