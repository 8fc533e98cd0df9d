"""``POST /v1/events``: one CloudEvent or a batch, answered after the commit.

The steps of one request: token, media type, body (bounded in size, time and memory), elements sliced verbatim, intake, one
result per element in the order sent. A body is read only for a known token: what the unauthenticated send is counted, never
held.
"""

import asyncio
import base64
import binascii
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, TypeVar

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from aggregates.registration import InvariantViolated
from api.access import deps_of, require
from api.deps import ApiLimits, Deps
from api.encode import json_response
from api.problems import Problem, Refusal, language_of, render
from api.reads import run
from hengliu.events.refused import Payload
from hengliu.intake.parse import NotABatch, NotJson, TooManyEvents, field_fault, split_batch
from hengliu.intake.parse import Refusal as EventRefusal
from hengliu.intake.service import Outcome, Overloaded, Unavailable
from hengliu.rights import Principal, Role

__all__ = [
    "MEDIA_TYPES",
    "REGISTRATIONS",
    "Bodies",
    "ClientGone",
    "post_events",
    "post_release",
    "read_body",
    "registration",
    "results",
]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

EVENT: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
GUESS: Final = "application/json"
MEDIA_TYPES: Final = (EVENT, BATCH, GUESS)


class ClientGone(Exception):
    """The client closed the connection before its body was complete; nobody waits for an answer."""


