"""Who speaks? Asked of an inbox entry before its bytes are parsed, and again of what they turn out to say. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from dsdq.errors import SealError
from dsdq.sealing import Keyring, Seal


def examine(fields: Mapping[bytes, bytes], tenant: str, keyring: Keyring) -> Seal | None:
    """Return the proven seal of an entry of ``tenant``'s inbox; None where that tenant's devices need none.

    The caller unpacks ``m`` afterwards and then asks :func:`check_speaker`: a seal says whose key made it, not that the
    key's owner has any business in the session.

    Raises:
        SealError: there is no seal, or it was not made for these bytes by a device of this tenant. Such an entry is
            for the dead letters: an answer would go to whoever it claims to be.
    """
    if not keyring.must_seal(tenant):
        return None
    seal = Seal.read(fields)
    if seal is None:
        raise SealError(
            f"seal: expected a sealed message, since tenant {tenant} has a secret, got one without; give the device "
            f"DSDQ_PRODUCER and DSDQ_PRODUCER_KEY as `dsdq keys producer --tenant {tenant} --producer NAME` prints them"
        )
    keyring.check(tenant, seal, fields.get(b"m", b""))
    return seal


def check_speaker(seal: Seal | None, session: str, producer: str) -> None:
    """Return when who sealed a message may speak in the session that the message names, which is ``producer``'s.

    ``producer`` is that of the contract: of the ``open`` itself, or of the open session that a later message names.

    Raises:
        SealError: the seal is for another session, or another producer's. Without this a device could seal words for
            its sibling's session with its own key.
    """
    if seal is not None and (seal.session, seal.producer) != (session, producer):
        raise SealError(
            f"seal: expected that of producer {producer} for session {session}, got one of producer {seal.producer} "
            f"for session {seal.session}"
        )
