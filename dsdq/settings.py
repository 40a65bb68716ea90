"""Every setting of dsdq, in one place: environment variables ``DSDQ_*``, or a ``.env`` file, or a command's flag.

Or a file of the variable's name in the folder that ``DSDQ_SECRETS_DIR`` names: what is in the environment, others see.
"""

from __future__ import annotations

import os
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from dsdq.credentials import Passwords, ProducerKey, PublicKey, TenantSecrets
from dsdq.errors import ConfigError

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Names with commas between them."""


class Settings(BaseSettings):
    """What an operator may set. Durations carry their unit in the name."""

    model_config = SettingsConfigDict(
        env_prefix="DSDQ_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    redis_url: str = DEFAULT_REDIS_URL
    allow_unsafe_redis: bool = Field(default=False, description="accept a server that may lose data")
    redis_server: str = Field(default="", description="the redis-server that dsdq starts; empty: the bundled one")
    log_level: str = Field(default="warning", pattern="(?i)^(debug|info|warning|error)$")

    tenants: Names = Field(
        default=(),
        description="whom a verifier serves; empty: all that were added, `default` while none was",
    )
    trusted_tenants: Names = Field(default=(), description="who may use the rejection rule")
    server_secret: str = Field(
        default_factory=lambda: secrets.token_hex(16),
        description="seeds the coins of the rejection rule; give all verifiers the same",
        min_length=16,
        repr=False,
    )
    slots: int = Field(default=64, ge=1, description="sessions that one verifier holds at once")
    place_wait_ms: int = Field(
        default=10_000, ge=0, description="an open that would wait for a place for longer is told BUSY"
    )
    inbox_bound: int = Field(default=1024, ge=2, description="entries of one inbox before it answers BUSY")
    inbox_bytes: int = Field(default=1 << 26, ge=1 << 21, description="messages of one inbox before it answers BUSY")
    session_rounds: int = Field(default=8, ge=1, description="rounds of one session that may wait at once")
    step_tokens: int = Field(default=512, ge=1, description="window tokens of one forward")
    prefill_tokens: int = Field(default=128, ge=1, description="prompt tokens of one forward, beside its windows")
    step_order: Literal["fifo", "length"] = Field(default="fifo", description="whose window goes into a step first")
    kv_memory: str | None = Field(
        default=None, description="KV cache of one verifier, such as 4GiB; free memory decides"
    )
    kv_tokens: int | None = Field(default=None, ge=128, description="a bound of the KV cache in tokens")
    kv_grace_ms: int = Field(default=1_000, ge=0, description="a session keeps its KV cache for, without a round")
    kv_patience_ms: int = Field(
        default=2_000, ge=0, description="a round waits for KV cache before it takes a session's"
    )
    share_prefixes: bool = Field(default=True, description="a tenant's equal prompts share KV cache")
    colocated_draft: str = Field(
        default="", description="what a verifier drafts with itself where devices ask it to; empty: nothing"
    )
    colocated_kv_tokens: int = Field(
        default=32_768, ge=128, description="tokens of all texts together that a verifier's own drafter keeps in mind"
    )
    quantization: str = Field(default="none", description="what a verifier stores weights as: see --quantization")
    device_map: str = Field(default="none", description="how a verifier's model lies on several GPUs: see --device-map")
    deterministic: bool = Field(
        default=False, description="the same logits in any company on a GPU too: see --deterministic"
    )
    cuda_graphs: bool = Field(default=True, description="small forwards on a GPU are replayed from CUDA graphs")
    parallel_timeout_ms: int = Field(
        default=120_000, ge=1000, description="a rank of a tensor-parallel verifier that is silent for longer is gone"
    )
    hash_step_ms: float = Field(
        default=0, ge=0, description="the least time that a step of the target testing/hash takes: a known capacity"
    )
    hash_position_ms: float = Field(default=0, ge=0, description="what each position of such a step adds to it")
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="a verifier answers /metrics and /health there; 0: nowhere"
    )
    metrics_host: str = Field(default="127.0.0.1", description="the address of that port")
    lease_ms: int = Field(default=2_000, ge=100, description="a verifier that is silent for longer is dead")
    quiet_ms: int = Field(
        default=20_000, ge=100, description="a session whose device is silent for longer lends its place to who waits"
    )
    idle_ttl_ms: int = Field(default=600_000, ge=1000, description="a session without a message is closed after")
    closed_ttl_ms: int = Field(default=600_000, ge=1000, description="a closed session's log is kept for")
    feed_entries: int = Field(default=10_000, ge=10, description="hints kept for one producer")
    dead_letters: int = Field(default=20_000, ge=1, description="messages kept that no worker could answer")
    dead_letters_bytes: int = Field(default=64 << 20, ge=1 << 20, description="bytes of such messages kept")
    dead_letters_ttl_ms: int = Field(default=604_800_000, ge=1000, description="such a message is kept for")

    file_bytes: int = Field(default=100_000_000, ge=1, description="bytes of one file that a tenant may upload")
    tenant_file_bytes: int = Field(
        default=256 << 20, ge=1 << 10, description="bytes that all files of a tenant may take in Redis, compressed"
    )
    file_ttl_ms: int = Field(default=2_592_000_000, ge=1000, description="a file, and a batch that ended, is kept for")
    batch_sessions: int = Field(default=32, ge=1, description="lines of batches that one batch worker does at once")

    routing: Literal["power-of-two", "jsq", "round-robin", "random", "prefix"] = Field(
        default="power-of-two", description="how a device chooses among verifiers"
    )
    find_verifier_ms: int = Field(default=3_000, ge=0, description="a device looks for a verifier")
    open_timeout_ms: int = Field(
        default=30_000, ge=100, description="a device asks for a place for, while every verifier is full"
    )
    verdict_timeout_ms: int = Field(
        default=5_000, ge=50, description="a device waits before it repeats a request, at most; round trips decide"
    )
    give_up_ms: int = Field(default=60_000, ge=100, description="a device without any answer gives up after")

    gateway_requests: int = Field(default=2_048, ge=1, description="requests for text that one gateway has at once")
    gateway_devices: int = Field(default=10_000, ge=1, description="devices that one gateway has connected at once")
    gateway_tenant_devices: int = Field(default=5_000, ge=1, description="those of one tenant")
    gateway_strangers: int = Field(
        default=1_000, ge=1, description="connections of devices that are not let in yet, or are refused"
    )
    device_sessions: int = Field(default=64, ge=1, description="sessions that one connection of a device follows")
    device_requests: int = Field(default=64, ge=1, description="requests of one that wait for their answers")
    device_message_bytes: int = Field(
        default=1 << 20, ge=1 << 16, le=1 << 20, description="bytes of one message that a gateway takes"
    )
    device_buffer_bytes: int = Field(
        default=1 << 18, ge=1, description="bytes that wait for one device before its logs are read no further"
    )
    device_hello_ms: int = Field(default=5_000, ge=1, description="a connection is silent for, at first")
    device_stall_ms: int = Field(default=10_000, ge=1, description="a device that takes nothing for longer is cut off")
    device_ping_ms: int = Field(
        default=20_000, ge=10, description="a silent connection is asked for life; as long again for the answer"
    )
    drain_ms: int = Field(
        default=30_000, ge=0, description="a gateway that was told to stop finishes what it has begun for"
    )

    service_key: ProducerKey | None = Field(
        default=None, description="what tenants' secrets are encrypted with, 32 bytes in hex; `dsdq keys new` makes one"
    )
    tenant_secrets: TenantSecrets = Field(
        default_factory=dict, description="whose devices must seal their messages: acme=<hex>,globex=<hex>"
    )
    api_key: SecretStr | None = Field(default=None, description="what a device shows to a gateway")
    producer: str = Field(default="", pattern="^[a-z0-9-]{0,64}$", description="a device's name; else one by chance")
    producer_key: ProducerKey | None = Field(
        default=None, description="what the device of that name seals with, in hex"
    )
    receipts: str = Field(default="", description="a file in which a client keeps its sessions' receipts; empty: none")
    receipt_key: PublicKey | None = Field(
        default=None, description="a client takes only receipts signed with this public key, 32 bytes in hex"
    )
    acl_passwords: Passwords = Field(default_factory=dict, description="for `dsdq acl setup`: user=password,...")


SECRETS = frozenset({"api_key", "server_secret", "service_key", "tenant_secrets", "producer_key", "acl_passwords"})
"""Settings whose values are never shown."""

SECRETS_DIR = "DSDQ_SECRETS_DIR"
"""The variable that names a folder of files, each named as a variable and holding its value. The environment wins."""


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process.

    Raises:
        ConfigError: a variable is not what was expected; the message names it, and shows it unless it is secret.
    """
    try:
        return Settings(_secrets_dir=_secrets_dir())
    except SettingsError as error:
        msg = f"{SECRETS_DIR}: expected files of UTF-8 that this user may read, got {error.__cause__}"
        raise ConfigError(msg) from None
    except ValidationError as error:
        first = error.errors()[0]
        secret = first["loc"][0] in SECRETS
        name = "DSDQ_" + "_".join(str(part) for part in first["loc"][: 1 if secret else None]).upper()
        came = "something else (not shown: it is secret)" if secret else repr(first["input"])
        msg = f"{name}: {first['msg'].removeprefix('Value error, ')}, got {came}"
        raise ConfigError(msg) from (None if secret else error)


def _secrets_dir() -> Path | None:
    """Return the folder whose files hold settings, None where none is named."""
    named = os.environ.get(SECRETS_DIR)
    if not named:
        return None
    if not Path(named).is_dir():
        raise ConfigError(f"{SECRETS_DIR}: expected a folder, got {named}, which is none")
    return Path(named)
