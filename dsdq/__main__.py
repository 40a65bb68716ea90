"""``python -m dsdq`` is the ``dsdq`` command."""

from __future__ import annotations

from dsdq.cli import main

if __name__ == "__main__":
    main()
