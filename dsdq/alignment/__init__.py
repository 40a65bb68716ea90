"""How well a draft fits a target: what is accepted of it, how far apart their laws are, and when drafting pays."""
