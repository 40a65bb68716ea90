"""Every bound of the wire in one place; PROTOCOL.md lists the same numbers."""

from __future__ import annotations

import re

MAX_OPEN_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 1 << 16
"""Bound of every message but ``open``, which carries the prompt."""

MAX_CONTRACT_BYTES = 8192
MAX_PROMPT_TOKENS = 1 << 17
MAX_DRAFT_TOKENS = 64
MAX_SUPPORT = 64
MAX_VERDICT_TOKENS = 4096
MAX_BUDGET_TOKENS = 1 << 20

MAX_TOKEN_ID = (1 << 31) - 1
MAX_POSITION = (1 << 31) - 1
MAX_COUNT = (1 << 32) - 1
MAX_MICROSECONDS = (1 << 40) - 1
MAX_LIMIT = 1 << 50
MAX_RETRY_MS = (1 << 40) - 1
DIGEST_BYTES = 16
PUBLIC_KEY_BYTES, SIGNATURE_BYTES = 32, 64
"""Of Ed25519."""

MAX_FIELDS = 64
MAX_ARRAY = 64
MAX_TEXT = 512
"""Characters; four bytes each at most in UTF-8."""

NAME = re.compile(r"[a-z0-9-]{1,64}")
"""Names become parts of Redis keys: tenant, producer, session, worker."""

CODE = re.compile(r"[a-z_]{1,64}")
