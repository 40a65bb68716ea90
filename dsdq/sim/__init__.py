"""DSD-Sim: what would happen with 1,000 devices and 30 ms, before anyone buys hardware.

Devices, links, verifiers and tenants as events on one simulated clock. What decides (windows, routing, batching,
fairness, paging, how long to wait) is imported from :mod:`dsdq.policies`, where the live system has it from. One seed,
one outcome; which guesses of a draft are right depends on the seed and the place in the text alone, so policies can be
compared on the same luck.
"""
