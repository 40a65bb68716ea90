"""Give a dead letter to a worker once more: to whoever owns its session now."""

from __future__ import annotations

from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.connection import translated
from dsdq.bus.dead import DeadLetters, Letter
from dsdq.bus.publishing import publish
from dsdq.bus.sessions import OPEN
from dsdq.errors import ConfigError, GoneError
from dsdq.sealing import Seal
from dsdq.wire import Open, unpack_contract


async def redeliver(redis: Redis, letters: DeadLetters, letter_id: str) -> str:
    """Put a letter's message into an inbox again, drop the letter, and return the worker whose inbox it is.

    That is the session's present owner where the letter tells whose session it is; else the worker that it came to. A
    crash before the letter is dropped leaves it there: what is published twice is answered once.

    Raises:
        ConfigError: there is no such letter, or its payload was cut.
        SealError: it has half a seal, or a broken one.
        GoneError: the session is closed, or the worker is gone; the letter stays.
        BusyError: the inbox is full; the letter stays.
    """
    letter = await letters.show(letter_id)
    if not letter.whole:
        msg = (
            f"letter {letter_id}: expected a whole payload, got {len(letter.payload)} of {letter.size_bytes} bytes; "
            "it can only be dropped"
        )
        raise ConfigError(msg)
    worker = await _owner(redis, letter) or letter.worker
    try:
        await publish(
            redis,
            worker,
            letter.tenant,
            letter.payload,
            producer=_producer(letter) or "",
            seal=Seal.read({name.encode(): value for name, value in letter.seal.items()}),
            opens=isinstance(letter.message, Open),
        )
    except GoneError as error:
        msg = f"letter {letter_id}: cannot be tried again: {error}"
        raise GoneError(msg) from error
    await letters.drop(letter_id)
    return worker


async def _owner(redis: Redis, letter: Letter) -> str | None:
    """Return the worker that owns the letter's session now; None where neither the letter nor Redis tells.

    Raises:
        GoneError: the session is closed.
    """
    message, producer = letter.message, _producer(letter)
    if message is None or producer is None:
        return None
    with translated():
        worker, status = await redis.hmget(
            keys.session_head(producer, letter.tenant, message.session), "worker", "status"
        )
    if status is not None and status != OPEN.encode():
        msg = f"letter {letter.id}: session {message.session} is closed; nobody waits for an answer"
        raise GoneError(msg)
    return worker.decode() if worker else None


def _producer(letter: Letter) -> str | None:
    """Return whose session it is: the entry says so, and so does the contract that an ``open`` carries."""
    message = letter.message
    if isinstance(message, Open):
        return unpack_contract(message.contract, with_unknown=True).producer
    producer = letter.seal.get("p", b"").decode(errors="replace")
    return producer if keys.NAME.fullmatch(producer) else None
