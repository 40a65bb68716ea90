"""Ten thousand things that no device of ours sends, in a live verifier's inboxes: each is accounted for, none harms."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from redis.asyncio import Redis

import dsdq
from dsdq import keys
from dsdq.bus.dead import DeadLetters
from dsdq.bus.publishing import publish
from dsdq.bus.sessions import Place
from dsdq.contract import Contract, FinishReason
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.hashed import decode
from dsdq.testing.servers import until
from dsdq.wire import (
    Cancel,
    Closed,
    Decode,
    Draft,
    Error,
    ErrorCode,
    Gap,
    Open,
    Opened,
    Verdict,
    pack,
    pack_contract,
)
from tests.conftest import Serve
from workers.verifier.service import Verifier

SEED = 20_240_229
TENANTS = ("acme", "globex", "initech")
SECRET = bytes(range(32))
ENTRIES = 10_000
CHUNK, PUBLISHED = 500, 10  # put in between two tokens; how many of them by the script that keeps the bounds
PROMPT = (5, 9, 12, 7)
TOKENS = 300
DIGEST = bytes(16)

ANSWERED, STALE, UNCERTAIN = "answered", "stale", ""
Fields = dict[str, bytes]


@dataclass(frozen=True)
class Thing:
    """What is put into one tenant's inbox, and the kind of letter that it becomes, or why it becomes none."""

    tenant: str
    fields: Fields
    kind: str = UNCERTAIN


class Fuzz:
    """Makes things, all drawn from one seed. No well-formed one of tenant acme names session ``live``."""

    def __init__(self, fingerprint: str, live: Place) -> None:
        self._rng = random.Random(SEED)
        self._fingerprint = fingerprint
        self._live = live
        self._rounds = 0

    def things(self, count: int) -> Iterator[Thing]:
        makers = (
            self.random_bytes,
            self.mutated,
            self.truncated,
            self.huge_length,
            self.deep,
            self.bad_text,
            self.anothers_tenant,
            self.anothers_session,
            self.from_worker,
            self.without_message,
            self.spoiled_seal,
            self.refused,
            self.stale,
        )
        for number in range(count):
            yield makers[number % len(makers)]()

    def random_bytes(self) -> Thing:
        return self._thing(self._rng.randbytes(self._rng.randrange(200)), "malformed")

    def mutated(self) -> Thing:
        payload = bytearray(pack(self._message()))
        for _ in range(self._rng.randint(1, 3)):
            payload[self._rng.randrange(len(payload))] = self._rng.randrange(256)
        return self._thing(bytes(payload))

    def truncated(self) -> Thing:
        payload = pack(self._message())
        return self._thing(payload[: self._rng.randrange(len(payload))], "malformed")

    def huge_length(self) -> Thing:
        header = self._rng.choice((b"\xdf", b"\xdd", b"\xdb", b"\xc6", b"\x83\x00\x01\x01\x01\x02\xdb", b"\xc9"))
        return self._thing(header + b"\xff\xff\xff\xff" + self._rng.randbytes(8), "malformed")

    def deep(self) -> Thing:
        opening = self._rng.choice((b"\x91", b"\x81\x00", b"\x83\x00\x01\x01\x03\x02\x91"))
        return self._thing(opening * self._rng.randrange(2, 2_000), "malformed")

    def bad_text(self) -> Thing:
        cancels = b"\x83\x00\x01\x01\x05\x02\xa4"
        return self._thing(cancels + b"\xff\xc0" + self._rng.randbytes(2), "malformed")

    def anothers_tenant(self) -> Thing:
        opening = self._open(replace(self._contract(), tenant="globex"))
        return Thing("acme", {"m": pack(opening), "p": b"phone"}, "wrong_tenant")

    def anothers_session(self) -> Thing:
        session = self._live.session
        choices = (
            (Cancel(session), "late_cancel"),
            (Decode(session, 0, 1, len(PROMPT), DIGEST, 64), "unknown_session"),
        )
        message, kind = self._rng.choice(choices)
        return Thing("globex", {"m": pack(message), "p": self._live.producer.encode()}, kind)

    def from_worker(self) -> Thing:
        session = self._live.session
        message = self._rng.choice(
            (
                Opened(session, "w", 9, "n", "r", 4, DIGEST, 8, 99),
                Verdict(session, 1, 1, 0, 4, 0, 0, (1,), 5, DIGEST, 1, 1, 1, 1, 8),
                Gap(session, 4),
                Closed(session, FinishReason.STOP, 4, DIGEST, 1, 1, 1, 1),
                Error(session, ErrorCode.INTERNAL, "no"),
            )
        )
        return self._thing(pack(message), "not_a_request")

    def without_message(self) -> Thing:
        noise = {f"x{number}": self._rng.randbytes(9) for number in range(self._rng.randint(1, 30))}
        return Thing(self._rng.choice(TENANTS[:2]), noise, "malformed")

    def spoiled_seal(self) -> Thing:
        fields = {name: self._rng.randbytes(self._rng.randrange(40)) for name in self._rng.sample("psa", 2)}
        return Thing("initech", {"m": pack(self._message()), **fields}, "forged")

    def refused(self) -> Thing:
        """Return an ``open`` that is answered, with an error in its own log."""
        opening = self._open(replace(self._contract(), target="another/model"))
        return Thing("acme", {"m": pack(opening), "p": b"phone"}, ANSWERED)

    def stale(self) -> Thing:
        """Return a round of the live session, in its own tenant's inbox, of another text: it needs no answer."""
        self._rounds += 1
        round_ = Draft(self._live.session, 0, 10_000 + self._rounds, len(PROMPT), DIGEST, (1, 2, 3))
        return Thing("acme", {"m": pack(round_), "p": self._live.producer.encode()}, STALE)

    def _thing(self, payload: bytes, kind: str = UNCERTAIN) -> Thing:
        fields = {"m": payload, "p": self._rng.choice((b"phone", b"", b"\xff\xfe", b"../x:{y}", b"p" * 300))}
        if self._rng.random() < 0.3:
            fields |= {"s": self._rng.randbytes(5), "a": self._rng.randbytes(16), "more": b"?"}
        return Thing("acme", fields, kind)

    def _message(self) -> Open | Draft | Decode | Cancel:
        contract = self._contract()
        return self._rng.choice(
            (
                self._open(contract),
                Draft(contract.session, 0, 1, 4, DIGEST, (1, 2, 3)),
                Decode(contract.session, 0, 1, 4, DIGEST, 8),
                Cancel(contract.session),
            )
        )

    def _open(self, contract: Contract) -> Open:
        return Open(contract.session, pack_contract(contract), PROMPT)

    def _contract(self) -> Contract:
        session = f"fuzz-{self._rng.getrandbits(60):x}"
        return Contract("acme", "phone", session, HASH_TARGET, self._fingerprint)


