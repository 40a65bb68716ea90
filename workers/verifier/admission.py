"""May this session open here, may this round run? Pure: contracts against what this verifier offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dsdq.contract import Contract, Rule
from dsdq.errors import QuotaError, RefusedError
from dsdq.session import Transcript
from dsdq.wire import Decode, Draft, Error, ErrorCode, Opened
from dsdq.wire.limits import MAX_LIMIT, MAX_RETRY_MS


@dataclass(frozen=True, slots=True)
class Offer:
    """What this verifier serves.

    ``context_tokens`` of the target, and ``kv_tokens`` of this verifier's memory, bound prompt, output and one window
    together.
    """

    target: str
    target_revision: str
    tokenizer_fingerprint: str
    numerics: str
    vocab_size: int
    context_tokens: int
    kv_tokens: int
    eos_ids: frozenset[int] = frozenset()
    trusted_tenants: frozenset[str] = frozenset()


def needed_tokens(contract: Contract, prompt_tokens: int) -> int:
    """Return the KV positions that a session may come to use."""
    return prompt_tokens + contract.max_tokens + contract.max_window


def check(offer: Offer, contract: Contract, prompt: Sequence[int]) -> None:
    """Return when the session may open.

    Raises:
        RefusedError: with the code and the sentence that the device will see.
    """
    _check_fit(offer, contract)
    _check_prompt(offer, contract, prompt)
    _check_biases(offer, contract)
    if contract.rule is Rule.REJECTION and not (contract.trusted and contract.tenant in offer.trusted_tenants):
        raise RefusedError(
            ErrorCode.UNTRUSTED,
            f"the rejection rule lets a device that misreports its law control the text: expected a contract marked "
            f"trusted and a tenant that the operator trusts, got trusted={contract.trusted} for tenant "
            f"{contract.tenant!r}; use the coupled rule, or name the tenant in DSDQ_TRUSTED_TENANTS",
        )


def _check_fit(offer: Offer, contract: Contract) -> None:
    if contract.target != offer.target or contract.target_revision not in ("", offer.target_revision):
        raise RefusedError(
            ErrorCode.WRONG_TARGET,
            f"this verifier serves {offer.target} revision {offer.target_revision}, the contract asks for "
            f"{contract.target} revision {contract.target_revision or '(any)'}",
        )
    if contract.numerics not in ("", offer.numerics):
        raise RefusedError(
            ErrorCode.WRONG_NUMERICS,
            f"this verifier computes in {offer.numerics}, the contract asks for {contract.numerics}",
        )
    if contract.draft_fingerprint not in ("", offer.tokenizer_fingerprint):
        raise RefusedError(
            ErrorCode.FINGERPRINT_MISMATCH,
            f"the draft model's tokenizer has fingerprint {contract.draft_fingerprint}, the target's has "
            f"{offer.tokenizer_fingerprint}: its ids would name other text; use a draft of the same family, or put "
            "retokenise: before its name to have its text encoded again for the target",
        )
    if contract.tokenizer_fingerprint != offer.tokenizer_fingerprint:
        raise RefusedError(
            ErrorCode.FINGERPRINT_MISMATCH,
            f"the device's tokenizer has fingerprint {contract.tokenizer_fingerprint}, the target's has "
            f"{offer.tokenizer_fingerprint}: the prompt's ids would name other text; use the target's tokenizer",
        )


def _check_prompt(offer: Offer, contract: Contract, prompt: Sequence[int]) -> None:
    if not prompt:
        raise RefusedError(ErrorCode.PROMPT_INVALID, "expected a prompt of at least one token, got none")
    outside = [token for token in prompt if token >= offer.vocab_size]
    if outside:
        raise RefusedError(
            ErrorCode.PROMPT_INVALID, f"expected token ids below {offer.vocab_size}, got {outside[0]} in the prompt"
        )
    room, whose = min((offer.context_tokens, "the target's context"), (offer.kv_tokens, "this verifier's KV cache"))
    if needed_tokens(contract, len(prompt)) > room:
        raise RefusedError(
            ErrorCode.CONTEXT_TOO_LONG,
            f"expected prompt + max_tokens + max_window of at most {room} tokens ({whose}), got "
            f"{len(prompt)} + {contract.max_tokens} + {contract.max_window}; shorten the prompt or ask for less",
        )


def _check_biases(offer: Offer, contract: Contract) -> None:
    outside = [token for token, _ in contract.sampling.logit_bias if token >= offer.vocab_size]
    if outside:
        raise RefusedError(
            ErrorCode.TERMS_INVALID, f"expected token ids below {offer.vocab_size}, got {outside[0]} in logit_bias"
        )


def object_to(contract: Contract, message: Draft | Decode) -> tuple[ErrorCode, str] | None:
    """Return why a round breaks its contract, as code and sentence; None when it keeps it."""
    if isinstance(message, Decode):
        return None
    if len(message.tokens) > contract.max_window:
        return (
            ErrorCode.WINDOW_TOO_LARGE,
            f"expected at most the contract's {contract.max_window} draft tokens, got {len(message.tokens)}",
        )
    if contract.rule is Rule.COUPLED and message.law is not None:
        return ErrorCode.RULE_LAW_FORBIDDEN, "expected no draft law under the coupled rule, which does not use one"
    if contract.rule is Rule.REJECTION and message.law is None:
        return ErrorCode.RULE_LAW_MISSING, "expected the law that the draft was sampled from under the rejection rule"
    return None


def opened(offer: Offer, worker: str, contract: Contract, transcript: Transcript, epoch: int) -> Opened:
    """Return the message that says that ``worker`` has the session."""
    return Opened(
        session=contract.session,
        worker=worker,
        epoch=epoch,
        numerics=offer.numerics,
        target_revision=offer.target_revision,
        length=transcript.length,
        digest=transcript.digest,
        max_window=contract.max_window,
        context_tokens=offer.context_tokens,
    )


def error_of(session: str, refusal: RefusedError) -> Error:
    """Return the message that refuses a session."""
    answer = Error(session, refusal.code, str(refusal))
    if not isinstance(refusal, QuotaError):
        return answer
    left, retry_ms = min(refusal.left, MAX_LIMIT), min(refusal.retry_after_ms, MAX_RETRY_MS)
    return replace(answer, limit=refusal.limit, left=left, retry_after_ms=retry_ms)
