"""Decisions as pure code: how wide a window, which verifier, what goes into a step.

The live system and the simulator import the same functions. Clocks and randomness come in as arguments.
"""
