"""What is known of a tenant, as it lies in Redis: a JSON document whose unknown fields are refused."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dsdq.errors import ConfigError, DeniedError
from dsdq.keys import NAME
from dsdq.tenants.apikeys import ApiKey

DEFAULT_TENANT = "default"
"""Whom everybody is who names no tenant. It is served without a record as long as there is none of any tenant."""

_MOST = 1 << 50  # exact as a number of Lua's


class Limits(BaseModel):
    """What a tenant may use, None where nothing bounds it. A minute's limit is also the most that may come at once.

    ``committed`` tokens are those of the text that were generated, ``verified`` the positions that the target computed
    for them, drafts among them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: int | None = Field(default=None, ge=1, le=_MOST)
    committed_per_minute: int | None = Field(default=None, ge=1, le=_MOST)
    verified_per_minute: int | None = Field(default=None, ge=1, le=_MOST)
    sessions: int | None = Field(default=None, ge=1, le=_MOST)
    committed_per_month: int | None = Field(default=None, ge=1, le=_MOST)


class Tenant(BaseModel):
    """One tenant. ``secrets`` are those that its devices' keys are made from, wrapped (:mod:`dsdq.tenants.wrapping`).

    The newest key and secret come first; while a rotation is under way, those before are there and valid as well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{NAME.pattern}$")
    created: datetime
    weight: float = Field(default=1.0, gt=0, le=1e6)
    enabled: bool = True
    limits: Limits = Limits()
    keys: tuple[ApiKey, ...] = ()
    secrets: tuple[str, ...] = Field(default=(), repr=False)

    @classmethod
    def read(cls, document: bytes | str) -> Self:
        """Return the tenant of a document.

        Raises:
            ConfigError: it is not one, or one of a release that knows more.
        """
        try:
            return cls.model_validate_json(document)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "document"
            raise ConfigError(f"tenant record: {place}: {first['msg']}") from None

    def write(self) -> str:
        """Return its document."""
        return self.model_dump_json(exclude_defaults=True)

    def check_key(self, text: str) -> None:
        """Return when ``text`` is one of this tenant's API keys and it may use it.

        Raises:
            DeniedError: it is not, or the tenant is disabled.
        """
        if not any(key.is_of(text) for key in self.keys):
            raise DeniedError(f"API key: expected one of tenant {self.name}'s, got another; it may have been rotated")
        if not self.enabled:
            raise DeniedError(f"tenant {self.name} is disabled; ask the operator")
