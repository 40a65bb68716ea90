"""How the built-in pair is made: Python's standard library in, `dsdq/models/builtin` out."""
