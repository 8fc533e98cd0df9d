"""Reads: named queries over HTTP, one line per route.

A route takes the parameters that its query declares, and ``cursor``, ``limit`` and ``after``. The rights filter is the
query's own (``projections.queries``), made from the reader's scope. An answer is ``{"items": […], "next": cursor or null}``.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api.access import deps_of, reading_scope, require_reader
from api.deps import Deps
from api.encode import json_response
from api.problems import Problem, Refusal
from hengliu.events.family import Text
from hengliu.ports.log import TopicPartition
from hengliu.ports.warehouse import WarehouseError
from hengliu.rights import Principal
from projections.queries.query import NamedQuery, Page, QueryError

__all__ = ["PAGING", "READS", "Read", "get_events", "named", "run"]

logger = logging.getLogger(__name__)

DEFAULT_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class Read:
    """One route over one named query."""

    path: str
    query: str
    operation: str


READS: tuple[Read, ...] = (
    Read("/v1/weighings", "weighings", "getWeighings"),
    Read("/v1/tickets", "tickets", "getTickets"),
    Read("/v1/shipments", "shipments", "getShipments"),
    Read("/v1/flows", "flows", "getFlows"),
    Read("/v1/load-curves", "load-curves", "getLoadCurves"),
    Read("/v1/stocks", "stocks", "getStocks"),
    Read("/v1/warnings", "warnings", "getWarnings"),
    Read("/v1/quarantine", "quarantine", "getQuarantine"),
    Read("/v1/overview", "overview", "getOverview"),
    Read("/v1/meters", "meters", "getMeters"),
    Read("/v1/registry/enterprises", "enterprises", "getEnterprises"),
    Read("/v1/registry/sites", "sites", "getSites"),
    Read("/v1/registry/districts", "districts", "getDistricts"),
    Read("/v1/registry/devices", "devices", "getDevices"),
    Read("/v1/registry/vehicles", "vehicles", "getVehicles"),
    Read("/v1/registry/rules", "rules", "getRules"),
)
"""The explicit list: a new read is one line here."""

PAGING: Final[dict[str, Text]] = {
    "limit": Text("每页行数", "Rows per page"),
    "cursor": Text("上一页给出的游标", "Cursor given by the page before"),
    "after": Text("主题/分区/位置：等到表中包含它", "TOPIC/PARTITION/POSITION: wait until the tables include it"),
}
"""Parameters of every read, beside its query's own."""

_AFTER = re.compile(r"([a-z][a-z0-9-]*)/([0-9]{1,5})/([0-9]{1,18})")


def named(read: Read) -> Callable[[Request], Awaitable[Response]]:
    """The handler of one route."""

    async def handle(request: Request) -> Response:
        principal = require_reader(request)
        deps = deps_of(request)
        return await answer(request, principal, deps.queries[read.query])

    return handle


async def get_events(request: Request) -> Response:
    """``/v1/events/{type}``: every family has it without a line of its own."""
    principal = require_reader(request)
    deps = deps_of(request)
    type_ = request.path_params["type"]
    if type_ not in deps.catalog:
        raise Refusal(Problem("not-found", {"name": type_[:128]}))
    return await answer(request, principal, deps.family_query(deps.catalog[type_]))


async def answer(request: Request, principal: Principal, query: NamedQuery) -> Response:
    """Parameters, the wait for ``after``, one page."""
    deps = deps_of(request)
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise Refusal(Problem("repeated-parameter", {"name": name[:64]}))
        given[name] = value
    cursor = given.pop("cursor", None)
    limit = _limit(given.pop("limit", None), deps.limits.page_rows)
    after = given.pop("after", None)
    if after is not None:
        await wait_after(deps, after)
    page = await run(deps, principal, query, given, cursor, limit)
    return json_response({"items": page.rows, "next": page.next})


async def run(
    deps: Deps, principal: Principal, query: NamedQuery, parameters: dict[str, Any], cursor: str | None, limit: int
) -> Page:
    """One page with the principal's rights. Raises Refusal: the caller's parameters, or a warehouse that is away."""
    began = time.perf_counter()
    # ``events.<type>`` has as many names as families, which is a closed set.
    result = "error"
    try:
        given = {"now": deps.clock.now_ms(), **parameters}
        async with asyncio.timeout(deps.limits.query_s):
            page: Page = await deps.run_query(deps.warehouse, query, reading_scope(principal), given, cursor, limit)
        result = "ok"
    except QueryError as error:
        result = "refused"
        details = {name: value[:256] for name, value in error.details.items()}
        raise Refusal(Problem(error.code, details)) from error
    except (WarehouseError, TimeoutError) as error:
        logger.warning("query %s was not answered", query.name, exc_info=error)
        raise Refusal(Problem("reading-unavailable", {"seconds": "2"}), retry_after_s=2) from error
    finally:
        deps.meters.count("queries_total", query=query.name, result=result)
        deps.meters.observe("query_seconds", time.perf_counter() - began, query=query.name)
    return page


def _limit(text: str | None, most: int) -> int:
    if text is None:
        return min(DEFAULT_LIMIT, most)
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= most:
        raise Refusal(Problem("bad-limit", {"most": str(most)}))
    return int(text)


async def wait_after(deps: Deps, after: str) -> None:
    """Wait until the tables include a position; 503 with Retry-After when they do not in time: an answer without the
    caller's own event would be a wrong one."""
    match = _AFTER.fullmatch(after)
    expected = {"name": "after", "expected": "TOPIC/PARTITION/POSITION"}
    if match is None:
        raise Refusal(Problem("invalid-parameter", expected))
    tp = TopicPartition(match[1], int(match[2]))
    try:
        reached = await deps.progress.wait_for(tp, int(match[3]), deps.limits.after_s)
    except ValueError as error:
        raise Refusal(Problem("invalid-parameter", expected)) from error
    if not reached:
        raise Refusal(Problem("position-not-reached", {"position": after}), retry_after_s=1)
