"""OpenAPI 3.1 of this API, made from the routes' own declarations: catalogue, named queries, limits, problem codes.

Summaries are Chinese with the English beside (``x-summary-en``), as in the JSON Schemas of the event types.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from api.deps import ApiLimits
from api.ingest import BATCH, EVENT, GUESS, MEDIA_TYPES, REGISTRATIONS
from api.problems import MEDIA_TYPE
from api.reads import PAGING, READS
from api.rules import COMMANDS, RuleCommand
from api.schemas import EXAMPLE_MS, component_name, data_schemas, example_event
from hengliu.events.catalog import Catalog
from hengliu.events.family import Family, Text, Writer
from projections.queries.query import NamedQuery, QueryColumn, QueryParameter

__all__ = ["openapi_document"]

KIND_SCHEMA: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer", "format": "int64"},
    "decimal": {"type": "string", "format": "decimal", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"},
    "time": {"type": "string", "format": "date-time", "description": "UTC, with milliseconds"},
    "date": {"type": "string", "format": "date"},
    "boolean": {"type": "boolean"},
    "number": {"type": "number"},
    "json": {},
}
"""Result column kinds as JSON."""

WHOLE_REQUEST: Final = {
    "400": Text("请求无法使用", "The request cannot be used"),
    "401": Text("没有令牌或令牌无效", "No token, or an invalid one"),
    "403": Text("权限不足，或来源网页不被接受", "Not allowed, or an origin that is not accepted"),
    "404": Text("不存在", "Not found"),
    "405": Text("不支持该方法", "Method not allowed"),
    "408": Text("请求未及时送达", "The request did not arrive in time"),
    "409": Text("与现状矛盾", "In conflict with what stands"),
    "413": Text("请求体或批次过大", "Body or batch too large"),
    "415": Text("不支持的内容类型", "Unsupported media type"),
    "421": Text("主机名不被接受", "Host name not accepted"),
    "429": Text("请求过多，按 Retry-After 重试", "Too much at once; try again after Retry-After"),
    "431": Text("请求头过大", "Headers too large"),
    "503": Text("暂不可用，按 Retry-After 重试", "Not available now; try again after Retry-After"),
}

EVERYWHERE: Final = ("408", "421", "431", "503")
"""Any route may answer these: the gate and the server do."""


def _summary(text: Text) -> dict[str, str]:
    return {"summary": text.zh, "x-summary-en": text.en}


def _problems(*codes: str) -> dict[str, Any]:
    return {code: {"$ref": f"#/components/responses/Problem{code}"} for code in sorted({*codes, *EVERYWHERE})}


def _json(schema: Mapping[str, Any], description: str, media_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": dict(schema)}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _column(column: QueryColumn) -> dict[str, Any]:
    schema = dict(KIND_SCHEMA[column.kind])
    if column.nullable and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    return {**schema, "title": column.title.zh, "x-title-en": column.title.en}


def row_schema(query: NamedQuery) -> dict[str, Any]:
    """A row of a named query."""
    return {
        "type": "object",
        "required": [c.name for c in query.columns],
        "properties": {c.name: _column(c) for c in query.columns},
        "additionalProperties": False,
    }


def page_schema(row: Mapping[str, Any]) -> dict[str, Any]:
    """A page of rows."""
    return {
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": {"type": "array", "items": dict(row)},
            "next": {"type": ["string", "null"], "description": "Cursor of the next page; null: these were the last rows"},
        },
        "additionalProperties": False,
    }


def _parameter(parameter: QueryParameter) -> dict[str, Any]:
    schema: dict[str, Any]
    match parameter.kind:
        case "time":
            schema = {
                "type": "string",
                "description": "RFC 3339 with an offset, epoch milliseconds, or a date (a day of Asia/Shanghai)",
            }
        case "integer":
            schema = {"type": "integer"}
        case "choice":
            schema = {"type": "string", "enum": list(parameter.choices or {})}
        case "texts" | "divisions" | "subset":
            item: dict[str, Any] = {"type": "string"}
            if parameter.kind == "divisions":
                item["pattern"] = "^[0-9]{6}$"
            if parameter.kind == "subset":
                item["enum"] = list(parameter.choices or {})
            schema = {"type": "array", "items": item, "minItems": 1}
        case _:
            schema = {"type": "string", "minLength": 1}
    if parameter.default:
        schema["default"] = parameter.default.split(",") if schema["type"] == "array" else parameter.default
    shown: dict[str, Any] = {
        "name": parameter.name,
        "in": "query",
        "required": parameter.required and parameter.name != "now",  # the API's own clock stands in for it
        "description": f"{parameter.title.zh} / {parameter.title.en}",
        "schema": schema,
    }
    if schema["type"] == "array":
        shown |= {"style": "form", "explode": False}
    return shown


def _paging(limits: ApiLimits) -> list[dict[str, Any]]:
    schemas: dict[str, dict[str, Any]] = {
        "limit": {"type": "integer", "minimum": 1, "maximum": limits.page_rows, "default": 100},
        "cursor": {"type": "string"},
        "after": {"type": "string", "pattern": "^[a-z][a-z0-9-]*/[0-9]+/[0-9]+$", "examples": ["registry/0/12"]},
    }
    return [
        {"name": name, "in": "query", "required": False, "description": f"{text.zh} / {text.en}", "schema": schemas[name]}
        for name, text in PAGING.items()
    ]


def _read(operation: str, query: NamedQuery, limits: ApiLimits) -> dict[str, Any]:
    return {
        "operationId": operation,
        "tags": ["read"],
        **_summary(query.title),
        "security": [{"bearer": []}, {}],
        "parameters": [*(_parameter(p) for p in query.accepted.values()), *_paging(limits)],
        "responses": {
            "200": _json(page_schema(row_schema(query)), "A page of rows"),
            **_problems("400", "401", "403", "405"),
        },
    }


def _events(catalog: Catalog, family_query: Callable[[Family], NamedQuery], limits: ApiLimits) -> dict[str, Any]:
    queries = {family.type: family_query(family) for family in catalog.families.values()}
    shared: dict[str, QueryParameter] = {}
    for query in queries.values():
        shared.update(query.accepted)
    rows = {"oneOf": [_ref(f"{component_name(type_)}Row") for type_ in queries]}
    return {
        "operationId": "getEvents",
        "tags": ["read"],
        **_summary(Text("一类事件的原始记录，最新在前", "Raw rows of one event type, newest first")),
        "security": [{"bearer": []}, {}],
        "parameters": [
            {"name": "type", "in": "path", "required": True, "schema": {"type": "string", "enum": list(queries)}},
            *(_parameter(p) for p in shared.values()),
            *_paging(limits),
        ],
        "responses": {"200": _json(page_schema(rows), "A page of rows"), **_problems("400", "401", "403", "404", "405")},
    }


def _post_events(catalog: Catalog, limits: ApiLimits) -> dict[str, Any]:
    sent = [f for f in catalog.families.values() if f.writer is Writer.DEVICE]
    event = {"oneOf": [_ref(component_name(f.type)) for f in sent], "discriminator": {"propertyName": "type"}}
    event["discriminator"]["mapping"] = {f.type: f"#/components/schemas/{component_name(f.type)}" for f in sent}  # type: ignore[index]
    batch = {"type": "array", "items": event, "maxItems": limits.batch_events}
    example = example_event(sent[0], EXAMPLE_MS, "example-1")
    return {
        "operationId": "postEvents",
        "tags": ["write"],
        **_summary(Text("提交一个事件或一批事件", "Send one event or a batch")),
        "description": (
            "Answers after every event is durable. One result per element, in the order sent. Sending again is safe: "
            "(source, id) is counted once for ever. An event refused on its own merits does not stop the others."
        ),
        "security": [{"bearer": []}],
        "parameters": [_ref_parameter("AcceptLanguage")],
        "requestBody": {
            "required": True,
            "description": f"At most {limits.body_bytes} bytes and {limits.batch_events} events",
            "content": {
                EVENT: {"schema": event, "examples": {"first": {"value": example}}},
                BATCH: {"schema": batch, "examples": {"first": {"value": [example]}}},
                GUESS: {"schema": {"anyOf": [event, batch]}, "examples": {"first": {"value": example}}},
            },
        },
        "responses": {
            "200": _json(_ref("Results"), "All were taken (a duplicate counts as taken)"),
            "207": _json(_ref("Results"), "Some were refused; each says why"),
            **_problems("400", "401", "403", "405", "413", "415", "429"),
        },
    }


def _ref_parameter(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/parameters/{name}"}


def _register(operation: str, family: Family) -> dict[str, Any]:
    return {
        "operationId": operation,
        "tags": ["registry"],
        **_summary(family.title),
        "description": "Returns when intake stamps by it. `after` of the answer makes a read wait for it.",
        "security": [{"bearer": []}],
        "parameters": [_ref_parameter("AcceptLanguage")],
        "requestBody": {
            "required": True,
            "content": {
                GUESS: {
                    "schema": _ref(f"{component_name(family.type)}Data"),
                    "examples": {"first": {"value": dict(family.example_data)}},
                }
            },
        },
        "responses": {
            "201": _json(_ref("Receipt"), "Registered"),
            **_problems("400", "401", "403", "405", "409", "413", "415", "429"),
        },
    }


def _rule_command(operation: str, title: Text) -> dict[str, Any]:
    return {
        "operationId": operation,
        "tags": ["registry"],
        **_summary(title),
        "description": "Publishes the rule's next version; one that changes nothing publishes nothing. Without `valid_from` it "
        "holds two seconds after the command.",
        "security": [{"bearer": []}],
        "parameters": [_path_parameter("rule", Text("规则", "Rule")), _ref_parameter("AcceptLanguage")],
        "requestBody": {
            "required": True,
            "content": {GUESS: {"schema": RuleCommand.model_json_schema(), "examples": {"first": {"value": {}}}}},
        },
        "responses": {
            "201": _json({"type": "object"}, "Receipt, and the version that stands"),
            **_problems("400", "401", "403", "405", "409", "413", "415", "429"),
        },
    }


def _document(operation: str, title: Text, schema: Mapping[str, Any], media_type: str, *more: str) -> dict[str, Any]:
    return {
        "operationId": operation,
        "tags": ["documents"],
        **_summary(title),
        "security": [{}],
        "responses": {"200": _json(schema, title.en, media_type), **_problems("405", *more)},
    }


def _path_parameter(name: str, title: Text, values: list[str] | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if values:
        schema["enum"] = values
    return {"name": name, "in": "path", "required": True, "description": f"{title.zh} / {title.en}", "schema": schema}


def _components(catalog: Catalog, family_query: Callable[[Family], NamedQuery]) -> dict[str, Any]:
    problem = {
        "type": "object",
        "description": "RFC 9457 problem details",
        "required": ["type", "title", "detail", "code"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference", "examples": ["/problems/unknown-type"]},
            "title": {"type": "string", "description": "In the caller's language (Accept-Language: zh or en)"},
            "detail": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string"},
            "pointer": {"type": "string", "description": "JSON pointer (RFC 6901) into the event"},
            "parameters": {"type": "object", "additionalProperties": {"type": "string"}},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["pointer", "code", "detail"],
                    "properties": {
                        "pointer": {"type": "string"},
                        "code": {"type": "string"},
                        "detail": {"type": "string"},
                        "parameters": {"type": "object", "additionalProperties": {"type": "string"}},
                    },
                },
            },
        },
    }
    result = {
        "type": "object",
        "required": ["id", "source", "status"],
        "properties": {
            "id": {"type": ["string", "null"]},
            "source": {"type": ["string", "null"]},
            "status": {"enum": ["accepted", "duplicate", "refused"]},
            "problem": _ref("Problem"),
        },
        "additionalProperties": False,
    }
    responses: dict[str, Any] = {}
    for code, text in WHOLE_REQUEST.items():
        response = _json(_ref("Problem"), f"{text.zh} / {text.en}", MEDIA_TYPE)
        if code in ("429", "503"):
            response["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds"}}
        if code == "401":
            response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
        responses[f"Problem{code}"] = response
    rows = {f"{component_name(f.type)}Row": row_schema(family_query(f)) for f in catalog.families.values()}
    return {
        "securitySchemes": {
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "Writing always needs a token; reading needs none from this machine where reading is open.",
            }
        },
        "parameters": {
            "AcceptLanguage": {
                "name": "Accept-Language",
                "in": "header",
                "required": False,
                "description": "Language of titles and details: zh (default) or en",
                "schema": {"type": "string"},
            }
        },
        "responses": responses,
        "schemas": {
            "Problem": problem,
            "Result": result,
            "Results": {
                "type": "object",
                "required": ["results"],
                "properties": {"results": {"type": "array", "items": _ref("Result")}},
                "additionalProperties": False,
            },
            "Receipt": {
                "type": "object",
                "required": ["topic", "partition", "position", "after"],
                "properties": {
                    "topic": {"type": "string"},
                    "partition": {"type": "integer"},
                    "position": {"type": "integer"},
                    "after": {"type": "string", "description": "For the `after` parameter of reads"},
                },
            },
            **data_schemas(catalog.families.values()),
            **rows,
        },
    }


def openapi_document(
    catalog: Catalog,
    queries: Mapping[str, NamedQuery],
    family_query: Callable[[Family], NamedQuery],
    version: str,
    limits: ApiLimits,
) -> dict[str, Any]:
    """The whole document."""
    anything = {"type": "object"}
    listed = page_schema(anything)
    paths: dict[str, dict[str, Any]] = {
        "/v1/events": {"post": _post_events(catalog, limits)},
        "/v1/events/{type}": {"get": _events(catalog, family_query, limits)},
    }
    for read in READS:
        paths.setdefault(read.path, {})["get"] = _read(read.operation, queries[read.query], limits)
    for path, type_, operation in REGISTRATIONS:
        if type_ in catalog:
            paths.setdefault(path, {})["post"] = _register(operation, catalog[type_])
    for path, _, operation, title in COMMANDS:
        paths[path] = {"post": _rule_command(operation, title)}
    paths["/v1/quarantine/{id}/release"] = {
        "post": {
            "operationId": "releaseQuarantined",
            "tags": ["write"],
            **_summary(Text("重新提交隔离区中的来件", "Submit a quarantined payload again")),
            "security": [{"bearer": []}],
            "parameters": [_path_parameter("id", Text("编号", "Id")), _ref_parameter("AcceptLanguage")],
            "responses": {
                "200": _json(_ref("Results"), "All were taken"),
                "207": _json(_ref("Results"), "Some were refused again"),
                **_problems("400", "401", "403", "404", "405", "409", "413", "429"),
            },
        }
    }
    schemas_list = _document("getSchemas", Text("事件类型一览", "Event types"), listed, "application/json")
    paths["/v1/schemas"] = {"get": schemas_list}
    schema = _document(
        "getSchema", Text("一类事件的 JSON Schema", "JSON Schema of an event type"), anything, "application/schema+json", "404"
    )
    schema["parameters"] = [_path_parameter("type", Text("事件类型", "Event type"), list(catalog.families))]
    paths["/v1/schemas/{type}"] = {"get": schema}
    for path, operation, title in (
        ("/v1/stats", "getStats", Text("事件计数与各主题位置", "Event counts and position per topic")),
        ("/v1/live/snapshot", "getSnapshot", Text("最新实时画面", "Newest live frame")),
        ("/v1/rules", "getDeclaredRules", Text("已声明的规则与参数", "Declared rules and their parameters")),
    ):
        paths[path] = {
            "get": {
                "operationId": operation,
                "tags": ["read"],
                **_summary(title),
                "security": [{"bearer": []}, {}],
                "responses": {"200": _json(anything, title.en), **_problems("401", "403", "405")},
            }
        }
    paths["/problems"] = {"get": _document("getProblems", Text("问题代码一览", "Problem codes"), listed, "application/json")}
    problem = _document("getProblem", Text("一个问题代码", "One problem code"), anything, "application/json", "404")
    problem["parameters"] = [_path_parameter("code", Text("代码", "Code"))]
    paths["/problems/{code}"] = {"get": problem}
    for path, operation, title, media_type in (
        ("/openapi.json", "getOpenapi", Text("本文档", "This document"), "application/json"),
        ("/asyncapi.json", "getAsyncapi", Text("主题的 AsyncAPI 文档", "AsyncAPI document of the topics"), "application/json"),
        ("/healthz", "getHealthz", Text("进程是否应答", "Whether the process answers"), "application/json"),
        ("/metrics", "getMetrics", Text("Prometheus 指标", "Prometheus metrics"), "text/plain"),
    ):
        shape = anything if media_type == "application/json" else {"type": "string"}
        paths[path] = {"get": _document(operation, title, shape, media_type)}
    health = {
        "type": "object",
        "required": ["status", "reasons", "warnings"],
        "properties": {
            "status": {"enum": ["ready", "not ready"]},
            "reasons": {"type": "array", "items": {"type": "object", "required": ["code"]}},
            "warnings": {"type": "array", "items": {"type": "object", "required": ["code"]}},
        },
    }
    ready = _document("getReadyz", Text("各环节是否在推进", "Whether every stage makes progress"), health, "application/json")
    ready["responses"]["503"] = _json(health, "Not ready, with reasons")
    paths["/readyz"] = {"get": ready}
    assert set(MEDIA_TYPES) == {EVENT, BATCH, GUESS}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hengliu 衡流",
            "version": version,
            "description": (
                "Events in, named queries out. Times are RFC 3339 in UTC; decimals are strings; masses are integer "
                "kilograms; missing is null, never zero. The WebSocket "
                "/v1/live sends the frame of /v1/live/snapshot at most once a second, and new warnings at once."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "write", "description": "写入 / Writing"},
            {"name": "read", "description": "查询 / Reading"},
            {"name": "registry", "description": "登记 / Registrations"},
            {"name": "documents", "description": "文档与状态 / Documents and state"},
        ],
        "paths": paths,
        "components": _components(catalog, family_query),
    }