@pytest.fixture
async def verifier(serve: Serve) -> AsyncIterator[Verifier]:
    """Serve with inboxes that hold all of it, and places for whatever opens by chance."""
    async with serve(
        HASH_TARGET,
        tenants=TENANTS,
        tenant_secrets={"initech": SECRET.hex()},
        allow_unsafe_redis=True,
        inbox_bound=1 << 14,
        slots=512,
        kv_tokens=1 << 17,
    ) as serving:
        yield serving


async def test_ten_thousand_fuzzed_entries_harm_nothing_and_are_all_accounted_for(
    redis: Redis, redis_url: str, verifier: Verifier
) -> None:
    async with dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft="hash:0.8", max_tokens=TOKENS, ignore_eos=True)
        text = aiter(generation)
        tokens = [await anext(text)]
        live = await only_session(redis, verifier)
        things = list(Fuzz(Tokenizer.load(HASH_TARGET).fingerprint, live).things(ENTRIES))
        for first in range(0, ENTRIES, CHUNK):
            await put(redis, verifier, things[first : first + CHUNK])
            tokens.append(await anext(text))
        tokens += [token async for token in text]
    assert [token.id for token in tokens] == decode(PROMPT, TOKENS)

    async def settled() -> bool:
        return not any([await redis.xlen(keys.inbox(verifier.info.wid, tenant)) for tenant in TENANTS])

    await until(settled, "empty inboxes")
    expected = Counter(thing.kind for thing in things)
    dead = await DeadLetters(redis).counts()
    answered = len([key async for key in redis.scan_iter("*:acme:fuzz-*:log")])
    assert sum(dead.values()) + answered + expected[STALE] == ENTRIES
    assert answered >= expected[ANSWERED]
    for kind in {thing.kind for thing in things} - {ANSWERED, STALE, UNCERTAIN}:
        assert dead[kind] >= expected[kind]
    for tenant in TENANTS:
        assert int(await redis.get(keys.inbox_bytes(verifier.info.wid, tenant)) or 0) == 0


async def only_session(redis: Redis, verifier: Verifier) -> Place:
    """Return the one session that the verifier holds."""
    (place,) = await redis.smembers(keys.worker_sessions(verifier.info.wid))
    return Place(*place.decode().split("/"))


async def put(redis: Redis, verifier: Verifier, things: Sequence[Thing]) -> None:
    """Put things into their inboxes: few by the script that keeps the bounds, most past it."""
    pipeline = redis.pipeline(transaction=False)
    for thing in things[PUBLISHED:]:
        pipeline.xadd(keys.inbox(verifier.info.wid, thing.tenant), thing.fields)
    await pipeline.execute()
    for thing in things[:PUBLISHED]:
        payload, producer = thing.fields.get("m", b""), thing.fields.get("p", b"").decode(errors="replace")
        await publish(redis, verifier.info.wid, thing.tenant, payload, producer=producer)
