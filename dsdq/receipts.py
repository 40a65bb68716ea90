"""Receipts: the end of a session's log, signed by the service, and what a client holds against it. Pure.

A receipt says how long the text is and what was verified for it. The digest binds it to the contract and every token
(:mod:`dsdq.digest`), the signature (Ed25519) to the service. A client has seen each verdict that it adds up, and knows
what it drafted: it can prove every token that it is charged for, and cannot be charged for more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dsdq import digest
from dsdq.errors import ConfigError, DsdqError, SessionError
from dsdq.sealing import hkdf
from dsdq.session import Counts
from dsdq.wire import Closed, Decode, Draft, ErrorCode, Verdict, pack, unpack, unpack_contract

_SIGNING = b"dsdq.receipt.key\0"
_RECEIPT = b"dsdq.receipt\0"


class Signer:
    """The service's side: all its verifiers sign with one key, which is made from the service's own."""

    def __init__(self, service_key: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hkdf(service_key, info=_SIGNING))
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, closed: Closed) -> Closed:
        """Return a receipt with the service's key and signature."""
        named = replace(closed, key=self.public_key, signature=b"")
        return replace(named, signature=self._key.sign(_signed(named)))


def is_signed(closed: Closed, public_key: bytes) -> bool:
    """Say whether a receipt was signed with this key, as it is."""
    if closed.key != public_key or not closed.signature:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(closed.signature, _signed(closed))
    except (InvalidSignature, ValueError):
        return False
    return True


class Tally:
    """What a client counts itself: what it asked for, round by round, and what the verdicts come to."""

    def __init__(self, length: int) -> None:
        """Begin with a text of so many tokens, the prompt's."""
        self._asked: dict[int, int] = {}  # by round: tokens that may be judged for it
        self._sums = [(length, Counts())]

    @property
    def counts(self) -> Counts:
        """Return what all verdicts come to."""
        return self._sums[-1][1]

    def asked(self, request: Draft | Decode) -> None:
        """Take note of a round."""
        self._asked[request.round] = request.window if isinstance(request, Decode) else len(request.tokens)

    def add(self, verdict: Verdict) -> None:
        """Take in a verdict.

        Raises:
            SessionError: it counts more than was asked for.
        """
        most = sum(self._asked.get(number, 0) for number in range(verdict.first_round, verdict.last_round + 1))
        if verdict.drafted > most or verdict.verified > verdict.drafted + 1:
            raise SessionError(
                ErrorCode.RECEIPT_INVALID,
                f"rounds {verdict.first_round} to {verdict.last_round}: expected at most {most} draft tokens judged "
                f"and one position more verified, got {verdict.drafted} and {verdict.verified}",
            )
        self._sums.append((verdict.length, self.counts.after(verdict)))

    def rewind(self, length: int) -> None:
        """Forget what came after the first ``length`` tokens: Redis lost it."""
        self._sums = [(upto, counts) for upto, counts in self._sums if upto <= length]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a client keeps of a session: what was agreed, what it saw, and how the service closed it."""

    contract: bytes
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    counts: Counts
    closed: Closed

    @classmethod
    def read(cls, line: str) -> Self:
        """Return the receipt of a line that :meth:`write` gave.

        Raises:
            ConfigError: it is none.
        """
        try:
            found: dict[str, Any] = json.loads(line)
            closed = unpack(bytes.fromhex(found["closed"]))
            if not isinstance(closed, Closed):
                raise ConfigError("receipt: expected a closed message, got another")
            return cls(
                bytes.fromhex(found["contract"]),
                tuple(int(token) for token in found["prompt"]),
                tuple(int(token) for token in found["tokens"]),
                Counts(**{name: int(count) for name, count in found["counts"].items()}),
                closed,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"receipt: expected a line as dsdq keeps them, got another: {error!r}") from None
        except DsdqError as error:
            raise ConfigError(f"receipt: {error}") from None

    def write(self) -> str:
        """Return it as one line of JSON."""
        counts = {name: getattr(self.counts, name) for name in Counts.__dataclass_fields__}
        return json.dumps(
            {
                "contract": self.contract.hex(),
                "prompt": self.prompt,
                "tokens": self.tokens,
                "counts": counts,
                "closed": pack(self.closed).hex(),
            },
            separators=(",", ":"),
        )

    @property
    def tenant(self) -> str:
        """Return whose it is."""
        return unpack_contract(self.contract, with_unknown=True).tenant

    def problems(self, public_key: bytes | None) -> list[str]:
        """Return what is wrong with it, nothing if it proves what it says.

        Args:
            public_key: the service's, by which it has to be signed; None takes one that nobody signed too.
        """
        closed, found = self.closed, list[str]()
        text = digest.extend(digest.start(self.contract), (*self.prompt, *self.tokens))
        if closed.length != len(self.prompt) + len(self.tokens):
            found.append(f"expected a text of {len(self.prompt)} + {len(self.tokens)} tokens, got {closed.length}")
        if closed.digest != text:
            found.append("expected the digest of this contract and text, got another")
        found += _differences(closed, self.counts)
        if closed.prefill > max(0, len(self.prompt) - 1):
            found.append(f"expected at most {len(self.prompt) - 1} prompt tokens to be fed, got {closed.prefill}")
        if public_key is not None and not is_signed(closed, public_key):
            found.append("expected the signature of the service's key, got none or another")
        elif closed.signature and not is_signed(closed, closed.key):
            found.append("expected a signature of these very figures, got another")
        return found


def total_of(receipts: Iterable[Receipt]) -> dict[str, int]:
    """Return what receipts add up to, by the names of a bill (:class:`dsdq.tenants.usage.Usage`)."""
    kept = list(receipts)
    return {
        "sessions": len(kept),
        "committed": sum(len(one.tokens) for one in kept),
        "accepted": sum(one.closed.accepted for one in kept),
        "rejected": sum(one.closed.drafted - one.closed.accepted for one in kept),
        "verified": sum(one.closed.verified for one in kept),
        "prefill": sum(one.closed.prefill for one in kept),
    }


def _differences(closed: Closed, counts: Counts) -> list[str]:
    """Return where a receipt does not add up to the verdicts that were seen."""
    return [
        f"expected {due} {name} by the verdicts, the receipt has {told}"
        for name in Counts.__dataclass_fields__
        if (told := getattr(closed, name)) != (due := getattr(counts, name)) and not (name == "prefill" and told < due)
    ]


def _signed(closed: Closed) -> bytes:
    return _RECEIPT + pack(replace(closed, signature=b""))
