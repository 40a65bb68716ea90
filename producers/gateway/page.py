"""The page that a gateway serves at its root: four files, which load nothing from anywhere else."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

_FOLDER = Path(__file__).parent / "static"
PATHS = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js", "/live.js": "live.js"}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


async def page(request: Request) -> Response:
    """Return the file of a path."""
    return FileResponse(_FOLDER / PATHS[request.url.path], headers=_HEADERS)
