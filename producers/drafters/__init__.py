"""Drafters: whatever proposes the next tokens, behind one protocol. Only ``hugging_face`` needs torch."""

from __future__ import annotations

from producers.drafters.loading import load_drafter, model_of
from producers.drafters.protocol import Drafter, DraftSession, Proposal

__all__ = ["DraftSession", "Drafter", "Proposal", "load_drafter", "model_of"]
