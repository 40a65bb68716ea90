"""Files and batches over HTTP: what a tenant hands in, and what became of it. Batch workers do the work."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from dsdq.bus.batches import BatchStore
from dsdq.bus.files import CHUNK_BYTES, FileStore
from dsdq.errors import ConfigError
from producers.gateway.doors import Doors
from producers.gateway.texts import read
from producers.openai.answers import Json
from producers.openai.errors import ApiError, invalid
from producers.openai.requests import ENDPOINTS, objection, read_body

ENVELOPE_BYTES = 1 << 16  # of a form, around its file
MOST_BATCHES, MOST_FILES = 100, 10_000  # of one list


class _Create(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    input_file_id: str
    endpoint: Literal[ENDPOINTS]  # type: ignore[valid-type] # the two names
    completion_window: str
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None


class Jobs:
    """The handlers of ``/v1/files`` and ``/v1/batches``."""

    def __init__(self, doors: Doors, files: FileStore, batches: BatchStore, file_bytes: int) -> None:
        self._doors, self._files, self._batches = doors, files, batches
        self._file_bytes = file_bytes

    async def add_file(self, request: Request) -> Response:
        """Keep an uploaded file."""
        tenant = await self._doors.enter(request)
        self._check_length(request)
        try:
            async with request.form(max_files=1, max_fields=8) as form:
                for name in form.keys() - {"file", "purpose"}:
                    raise invalid(f"{name:.80} is not supported here; leave it out", name, "unsupported_parameter")
                file, purpose = form.get("file"), form.get("purpose")
                if not isinstance(file, UploadFile):
                    raise invalid("file: expected a file in a multipart form, got none", "file")
                if purpose != "batch":
                    raise invalid(f"purpose: expected batch, got {purpose!r:.80}", "purpose")
                with _or(400, "file"):
                    name = file.filename or "upload.jsonl"
                    info = await self._files.add(tenant.name, _pieces(file), filename=name, purpose="batch")
        except MultiPartException as error:
            raise invalid(f"expected a multipart form, got something else: {error.message}") from None
        return JSONResponse(info.document())

    async def list_files(self, request: Request) -> Response:
        """List a tenant's files, the newest first."""
        tenant, query = await self._doors.enter(request), _query(request, "purpose", "limit", "after")
        purpose, limit = query.get("purpose"), _limit(query, MOST_FILES, MOST_FILES)
        found = [one for one in await self._files.newest(tenant.name) if purpose in (None, one.purpose)]
        ids = [one.id for one in found]
        behind = found[ids.index(query["after"]) + 1 :] if query.get("after") in ids else []
        shown = (behind if "after" in query else found)[: limit + 1]
        return JSONResponse(_listed([one.document() for one in shown], limit))

    async def file(self, request: Request) -> Response:
        """Show a file, or delete it."""
        tenant, file_id = (await self._doors.enter(request)).name, request.path_params["id"]
        with _or(404, "file_id"):
            if request.method == "DELETE":
                await self._files.get(tenant, file_id)
                await self._files.delete(tenant, file_id)
                return JSONResponse({"id": file_id, "object": "file", "deleted": True})
            return JSONResponse((await self._files.get(tenant, file_id)).document())

    async def content(self, request: Request) -> Response:
        """Give a file's content."""
        tenant, file_id = (await self._doors.enter(request)).name, request.path_params["id"]
        with _or(404, "file_id"):
            await self._files.get(tenant, file_id)
        return StreamingResponse(self._files.read(tenant, file_id), media_type="application/jsonl")

    async def add_batch(self, request: Request) -> Response:
        """Begin a batch."""
        tenant = await self._doors.enter(request)
        try:
            wanted = _Create.model_validate(read_body(await read(request)))
        except ValidationError as error:
            raise objection(error) from None
        with _or(400, "input_file_id"):
            begun = await self._batches.create(
                tenant.name,
                input_file_id=wanted.input_file_id,
                endpoint=wanted.endpoint,
                completion_window=wanted.completion_window,
                metadata=wanted.metadata,
            )
        return JSONResponse(begun.document())

    async def list_batches(self, request: Request) -> Response:
        """List a tenant's batches, the newest first."""
        tenant, query = await self._doors.enter(request), _query(request, "limit", "after")
        limit = _limit(query, 20, MOST_BATCHES)
        found = await self._batches.newest(tenant.name, after=query.get("after"), limit=limit + 1)
        return JSONResponse(_listed([one.document() for one in found], limit))

    async def batch(self, request: Request) -> Response:
        """Show how far a batch is."""
        tenant = await self._doors.enter(request)
        with _or(404, "batch_id"):
            return JSONResponse((await self._batches.get(tenant.name, request.path_params["id"])).document())

    async def cancel(self, request: Request) -> Response:
        """End a batch; what is done of it is kept."""
        tenant = await self._doors.enter(request)
        with _or(404, "batch_id"):
            return JSONResponse((await self._batches.cancel(tenant.name, request.path_params["id"])).document())

    def _check_length(self, request: Request) -> None:
        """Refuse what is too long before it is read: a form's file is written to disk meanwhile."""
        length = request.headers.get("content-length")
        if length is None:
            raise ApiError(411, "expected a Content-Length, got none", "length_required")
        if int(length) > self._file_bytes + ENVELOPE_BYTES:
            message = f"file: expected at most {self._file_bytes} bytes, got {length} with its form"
            raise ApiError(413, message, "file_too_large", "file")


@contextmanager
def _or(status: int, param: str) -> Iterator[None]:
    """Answer what the stores object to with a status; a parameter that the sentence begins with is the one."""
    try:
        yield
    except ConfigError as error:
        named, colon, _ = str(error).partition(":")
        raise ApiError(status, str(error), None, named if colon and named.isidentifier() else param) from None


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(CHUNK_BYTES):
        yield piece


def _query(request: Request, *known: str) -> Mapping[str, str]:
    """Return a request's query.

    Raises:
        ApiError: it asks for something else than what is ``known``.
    """
    for name in request.query_params.keys() - set(known):
        raise invalid(f"Unknown parameter: {name:.80}", name, "unknown_parameter")
    return request.query_params


def _limit(query: Mapping[str, str], usual: int, most: int) -> int:
    given = query.get("limit", str(usual))
    if not re.fullmatch("[0-9]{1,5}", given) or not 1 <= int(given) <= most:
        raise invalid(f"limit: expected 1 to {most}, got {given!r:.80}", "limit")
    return int(given)


def _listed(found: Sequence[Json], limit: int) -> Json:
    """Return a page of a list, of which one more was found if there is more."""
    shown = found[:limit]
    ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {"first_id": None, "last_id": None}
    return {"object": "list", "data": shown, "has_more": len(found) > limit} | ends
