"""What the tests of dsdq, and of what is built on it, share: tiny models, references, fakes, checkers."""
