"""Drafters: whatever proposes the next tokens, behind one protocol. What runs a model is imported with it."""

from __future__ import annotations

from dsdq.drafting import Drafter, DraftSession, Proposal
from producers.drafters.loading import load_drafter, model_of

__all__ = ["DraftSession", "Drafter", "Proposal", "load_drafter", "model_of"]
