"""The contract as bytes: what ``open`` carries and what the digest chain starts from.

It is a map of its own, with version and type code like a message, so that it can be kept and read by itself. Terms that
came later are absent where they change nothing, and a term that is not known is refused: whoever ignored it would give
another text.
"""

from __future__ import annotations

from dsdq.contract import (
    MAX_LOGPROBS,
    MAX_SEED,
    MAX_STOP_CHARACTERS,
    MAX_STOP_IDS,
    MAX_STOP_STRINGS,
    MAX_TOKENS,
    MAX_WINDOW,
    Contract,
    Rule,
    Sampling,
)
from dsdq.errors import ConfigError, WireError
from dsdq.versions import SPOKEN
from dsdq.wire import codecs
from dsdq.wire.envelope import from_bytes, to_bytes
from dsdq.wire.layout import Field, Layout
from dsdq.wire.limits import MAX_CONTRACT_BYTES, MAX_COUNT, MAX_POSITION, NAME


def _build(*values: object) -> Contract:
    """Return the contract of field values in the table's order, its sampling parameters nested."""
    named = dict(zip((each.name for each in _FIELDS), values, strict=True))
    sampling = {name.removeprefix(_NESTED): named.pop(name) for name in list(named) if name.startswith(_NESTED)}
    try:
        return Contract(**named, sampling=Sampling(**sampling))  # type: ignore[arg-type]
    except ConfigError as error:
        raise WireError(str(error)) from None


_NESTED = "sampling."
_NAME = codecs.matching(NAME)
_FIELDS = (
    Field(0, "version", codecs.integer(1, MAX_COUNT)),
    Field(2, "session", _NAME),
    Field(3, "tenant", _NAME),
    Field(4, "producer", _NAME),
    Field(5, "target", codecs.text(1)),
    Field(6, "tokenizer_fingerprint", codecs.text(0, 128)),
    Field(7, "draft_fingerprint", codecs.text(0, 128)),
    Field(8, "target_revision", codecs.text(0)),
    Field(9, "numerics", codecs.text(0)),
    Field(10, "sampling.temperature", codecs.real()),
    Field(11, "sampling.top_k", codecs.integer(0, MAX_POSITION)),
    Field(12, "sampling.top_p", codecs.real()),
    Field(13, "sampling.min_p", codecs.real()),
    Field(14, "rule", codecs.member(Rule)),
    Field(15, "seed", codecs.integer(0, MAX_SEED)),
    Field(16, "choice", codecs.integer(0, 65535)),
    Field(17, "stop_ids", codecs.tokens(MAX_STOP_IDS)),
    Field(18, "ignore_eos", codecs.boolean()),
    Field(19, "max_tokens", codecs.integer(1, MAX_TOKENS)),
    Field(20, "max_window", codecs.integer(1, MAX_WINDOW)),
    Field(21, "trusted", codecs.boolean()),
    Field(22, "sampling.repetition_penalty", codecs.real(), optional=True, default=1.0),
    Field(23, "sampling.presence_penalty", codecs.real(), optional=True, default=0.0),
    Field(24, "sampling.frequency_penalty", codecs.real(), optional=True, default=0.0),
    Field(25, "sampling.logit_bias", codecs.biases(), optional=True, default=()),
    Field(26, "stop_strings", codecs.strings(MAX_STOP_STRINGS, MAX_STOP_CHARACTERS), optional=True, default=()),
    Field(27, "logprobs", codecs.integer(0, MAX_LOGPROBS), optional=True, default=0),
)
_CONTRACT = Layout(32, "contract", _build, _FIELDS, MAX_CONTRACT_BYTES, closed=True)
_OPEN_ENDED = Layout(32, "contract", _build, _FIELDS, MAX_CONTRACT_BYTES)


def pack_contract(contract: Contract) -> bytes:
    """Return the contract as bytes, or raise :class:`WireError` naming the field that cannot travel."""
    return to_bytes(_CONTRACT, contract, contract.version)


def unpack_contract(data: bytes, *, with_unknown: bool = False) -> Contract:
    """Return the contract that ``data`` holds, or raise :class:`WireError` naming the field at fault.

    With ``with_unknown``, terms that are not known are ignored: enough to tell whose contract it is, not to keep it.
    """
    layout = _OPEN_ENDED if with_unknown else _CONTRACT
    contract: Contract = from_bytes({layout.code: layout}, data, layout.max_bytes, SPOKEN)
    return contract
