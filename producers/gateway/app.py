"""The gateway's routes. What a request means is in producers.openai; what is kept while it runs is in its parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from dsdq.bus.batches import BatchStore
from dsdq.bus.connection import check_server, open_redis
from dsdq.bus.figures import FiguresStore
from dsdq.bus.files import FileBounds, FileStore
from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.bus.rights import Role
from dsdq.bus.tenants import TenantStore
from dsdq.errors import DsdqError
from dsdq.settings import Settings
from dsdq.tasks import end
from dsdq.wire.frames import PATH
from producers.device.models import Models
from producers.gateway.badges import Badges
from producers.gateway.doors import Doors
from producers.gateway.errands import Errands, Served
from producers.gateway.ingress import Ingress
from producers.gateway.jobs import Jobs
from producers.gateway.live import Live
from producers.gateway.logs import Logs
from producers.gateway.metrics import CONTENT_TYPE, Metrics
from producers.gateway.page import PATHS, page
from producers.gateway.texts import Texts
from producers.gateway.visit import Bounds
from producers.openai.answering import Answering
from producers.openai.clients import Clients
from producers.openai.drafts import Drafts
from producers.openai.errors import ApiError, api_error, failure, unknown_model
from producers.openai.requests import CHAT, COMPLETIONS
from producers.openai.tenants import Tenants

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class Gateway:
    """The handlers, over what they work with. ``draining`` says whether the gateway is about to end."""

    doors: Doors
    answering: Answering
    texts: Texts
    jobs: Jobs
    live: Live
    ingress: Ingress
    registry: Registry
    metrics: Metrics
    draining: Callable[[], bool]

    async def completions(self, request: Request) -> Response:
        """Continue texts."""
        return await self.texts.serve(request, await self.doors.enter(request), COMPLETIONS)

    async def chat(self, request: Request) -> Response:
        """Continue a conversation."""
        return await self.texts.serve(request, await self.doors.enter(request), CHAT)

    async def models(self, request: Request) -> Response:
        """List the models that are served."""
        served = await self.answering.models(await self.doors.enter(request))
        return JSONResponse({"object": "list", "data": [_model(one) for one in served]})

    async def model(self, request: Request) -> Response:
        """Show one of them."""
        name = request.path_params["model"]
        for one in await self.answering.models(await self.doors.enter(request)):
            if one.model == name:
                return JSONResponse(_model(one))
        raise unknown_model(name)

    async def health(self, _: Request) -> Response:
        """Say that the process lives."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Say whether requests can be served: Redis answers, somebody verifies, and the gateway is not about to end."""
        if self.draining():
            raise ApiError(503, "this gateway is about to end", "draining", kind="server_error")
        if not any((await self.registry.list_served()).values()):
            raise ApiError(503, "no verifier serves", "no_verifier", kind="server_error", retry_after_s=1)
        return JSONResponse({"status": "ready"})

    async def figures(self, _: Request) -> Response:
        """Give all figures to Prometheus."""
        return Response(self.metrics.page(), media_type=CONTENT_TYPE)

    @property
    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        """Return method, path and handler of each route."""
        return (
            ("POST", COMPLETIONS, self.completions),
            ("POST", CHAT, self.chat),
            ("GET", "/v1/models", self.models),
            ("GET", "/v1/models/{model:path}", self.model),
            ("POST", "/v1/files", self.jobs.add_file),
            ("GET", "/v1/files", self.jobs.list_files),
            ("GET", "/v1/files/{id}", self.jobs.file),
            ("DELETE", "/v1/files/{id}", self.jobs.file),
            ("GET", "/v1/files/{id}/content", self.jobs.content),
            ("POST", "/v1/batches", self.jobs.add_batch),
            ("GET", "/v1/batches", self.jobs.list_batches),
            ("GET", "/v1/batches/{id}", self.jobs.batch),
            ("POST", "/v1/batches/{id}/cancel", self.jobs.cancel),
            ("GET", "/live", self.live.watch),
            ("GET", "/health", self.health),
            ("GET", "/ready", self.ready),
            ("GET", "/metrics", self.figures),
            *(("GET", path, page) for path in PATHS),
        )

    def application(self) -> Starlette:
        """Return the application that answers by these routes."""
        return Starlette(
            routes=[
                *(
                    Route(path, _counted(self.metrics, path, handle), methods=[verb])
                    for verb, path, handle in self.routes
                ),
                WebSocketRoute(PATH, self.ingress.serve),
            ],
            exception_handlers={HTTPException: _no_route},
        )


@asynccontextmanager
async def assemble(
    url: str, chosen: Settings, drafts: tuple[str, ...], draining: Callable[[], bool]
) -> AsyncIterator[Starlette]:
    """Give the application, connected, with its drafters loaded.

    Raises:
        BusError: Redis cannot be reached or is not fit for use.
        ModelError: a drafter cannot be loaded.
    """
    redis = open_redis(url)
    models, metrics, logs = Models(), Metrics(), Logs(redis)
    watching = list[asyncio.Task[None]]()
    drafting, clients = Drafts(models, drafts), Clients(url, chosen, models, kind="gateway")
    try:
        await check_server(redis, role=Role.GATEWAY, allow_unsafe=chosen.allow_unsafe_redis)
        await drafting.load()
        answering = Answering(clients, models, drafting)
        texts = Texts(answering, metrics, at_once=chosen.gateway_requests, drain_s=chosen.drain_ms / 1000)
        tenants, registry, files = Tenants(TenantStore(redis)), Registry(redis), FileStore(redis, FileBounds.of(chosen))
        doors = Doors(tenants)
        jobs = Jobs(doors, files, BatchStore(redis, chosen.file_ttl_ms), chosen.file_bytes)
        live = Live(doors, FiguresStore(redis), draining)
        errands = Errands(redis, Served(registry), logs)
        badges, strangers = Badges(doors, chosen), chosen.gateway_strangers
        ingress = Ingress(badges, errands, Bounds.of(chosen), metrics, strangers=strangers)
        watching.append(asyncio.create_task(ingress.watch(tenants)))
        yield Gateway(doors, answering, texts, jobs, live, ingress, registry, metrics, draining).application()
    finally:
        await end(*watching)
        await logs.aclose()
        await clients.aclose()
        await redis.aclose()


def _counted(metrics: Metrics, path: str, handle: Handler) -> Handler:
    """Return a handler that answers errors in OpenAI's shape, and counts what it answers with."""

    async def handler(request: Request) -> Response:
        """Answer in any case."""
        try:
            response = await handle(request)
        except DsdqError as error:
            response = _refused(api_error(error))
        except Exception as error:  # noqa: BLE001 - whatever it was, the client gets an answer and the log the rest
            response = _refused(failure(error))
        metrics.requests.labels(path, str(response.status_code)).inc()
        return response

    return handler


def _refused(error: ApiError) -> Response:
    return JSONResponse(error.body, error.status, error.headers)


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"{request.method} {request.url.path}: expected a route of this API, got another"
    response = _refused(ApiError(status, message, "unknown_url" if status == 404 else None))
    response.headers.update(getattr(error, "headers", None) or {})
    return response


def _model(worker: WorkerInfo) -> dict[str, object]:
    return {
        "id": worker.model,
        "object": "model",
        "created": 0,
        "owned_by": "dsdq",
        "context_tokens": worker.context_tokens,
        "revision": worker.revision,
    }
