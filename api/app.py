"""The application: one table of routes, one gate in front of them.

``create_app`` starts nothing. The background parts (``Deps.hub.run``, ``Deps.monitor.run``) are tasks of
``hengliu.compose``, which starts and stops them in its order.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from api import documents, ingest, live, reads, rules, status
from api.deps import Deps
from api.pages import error_page, wants_page
from api.pages import router as page_routes
from api.problems import Problem, Refusal, language_of, problem_response
from api.progress import StageOf
from api.security import Gate
from hengliu.ports.log import TopicPartition

__all__ = ["ROUTES", "Endpoint", "create_app"]

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route of the API. ``operation`` is its operationId in OpenAPI."""

    method: str
    path: str
    handler: Handler
    operation: str


ROUTES: Final[tuple[Endpoint, ...]] = (
    Endpoint("POST", "/v1/events", ingest.post_events, "postEvents"),
    Endpoint("GET", "/v1/events/{type}", reads.get_events, "getEvents"),
    *(Endpoint("GET", read.path, reads.named(read), read.operation) for read in reads.READS),
    Endpoint("POST", "/v1/quarantine/{id}/release", ingest.post_release, "releaseQuarantined"),
    *(Endpoint("POST", path, ingest.registration(type_), operation) for path, type_, operation in ingest.REGISTRATIONS),
    Endpoint("GET", "/v1/rules", rules.get_rules, "getDeclaredRules"),
    *(Endpoint("POST", path, rules.change(status_), operation) for path, status_, operation, _ in rules.COMMANDS),
    Endpoint("GET", "/v1/schemas", documents.get_schemas, "getSchemas"),
    Endpoint("GET", "/v1/schemas/{type}", documents.get_schema, "getSchema"),
    Endpoint("GET", "/v1/stats", status.get_stats, "getStats"),
    Endpoint("GET", "/v1/live/snapshot", status.get_snapshot, "getSnapshot"),
    Endpoint("GET", "/problems", documents.get_problems, "getProblems"),
    Endpoint("GET", "/problems/{code}", documents.get_problem, "getProblem"),
    Endpoint("GET", "/openapi.json", documents.get_openapi, "getOpenapi"),
    Endpoint("GET", "/asyncapi.json", documents.get_asyncapi, "getAsyncapi"),
    Endpoint("GET", "/healthz", status.get_healthz, "getHealthz"),
    Endpoint("GET", "/readyz", status.get_readyz, "getReadyz"),
    Endpoint("GET", "/metrics", status.get_metrics, "getMetrics"),
)
"""Every route but the pages' and the WebSocket. A test holds that OpenAPI names exactly these."""


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return problem_response(error, language_of(request.headers.get("accept-language", "")))


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        refusal = Refusal(Problem("method-not-allowed"), headers=error.headers)
    elif error.status_code == 404:
        refusal = Refusal(Problem("not-found", {"name": request.url.path[:128]}))
    else:
        raise error
    if wants_page(request):
        return error_page(request.app.state.deps, request, error.status_code)
    return problem_response(refusal, language_of(request.headers.get("accept-language", "")))


async def _gone(request: Request, error: Exception) -> Response:
    """The client left; what is returned here reaches nobody."""
    return Response(status_code=400)


def create_app(deps: Deps, *, pages: bool = True, **gate: Any) -> FastAPI:
    """The ASGI application.

    Args:
        pages: whether the HTML pages and their static files are served too.
        gate: switches of ``api.security.Gate``, for tests.
    """
    app = FastAPI(
        title="Hengliu 衡流",
        version=deps.version,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers={Refusal: _refused, HTTPException: _http_error, ingest.ClientGone: _gone},
        routes=[
            *(Route(e.path, e.handler, methods=[e.method], name=e.operation) for e in ROUTES),
            WebSocketRoute("/v1/live", live.endpoint, name="live"),
        ],
    )
    if pages:
        app.include_router(page_routes(deps))
    if not any(stage.name in ("projector", "tables") for stage in deps.monitor.stages):
        # The projector is another process: what it has told the warehouse is watched in its place.
        deps.monitor.watch(StageOf("tables", deps.progress.positions))
    deps.monitor.expect_ticks(
        TopicPartition(topic, partition) for topic in deps.catalog.canonical_topics() for partition in range(deps.partitions)
    )
    app.state.deps = deps
    app.state.bodies = ingest.Bodies(deps.limits.bodies_bytes)
    app.add_middleware(Gate, meters=deps.meters, allowed_hosts=deps.allowed_hosts, **gate)
    return app
