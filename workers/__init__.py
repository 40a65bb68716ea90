"""The cloud side: verifier workers and their engine."""
