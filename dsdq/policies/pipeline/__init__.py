"""One device and a verifier that serves its rounds one after the other, simulated: what a policy would come to.

No queueing of many devices, no lost messages, no prompts: what is left is the arithmetic of drafting, network and
verification, which bounds what the live system can reach.
"""

from __future__ import annotations

from dsdq.policies.pipeline.simulation import Outcome, Round, simulate
from dsdq.policies.pipeline.world import Draws, World

__all__ = ["Draws", "Outcome", "Round", "World", "simulate"]
