"""The live half of ``dsdq sim validate``, and of ``bench/wan.py``: a service here, and devices far from it."""
