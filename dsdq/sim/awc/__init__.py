"""How AWC is trained: random worlds, what each way to work comes to in them, and a network that learns it.

Only :mod:`dsdq.sim.awc.training` needs torch.
"""