class Bodies:
    """Bytes of all bodies in memory at once, so that many large requests cannot fill it."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held = 0

    @property
    def held(self) -> int:
        return self._held

    def take(self, size: int) -> bool:
        if self._held + size > self._limit:
            return False
        self._held += size
        return True

    def give(self, size: int) -> None:
        self._held -= size


async def _pieces(receive: Receive, limits: ApiLimits) -> AsyncIterator[bytes]:
    """Pieces of a request body, each within ``body_idle_s`` of the one before.

    Raises:
        TimeoutError: a piece did not come in time.
        ClientGone: the connection ended.
    """
    while True:
        message = await asyncio.wait_for(receive(), limits.body_idle_s)
        if message["type"] == "http.disconnect":
            raise ClientGone
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def read_body(receive: Receive, declared: int | None, limits: ApiLimits, bodies: Bodies) -> bytes | Payload:
    """The whole body, or what is known of one that is too large; never more than the limit is held.

    The caller gives ``len(body)`` back to ``bodies`` when it is done with it; of everything else this function has given
    back what it took.

    A Payload's size is what was read, or what Content-Length promised if that is more; its digest is over what was read.

    Args:
        declared: Content-Length, None for a chunked body.

    Raises:
        Refusal: slow-request, or overloaded when other bodies fill the memory.
        ClientGone: the connection ended.
    """
    held = bytearray()
    digest = sha256()
    size = 0
    oversized = declared is not None and declared > limits.body_bytes
    taken = 0
    try:
        async with asyncio.timeout(limits.body_total_s):
            async for piece in _pieces(receive, limits):
                size += len(piece)
                if not oversized and size > limits.body_bytes:
                    oversized = True
                    digest.update(held)
                    del held[limits.kept_bytes :]
                    bodies.give(taken)
                    taken = 0
                if oversized:
                    digest.update(piece)
                    held += piece[: limits.kept_bytes - len(held)]
                    if size > limits.drain_bytes:
                        break
                    continue
                if not bodies.take(len(piece)):
                    raise Refusal(Problem("overloaded", {"seconds": "1"}), retry_after_s=1, close=True)
                taken += len(piece)
                held += piece
    except TimeoutError:
        bodies.give(taken)
        if oversized:
            return Payload(bytes(held), max(size, declared or 0), digest.hexdigest())
        seconds = {"seconds": f"{limits.body_idle_s:g}"}
        raise Refusal(Problem("slow-request", seconds), close=True) from None
    except BaseException:
        bodies.give(taken)
        raise
    if oversized:
        return Payload(bytes(held), max(size, declared or 0), digest.hexdigest())
    return bytes(held)


def media_type(request: Request) -> str:
    """The media type without parameters. Raises Refusal (415) for another one, another charset or a compressed body."""
    content = request.headers.get("content-type", "")
    kind, *parameters = (part.strip().lower() for part in content.split(";"))
    charset = [p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset=")]
    if kind not in MEDIA_TYPES or (charset and charset[0] not in ("utf-8", "utf8", "us-ascii")):
        raise Refusal(Problem("media-type", {"value": content[:128]}), headers={"Accept": ", ".join(MEDIA_TYPES)}, close=True)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(Problem("content-encoding"), headers={"Accept-Encoding": "identity"}, close=True)
    return kind


def declared_length(request: Request) -> int | None:
    """Content-Length; h11 has refused what is not a number."""
    text = request.headers.get("content-length")
    return int(text) if text is not None else None


async def post_events(request: Request) -> Response:
    """``POST /v1/events``."""
    principal = require_sender(request)
    deps = deps_of(request)
    kind = media_type(request)
    bodies: Bodies = request.app.state.bodies
    body = await read_body(request.receive, declared_length(request), deps.limits, bodies)
    language = language_of(request.headers.get("accept-language", ""))
    if isinstance(body, Payload):
        deps.meters.count("bodies_oversized_total", authenticated="yes")
        limit = {"limit": str(deps.limits.body_bytes)}
        await refuse(deps, principal, EventRefusal("body-too-large", parameters=limit), body)
        raise Refusal(Problem("body-too-large", limit), close=True)
    try:
        deps.meters.count("body_bytes_total", len(body))
        outcomes = await take(deps, principal, kind, body)
    finally:
        bodies.give(len(body))
    return results_response(deps, outcomes, language)


def require_sender(request: Request) -> Principal:
    """Whoever may send: devices, and registrars for reference events. An oversized stranger is counted, not held."""
    try:
        return require(request, Role.DEVICE, Role.REGISTRAR)
    except Refusal as refusal:
        deps = deps_of(request)
        deps.intake.count_unauthenticated()
        declared = declared_length(request)
        if declared is not None and declared > deps.limits.body_bytes:
            deps.meters.count("bodies_oversized_total", authenticated="no")
        refusal.close = True  # its body is not read
        raise


async def take(deps: Deps, principal: Principal, kind: str, body: bytes) -> Sequence[Outcome]:
    """Slice a body and submit its elements. Raises Refusal for the whole request; its body is then in quarantine too."""
    try:
        elements = split_batch(body, deps.limits.batch_events)
    except NotJson:
        await refuse(deps, principal, EventRefusal("body-not-json"), body)
        raise Refusal(Problem("body-not-json")) from None
    except TooManyEvents as error:
        limit = {"limit": str(error.limit)}
        await refuse(deps, principal, EventRefusal("too-many-events", parameters=limit), body)
        raise Refusal(Problem("too-many-events", limit)) from None
    except NotABatch:
        if kind == BATCH:
            return [await refuse(deps, principal, EventRefusal("not-a-batch"), body)]
        elements = [body]
    else:
        if kind == EVENT:
            elements = [body]  # an array is JSON and no event: one refused result
    deps.meters.observe("ingest_batch_events", len(elements))
    return await submit(deps, principal, elements)


async def submit(deps: Deps, principal: Principal, elements: Sequence[bytes]) -> Sequence[Outcome]:
    """Hand elements to intake; its push-back becomes 429 or 503 with Retry-After."""
    return await _pushed_back(deps, deps.intake.submit(principal, elements))


async def refuse(deps: Deps, principal: Principal, refusal: EventRefusal, payload: bytes | Payload) -> Outcome:
    """Put what never became an element into quarantine."""
    return await _pushed_back(deps, deps.intake.refuse(principal, refusal, payload))


async def _pushed_back(deps: Deps, work: Awaitable[_T]) -> _T:
    try:
        async with asyncio.timeout(deps.limits.commit_s):
            return await work
    except TimeoutError as error:
        # The log hangs. What was handed over may yet be written; sending it again is safe.
        deps.meters.count("ingest_pushback_total", status="503")
        raise push_back("unavailable", 5) from error
    except Overloaded as error:
        deps.meters.count("ingest_pushback_total", status="429")
        raise push_back("overloaded", error.retry_after_s) from error
    except Unavailable as error:
        deps.meters.count("ingest_pushback_total", status="503")
        raise push_back("unavailable", error.retry_after_s) from error


def push_back(code: str, retry_after_s: float) -> Refusal:
    seconds = max(1, math.ceil(retry_after_s))
    return Refusal(Problem(code, {"seconds": str(seconds)}), retry_after_s=seconds)


def results(outcomes: Sequence[Outcome], language: str) -> list[dict[str, Any]]:
    """The ``results`` member: one entry per element, in the order sent."""
    rendered = []
    for outcome in outcomes:
        entry: dict[str, Any] = {"id": outcome.id, "source": outcome.source, "status": str(outcome.status)}
        problem = outcome.problem
        if problem is not None:
            faults = [(fault.pointer, fault.code, fault.parameters) for fault in problem.errors]
            entry["problem"] = render(problem.code, problem.parameters, language, pointer=problem.pointer, errors=faults)
        rendered.append(entry)
    return rendered


def results_response(deps: Deps, outcomes: Sequence[Outcome], language: str) -> Response:
    """200 when all were taken, 207 when some were refused."""
    refused = 0
    counts: dict[str, int] = {}
    for outcome in outcomes:
        status = str(outcome.status)
        counts[status] = counts.get(status, 0) + 1
        if outcome.problem is not None:
            refused += 1
            deps.meters.count("events_refused_total", reason=outcome.problem.code)
    for status, number in counts.items():
        deps.meters.count("events_total", number, status=status)
    return json_response(
        {"results": results(outcomes, language)}, 207 if refused else 200, Content_Language=language, Vary="Accept-Language"
    )


# ---- quarantine ------------------------------------------------------------------------------------------------------


async def post_release(request: Request) -> Response:
    """``POST /v1/quarantine/{id}/release``: the payload once more, as the administrator's own; same answer as an event's."""
    principal = require(request, Role.ADMIN)
    deps = deps_of(request)
    id_ = request.path_params["id"]
    page = await run(deps, principal, deps.queries["quarantine"], {"id": id_, "from": 0}, None, 1)
    if not page.rows:
        raise Refusal(Problem("not-found", {"name": id_[:128]}))
    row = page.rows[0]
    try:
        payload = base64.b64decode(row["payload_base64"] or "", validate=True)
    except binascii.Error:
        payload = b""
    if len(payload) != row["size_bytes"]:
        raise Refusal(Problem("payload-truncated", {"kept": str(len(payload)), "size": str(row["size_bytes"])}))
    outcomes = await take(deps, releasing(principal), GUESS, payload)
    return results_response(deps, outcomes, language_of(request.headers.get("accept-language", "")))


def releasing(principal: Principal) -> Principal:
    """The administrator with the right to send for any source: releasing is their judgement that the payload is genuine.

    The record's header names them, so the ledger shows who let it in.
    """
    return Principal(principal.name, principal.roles | {Role.DEVICE}, ("*",), principal.enterprises, principal.divisions)


# ---- registrations ---------------------------------------------------------------------------------------------------

REGISTRATIONS: Final = (
    ("/v1/registry/enterprises", "enterprise.registered", "registerEnterprise"),
    ("/v1/registry/sites", "site.registered", "registerSite"),
    ("/v1/registry/devices", "device.registered", "registerDevice"),
    ("/v1/registry/vehicles", "vehicle.registered", "registerVehicle"),
    ("/v1/registry/districts", "district.registered", "registerDistrict"),
    ("/v1/registry/rules", "rule.published", "publishRule"),
)
"""Path, event type, operation. The body is the ``data`` of that family."""


def registration(type_: str) -> Callable[[Request], Awaitable[Response]]:
    """The handler of one kind of registration."""

    async def register(request: Request) -> Response:
        principal = require(request, Role.REGISTRAR, Role.ADMIN)
        deps = deps_of(request)
        data = await json_object(request, deps)
        return await command(deps, principal, type_, data)

    return register


async def json_object(request: Request, deps: Deps) -> dict[str, Any]:
    """The body of a command."""
    if media_type(request) != GUESS:
        raise Refusal(Problem("media-type", {"value": request.headers["content-type"][:128]}), headers={"Accept": GUESS})
    bodies: Bodies = request.app.state.bodies
    body = await read_body(request.receive, declared_length(request), deps.limits, bodies)
    if isinstance(body, Payload):
        raise Refusal(Problem("body-too-large", {"limit": str(deps.limits.body_bytes)}), close=True)
    bodies.give(len(body))
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(Problem("body-not-json")) from None
    if not isinstance(data, dict):
        raise Refusal(Problem("registration-not-object"))
    return data


async def command(deps: Deps, principal: Principal, type_: str, data: dict[str, Any]) -> Response:
    """Run one registration and answer where its event stands."""
    if deps.commands is None:
        raise push_back("unavailable", 5)
    try:
        receipt = await deps.commands.register(principal, type_, data)
    except ValidationError as error:
        faults = tuple(field_faults(error))
        raise Refusal(Problem("registration-invalid", {"count": str(error.error_count())}, errors=faults)) from error
    except InvariantViolated as error:
        raise Refusal(Problem(f"registration-{error.code}", error.parameters)) from error
    except TimeoutError as error:
        raise push_back("unavailable", 5) from error
    after = f"{receipt.topic}/{receipt.partition}/{receipt.position}"
    return json_response(
        {"topic": receipt.topic, "partition": receipt.partition, "position": receipt.position, "after": after}, 201
    )


def field_faults(error: ValidationError) -> Iterator[tuple[str, str, dict[str, str]]]:
    """pydantic's errors in the project's codes: (pointer into the body, code, parameters)."""
    for found in error.errors(include_url=False, include_input=False)[:5]:
        fault = field_fault(found)
        yield fault.pointer.removeprefix("/data"), fault.code, dict(fault.parameters)
