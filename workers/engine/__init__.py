"""The target's forward for many sessions at once, its KV cache, and the verdict on what was drafted."""

from __future__ import annotations

from workers.engine.engine import Engine, Row
from workers.engine.kv import EngineFullError

__all__ = ["Engine", "EngineFullError", "Row"]
