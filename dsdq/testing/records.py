"""Where histories come from: what devices published, read off the wire, and what Redis holds at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from redis.asyncio import Redis

from dsdq.bus.connection import translated
from dsdq.bus.sessions import CLOSED, place_of, read_entries
from dsdq.contract import Sampling
from dsdq.digest import prefix_digests
from dsdq.errors import WireError
from dsdq.testing.devices import Text
from dsdq.testing.history import DeviceRecord, Head, History, Logged
from dsdq.wire import Decode, Draft, Message, Open, unpack, unpack_contract

Decoder = Callable[[Sequence[int], int, Sampling, int, int], list[int]]
"""Gives the text of a quiet run for prompt, greatest number of tokens, sampling, seed and choice."""


class Publications:
    """What went from devices into inboxes, by session. :meth:`hear` is for a proxy's ``on_request``.

    What a device sends twice is here twice. What a proxy does to it afterwards does not show here.
    """

    def __init__(self) -> None:
        self.opens: dict[str, Open] = {}
        self.rounds: dict[str, list[Draft | Decode]] = {}

    def hear(self, words: Sequence[bytes]) -> None:
        """Take in the words of one request."""
        if words[0].upper() != b"EVALSHA":
            return
        for message in filter(None, map(_message, words[3:])):
            if isinstance(message, Open):
                self.opens[message.session] = message
                first = message.first_round(prefix_digests(message.contract, message.prompt)[-1])
                if first is not None:
                    self.rounds.setdefault(message.session, []).append(first)
            elif isinstance(message, Draft | Decode):
                self.rounds.setdefault(message.session, []).append(message)


def _message(word: bytes) -> Message | None:
    try:
        return unpack(word)
    except WireError:
        return None


async def read_histories(
    redis: Redis, published: Publications, texts: Iterable[Text], decode: Decoder
) -> list[History]:
    """Return the histories of all sessions that have a log; ``decode`` gives the texts they should have."""
    by_prompt = {text.prompt: text for text in texts}
    # Should a device have asked twice for one text, the session that it came to follow is the later one.
    followed = {opening.prompt: session for session, opening in published.opens.items()}
    histories = []
    for session, opening in published.opens.items():
        text = by_prompt[opening.prompt] if followed[opening.prompt] == session else Text(opening.prompt)
        history = await _read_history(redis, opening, text, published.rounds.get(session, ()), decode)
        if history is not None:
            histories.append(history)
    return histories


async def _read_history(
    redis: Redis, opening: Open, text: Text, rounds: Sequence[Draft | Decode], decode: Decoder
) -> History | None:
    contract = unpack_contract(opening.contract)
    place = place_of(contract)
    entries = await read_entries(redis, place)
    if not entries:
        return None
    with translated():
        head: Mapping[bytes, bytes] = await redis.hgetall(place.head)
    return History(
        session=contract.session,
        contract=opening.contract,
        prompt=opening.prompt,
        entries=[Logged(entry.number, entry.epoch, unpack(entry.message)) for entry in entries],
        head=Head(
            closed=head[b"status"] == CLOSED.encode(),
            epoch=int(head[b"epoch"]),
            length=int(head[b"length"]),
            entries=int(head[b"entries"]),
        ),
        device=DeviceRecord(rounds, text.shown, text.finish_reason, text.error),
        expected=decode(opening.prompt, contract.max_tokens, contract.sampling, contract.seed, contract.choice),
    )
