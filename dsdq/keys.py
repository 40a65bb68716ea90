"""Every Redis key of dsdq. The part in braces is hashed by Redis Cluster: keys that share it lie in one slot.

Names match ``[a-z0-9-]+``, so that none can break out of its place in a key.
"""

from __future__ import annotations

import re
import secrets
from base64 import b32encode
from hashlib import blake2b

from dsdq.errors import ConfigError

NAME = re.compile(r"[a-z0-9-]{1,64}")
BATCH_ID, FILE_ID = re.compile(r"batch_[a-z0-9]{24}"), re.compile(r"file-[a-z0-9]{24}")
MODELS = "{models}:served"
TENANTS = "{tenants}:records"
TENANTS_VERSION = "{tenants}:version"
BATCH_TENANTS = "{batches}:tenants"
DEAD_LETTERS = "{dead}:letters"
DEAD_COUNTS = "{dead}:counts"
DEAD_SEEN = "{dead}:seen"
DEAD_BYTES = "{dead}:bytes"


_FRESH_BYTES = 10


def fresh_name() -> str:
    """Return a name that nobody else has or guesses: 80 random bits in 16 characters.

    Every round carries the names of its session and its verifier several times: short ones are bytes saved.
    """
    return b32encode(secrets.token_bytes(_FRESH_BYTES)).decode().lower()


def inbox(worker: str, tenant: str) -> str:
    """Return the stream into which a tenant's devices publish for one worker."""
    return f"{{w.{_name(worker)}}}:in:{_name(tenant)}"


def inbox_bytes(worker: str, tenant: str) -> str:
    """Return the counter of the bytes that lie in an inbox."""
    return f"{inbox(worker, tenant)}:bytes"


def worker_tries(worker: str) -> str:
    """Return the hash that counts what heirs died with: ``<tenant>/<entry id>`` of entries that this worker left.

    And ``<producer>/<tenant>/<session>`` of sessions whose text it feeds, with how many died before.
    """
    return f"{{w.{_name(worker)}}}:tries"


def worker_state(worker: str) -> str:
    """Return the hash that says how full a worker's inboxes may get, and whether they are closed."""
    return f"{{w.{_name(worker)}}}:state"


def worker_sessions(worker: str) -> str:
    """Return the set of a worker's sessions, written before its first commit for them."""
    return f"{{w.{_name(worker)}}}:sessions"


def worker_figures(worker: str) -> str:
    """Return the key of what a worker says of its own work; it expires soon."""
    return f"{{w.{_name(worker)}}}:figures"


def session_log(producer: str, tenant: str, session: str) -> str:
    """Return the stream that is the truth about a session."""
    return f"{_session(producer, tenant, session)}:log"


def session_head(producer: str, tenant: str, session: str) -> str:
    """Return the hash with the end of a session's log: epoch, owner, round, branch, length, digest, status."""
    return f"{_session(producer, tenant, session)}:head"


def feed(producer: str, tenant: str) -> str:
    """Return the trimmed stream of hints that one producer follows for all its sessions."""
    return f"{{p.{_name(producer)}}}:{_name(tenant)}:feed"


def usage(producer: str, tenant: str, month: str) -> str:
    """Return the hash of what a tenant used in a month by way of one producer; ``*`` for any producer's."""
    return f"{{p.{producer if producer == '*' else _name(producer)}}}:{_name(tenant)}:usage:{month}"


def workers(model: str) -> str:
    """Return the sorted set of a model's workers by the end of their lease, in Redis milliseconds."""
    return f"{{m.{slug(model)}}}:workers"


def worker_infos(model: str) -> str:
    """Return the hash from worker to its packed registry entry."""
    return f"{{m.{slug(model)}}}:info"


def recovery_claim(model: str, worker: str) -> str:
    """Return the key that says which worker takes over a dead one's sessions just now."""
    return f"{{m.{slug(model)}}}:claim:{_name(worker)}"


def quota(tenant: str) -> str:
    """Return the hash of what is left of a tenant's limits."""
    return f"{{t.{_name(tenant)}}}:quota"


def quota_sessions(tenant: str) -> str:
    """Return the sorted set of the sessions that have a part of a tenant's limits reserved, by when that lapses."""
    return f"{{t.{_name(tenant)}}}:sessions"


def quota_reserved(tenant: str) -> str:
    """Return the hash from session to what is reserved for it."""
    return f"{{t.{_name(tenant)}}}:reserved"


def files(tenant: str) -> str:
    """Return the sorted set of a tenant's files by when they expire, in Redis milliseconds."""
    return f"{_batch_slot(tenant)}:files"


def file_sizes(tenant: str) -> str:
    """Return the hash from file to the bytes that it takes in Redis."""
    return f"{_batch_slot(tenant)}:sizes"


def stored_bytes(tenant: str) -> str:
    """Return the counter of what all files of a tenant take in Redis."""
    return f"{_batch_slot(tenant)}:stored"


def file(tenant: str, file_id: str) -> str:
    """Return the hash of a file: `meta` and `count` once it is whole, and its chunks by number."""
    return f"{_batch_slot(tenant)}:file:{_id(FILE_ID, file_id)}"


def batches(tenant: str) -> str:
    """Return the sorted set of a tenant's batches by when they were made, in Redis milliseconds."""
    return f"{_batch_slot(tenant)}:batches"


def active_batches(tenant: str) -> str:
    """Return the sorted set of those that have not ended, by when they were made."""
    return f"{_batch_slot(tenant)}:active"


def line_leases(tenant: str) -> str:
    """Return the sorted set of `<batch>/<line>` that are being done, by when their lease lapses."""
    return f"{_batch_slot(tenant)}:leases"


def line_owners(tenant: str) -> str:
    """Return the hash from `<batch>/<line>` to the token of who does it."""
    return f"{_batch_slot(tenant)}:owners"


def batch(tenant: str, batch_id: str) -> str:
    """Return the hash of what is known of a batch.

    What it works with lies at this key and ``:todo``, ``:lines``, ``:results``, ``:errors``, ``:tries``, ``:chore``.
    """
    return f"{_batch_slot(tenant)}:batch:{_id(BATCH_ID, batch_id)}"


def slug(model: str) -> str:
    """Return a model's name as it may stand in a key; names that would collide keep apart by a short hash."""
    plain = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:40]
    return f"{plain}-{blake2b(model.encode(), digest_size=4).hexdigest()}"


def _session(producer: str, tenant: str, session: str) -> str:
    return f"{{p.{_name(producer)}}}:{_name(tenant)}:{_name(session)}"


def _name(name: str) -> str:
    if not NAME.fullmatch(name):
        msg = f"expected a name of 1 to 64 of a-z, 0-9 and -, got {name!r}"
        raise ConfigError(msg)
    return name


def _batch_slot(tenant: str) -> str:
    return f"{{b.{_name(tenant)}}}"


def _id(kind: re.Pattern[str], given: str) -> str:
    if not kind.fullmatch(given):
        msg = f"expected an id such as {kind.pattern.partition('[')[0]}…, got {given[:80]!r}"
        raise ConfigError(msg)
    return given
