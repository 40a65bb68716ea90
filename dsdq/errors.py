"""Every error that dsdq raises on purpose.

DsdqError
├── ConfigError            a setting, flag or path is not what was expected
│   ├── PromptError        a prompt is empty, too long, or not encodable
│   └── NoVerifierError    nobody serves what was asked for; somebody may later
├── WireError              bytes that are not a message of this protocol
├── SealError              a message does not show who sent it
├── ModelError             a model or tokenizer cannot be loaded or is not supported
├── ParallelError          processes that run one model together lost one another
├── RefusedError           the verifier refused a session; ``code`` says why
├── SessionError           a session ended without finishing its text; ``code`` says why
└── BusError               Redis did not do what was asked
    ├── UnavailableError   no answer now: try again, with growing pauses
    │   ├── RedisUnavailableError    of Redis
    │   └── GatewayUnavailableError  of the gateway by which a device reaches it
    ├── DeniedError        Redis, or a gateway, will never do it for this user, or is not fit for use: give up
    ├── BusyError          there is no room, or none soon enough; ``retry_after_ms`` says when to come back
    ├── GoneError          the inbox or session does not exist (any more)
    └── FencedError        another worker owns the session now

A message names what was expected, what came, and what to do, so that the command line can print it as it is.
"""

from __future__ import annotations


class DsdqError(Exception):
    """Base of every error raised by dsdq."""


class ConfigError(DsdqError):
    """A setting, flag or path is not what was expected."""


class PromptError(ConfigError):
    """A prompt is empty, too long, or cannot be encoded by the target's tokenizer."""


class NoVerifierError(ConfigError):
    """No verifier serves what was asked for: none was started yet, or all have gone."""


class WireError(DsdqError):
    """Bytes are not a message of this protocol, or exceed one of its limits."""


class SealError(DsdqError):
    """A message is not sealed by the producer that it speaks for.

    Not a :class:`WireError`: those are answered in the session that the bytes name, and these bytes may name anybody's.
    """


class ModelError(DsdqError):
    """A model or tokenizer cannot be loaded, or dsdq cannot serve it correctly."""


class ParallelError(DsdqError):
    """The processes that run one model together lost one another, or no longer agree; each of them must end."""


class RefusedError(DsdqError):
    """The verifier refused to open a session.

    ``code`` is one of the refusal codes that PROTOCOL.md lists.
    """

    def __init__(self, code: str, message: str) -> None:
        """Keep the wire's ``code`` beside the sentence for people."""
        super().__init__(message)
        self.code = code


class QuotaError(RefusedError):
    """A limit of the tenant does not leave what a session needs.

    ``limit`` is its name, ``left`` what is left of it. There is enough after ``retry_after_ms``: 0 where that depends
    on when a session ends, -1 where there never is.
    """

    CODE = "quota"

    def __init__(self, message: str, *, limit: str, left: int, retry_after_ms: int) -> None:
        """Keep what a caller goes by beside the sentence for people."""
        super().__init__(self.CODE, message)
        self.limit = limit
        self.left = left
        self.retry_after_ms = retry_after_ms


class SessionError(DsdqError):
    """A session that was open ended without finishing its text.

    ``code`` is one of the error codes that PROTOCOL.md lists.
    """

    def __init__(self, code: str, message: str) -> None:
        """Keep the wire's ``code`` beside the sentence for people."""
        super().__init__(message)
        self.code = code


class BusError(DsdqError):
    """Redis did not do what was asked."""


class UnavailableError(BusError):
    """It is not done now: try again, with pauses.

    What was asked may have been done: the answer may be what was lost.
    """


class RedisUnavailableError(UnavailableError):
    """Redis does not do it now: nothing answers, it loads, is full, or changes its primary."""


class GatewayUnavailableError(UnavailableError):
    """The gateway does not do it now: it cannot be reached, is full, restarts, or cannot reach Redis itself."""


class DeniedError(BusError):
    """Redis will not do it however often it is asked: give up.

    Wrong credentials, missing rights, a certificate that is not trusted, a server that is not fit for use, a command
    that it does not know, a key that holds something else.
    """


class BusyError(BusError):
    """A bounded inbox is full, or no place soon enough: come back after ``retry_after_ms``."""

    def __init__(self, message: str, retry_after_ms: int) -> None:
        """Keep the time to wait, in milliseconds."""
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class GoneError(BusError):
    """The inbox or the session does not exist, or takes no more messages."""


class FencedError(BusError):
    """Another worker owns the session now; this one must drop it."""
