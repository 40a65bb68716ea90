"""Files and batches over HTTP: what a tenant hands in, and what became of it. Batch workers do the work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
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
from dsdq.tenants import Tenant
from producers.gateway.doors import Doors
from producers.gateway.texts import read
from producers.openai.errors import ApiError, invalid
from producers.openai.requests import ENDPOINTS, objection, read_body

ENVELOPE_BYTES = 1 << 16  # of a form, around its file
MOST_LISTED = 100


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
        tenant = await self._tenant(request)
        self._check_length(request)
        try:
            async with request.form(max_files=1, max_fields=8) as form:
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
        found = await self._files.newest((await self._tenant(request)).name)
        return JSONResponse(_listed([one.document() for one in found], more=False))

    async def file(self, request: Request) -> Response:
        """Show a file, or delete it."""
        tenant, file_id = (await self._tenant(request)).name, request.path_params["id"]
        with _or(404, "file_id"):
            if request.method == "DELETE":
                await self._files.get(tenant, file_id)
                await self._files.delete(tenant, file_id)
                return JSONResponse({"id": file_id, "object": "file", "deleted": True})
            return JSONResponse((await self._files.get(tenant, file_id)).document())

    async def content(self, request: Request) -> Response:
        """Give a file's content."""
        tenant, file_id = (await self._tenant(request)).name, request.path_params["id"]
        with _or(404, "file_id"):
            await self._files.get(tenant, file_id)
        return StreamingResponse(self._files.read(tenant, file_id), media_type="application/jsonl")

    async def add_batch(self, request: Request) -> Response:
        """Begin a batch."""
        tenant = await self._tenant(request)
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
        tenant, query = await self._tenant(request), request.query_params
        limit = query.get("limit", "20")
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= MOST_LISTED:
            raise invalid(f"limit: expected 1 to {MOST_LISTED}, got {limit!r:.80}", "limit")
        with _or(404, "after"):
            found = await self._batches.newest(tenant.name, after=query.get("after"), limit=int(limit) + 1)
        shown = found[: int(limit)]
        return JSONResponse(_listed([one.document() for one in shown], more=len(found) > len(shown)))

    async def batch(self, request: Request) -> Response:
        """Show how far a batch is."""
        tenant = await self._tenant(request)
        with _or(404, "batch_id"):
            return JSONResponse((await self._batches.get(tenant.name, request.path_params["id"])).document())

    async def cancel(self, request: Request) -> Response:
        """End a batch; what is done of it is kept."""
        tenant = await self._tenant(request)
        with _or(404, "batch_id"):
            return JSONResponse((await self._batches.cancel(tenant.name, request.path_params["id"])).document())

    async def _tenant(self, request: Request) -> Tenant:
        return await self._doors.enter(request.headers.get("authorization"))

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


def _listed(found: list[dict[str, object]], *, more: bool) -> dict[str, object]:
    ends = {"first_id": found[0]["id"], "last_id": found[-1]["id"]} if found else {"first_id": None, "last_id": None}
    return {"object": "list", "data": found, "has_more": more} | ends
