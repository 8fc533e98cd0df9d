"""Documents that describe the platform: schemas of event types, OpenAPI, AsyncAPI, problem codes."""

import hashlib
import uuid
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api.access import deps_of
from api.encode import dumps, json_response
from api.problems import ALL_PROBLEMS, Problem, Refusal, language_of
from api.schemas import asyncapi_document, event_schema, example_event, schema_list

__all__ = ["get_asyncapi", "get_openapi", "get_problem", "get_problems", "get_schema", "get_schemas"]

SCHEMA_TYPE: Final = "application/schema+json"


def cached(request: Request, body: bytes, media_type: str) -> Response:
    """A document that changes only with the program: revalidated by its digest."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


async def get_schemas(request: Request) -> Response:
    """Every event type with its schema's address."""
    return cached(request, dumps({"items": schema_list(deps_of(request).catalog), "next": None}), "application/json")


async def get_schema(request: Request) -> Response:
    """JSON Schema of one event type. The example has a time and an id of its own, so that it can be posted as it is."""
    deps = deps_of(request)
    type_ = request.path_params["type"]
    if type_ not in deps.catalog:
        raise Refusal(Problem("not-found", {"name": type_[:128]}))
    family = deps.catalog[type_]
    schema = event_schema(family, example_event(family, deps.clock.now_ms(), f"example-{uuid.uuid4().hex[:16]}"))
    return Response(dumps(schema), headers={"Cache-Control": "no-store"}, media_type=SCHEMA_TYPE)


async def get_openapi(request: Request) -> Response:
    """OpenAPI 3.1 of this API."""
    from api.openapi import openapi_document  # it names every route, and app.ROUTES names this handler

    deps = deps_of(request)
    document = openapi_document(deps.catalog, deps.queries, deps.family_query, deps.version, deps.limits)
    return cached(request, dumps(document), "application/json")


async def get_asyncapi(request: Request) -> Response:
    """AsyncAPI 3.0 of the topics."""
    deps = deps_of(request)
    body = dumps(asyncapi_document(deps.catalog, deps.version))
    return cached(request, body, "application/json")


def _explained(code: str, language: str) -> dict[str, Any]:
    words = ALL_PROBLEMS[code]
    return {
        "type": f"/problems/{code}",
        "code": code,
        "title": words.title.in_language(language),
        "detail": words.detail.in_language(language),
        "status": words.status or None,
    }


async def get_problems(request: Request) -> Response:
    """Every problem code with its words in the caller's language; ``status`` is null for a refusal of one event."""
    language = language_of(request.headers.get("accept-language", ""))
    items = [_explained(code, language) for code in sorted(ALL_PROBLEMS)]
    return json_response({"items": items, "next": None}, Content_Language=language, Vary="Accept-Language")


async def get_problem(request: Request) -> Response:
    """One problem code: what the ``type`` of a problem document points at."""
    code = request.path_params["code"]
    if code not in ALL_PROBLEMS:
        raise Refusal(Problem("not-found", {"name": code[:128]}))
    language = language_of(request.headers.get("accept-language", ""))
    return json_response(_explained(code, language), Content_Language=language, Vary="Accept-Language")
