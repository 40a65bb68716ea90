"""The target's forward for many sessions at once, its KV cache, and the verdict on what was drafted."""
