"""The pages: the city screen, one table template for every query and family, the quarantine desk, errors, static files.

Owns: routes of HTML pages, ``/screen/*`` (JSON of the screen's panels) and ``/static/*``. Does not own: the queries and the
rights filter (projections), the live line (``api.live``), problem documents.

A new table page is one line in ``PAGES``; every event family has one without any line, at ``/events/{type}``.
Pages work with JavaScript off: filters are forms, pages are links; htmx only saves the reload.
"""

import asyncio
import base64
import binascii
import gzip
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin
from urllib.parse import urlencode

import jinja2
import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from api import i18n
from api.access import reading_scope, require_reader
from api.deps import Deps
from api.encode import dumps
from api.i18n import DASH, LANGUAGES, TEXTS, WARNINGS, ZONE, page_text, warning_text
from api.problems import ALL_PROBLEMS, Refusal, render
from api.reads import READS
from api.screen import PANELS, Names, Reader, Shared, day_text, read_names, warning_place
from hengliu.events.envelope import ms_of
from hengliu.events.family import Family
from hengliu.ports.warehouse import WarehouseError
from hengliu.reference.codes import CODES, list_of, name_of
from hengliu.reference.problems import FIELD_FAULTS, PROBLEMS
from hengliu.rights import Principal, Scope
from projections.queries.query import NamedQuery, QueryError, QueryParameter, is_end

__all__ = ["PAGES", "SCRIPT_TEXTS", "TablePage", "error_page", "router", "wants_page"]

logger = logging.getLogger(__name__)

HERE: Final = Path(__file__).parent
ROWS: Final = 50
FRAME_S: Final = 0.2
SLOW_S: Final = 10.0
"""How long names and the registry behind them serve; a new registration is named on the pages this much later at most."""
REGISTRY: Final = frozenset({"enterprises", "sites", "districts", "devices", "meters"})
QUERY_S: Final = 10.0
"""A page that took longer to read is answered 503."""

SCRIPT_TEXTS: Final = (
    "chart.hours",
    "chart.load",
    "direction.in",
    "direction.out",
    "empty.hour",
    "kpi.high",
    "kpi.of",
    "kpi.tickets",
    "live.connecting",
    "live.off",
    "live.on",
    "live.polling",
    "panel.more",
    "state.stale",
    "stock.changed",
    "stock.unknown",
    "stock.unknown.means",
    "total",
    "unit.t",
)
"""Texts that ``static/screen.js`` uses."""


@dataclass(frozen=True, slots=True)
class TablePage:
    """A table page: a named query shown with filters.

    Attributes:
        name: path (``/name``), and key of its texts (``nav.name``, ``page.name.intro``).
        query: named query.
        columns: columns in order; empty: all that the query has.
        filters: parameters shown first, in order; the query's others unfold below.
        defaults: values of filters that were not given.
        template: its template.
        navigation: whether it stands in the main navigation.
    """

    name: str
    query: str
    columns: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    template: str = "table.html"
    navigation: bool = True

    @property
    def path(self) -> str:
        return f"/{self.name}"


PAGES: tuple[TablePage, ...] = (
    TablePage(
        "weighings",
        "weighings",
        ("time", "plate", "mass_kg", "axles", "commodity", "use", "site", "enterprise", "division", "source", "known_at"),
        ("from", "to", "plate", "site", "commodity"),
    ),
    TablePage(
        "tickets",
        "tickets",
        (
            *("time", "plate", "direction", "gross_kg", "tare_kg", "net_kg", "tare_source", "commodity", "use"),
            *("origin", "destination", "site", "enterprise", "division", "gross_time", "tare_time", "known_at"),
        ),
        ("from", "to", "plate", "site", "direction", "commodity"),
    ),
    TablePage(
        "shipments",
        "shipments",
        (
            *("began", "shipment", "loaded_plate", "loaded_site", "loaded_commodity", "loaded_kg", "to_division"),
            *("unloaded_at", "unloaded_plate", "unloaded_site", "unloaded_commodity", "unloaded_kg", "difference_kg"),
            *("loadings", "unloadings"),
        ),
        ("from", "to", "shipment", "plate", "site"),
        navigation=False,
    ),
    TablePage("flows", "flows", (), ("from", "to", "division", "commodity", "direction", "group")),
    TablePage("load-curves", "load-curves", (), ("from", "to", "meter", "quantity", "slot")),
    TablePage("stocks", "stocks", (), ("site", "enterprise", "division", "commodity")),
    TablePage(
        "warnings",
        "warnings",
        (
            *("severity", "code", "text", "state", "subject", "site", "enterprise", "division", "since", "time"),
            *("rule", "rule_version"),
        ),
        ("from", "to", "state", "severity", "code", "site"),
    ),
    TablePage("quarantine", "quarantine", (), ("from", "to", "reason", "principal"), template="quarantine.html"),
    TablePage("enterprises", "enterprises", navigation=False),
    TablePage("sites", "sites", navigation=False),
    TablePage("districts", "districts", navigation=False),
    TablePage("devices", "devices", navigation=False),
    TablePage("vehicles", "vehicles", navigation=False),
    TablePage("meters", "meters", navigation=False),
    TablePage(
        "rules", "rules", ("rule", "version", "valid_from", "status", "parameters", "citation"), ("rule",), navigation=False
    ),
)
"""The explicit list of table pages."""


# ---------------------------------------------------------------------------------------------------------------- values


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell, ready for the template."""

    text: str
    kind: str = ""
    """CSS classes: number, mono, wrap, missing, unknown, tag."""
    title: str = ""
    href: str = ""
    datetime: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its member, label and whether it holds numbers."""

    name: str
    label: str
    number: bool = False


PLACES: Final = {
    "enterprise": "enterprises",
    "site": "sites",
    "division": "divisions",
    "origin": "divisions",
    "destination": "divisions",
    "loaded_site": "sites",
    "unloaded_site": "sites",
    "to_division": "divisions",
    "meter": "meters",
}
"""Column to the member of ``Names`` that names its values."""


def code_lists(query: NamedQuery, family: Family | None) -> dict[str, str]:
    """Column to code list: by the closed type that the family declares for the member, else by the member's name."""
    lists = {column.name: column.name for column in query.columns if column.name in CODES}
    if family is not None:
        for name, declared in family.data.model_fields.items():
            codes = literal_codes(declared.annotation)
            lists.pop(name, None)
            if codes and (found := list_of(name, codes)):
                lists[name] = found
    if query.name == "warnings":
        lists["state"] = "warning_state"
    if query.name == "shipments":
        lists |= {"loaded_commodity": "commodity", "unloaded_commodity": "commodity"}
    return lists


def literal_codes(annotation: object) -> tuple[str, ...]:
    """Codes of a ``Literal`` of texts, optional or not; empty for any other type."""
    if get_origin(annotation) is Literal:
        return tuple(code for code in get_args(annotation) if isinstance(code, str))
    return next((codes for part in get_args(annotation) if (codes := literal_codes(part))), ())


WIDE: Final = frozenset({"text", "citation", "parameters"})
LONG: Final = frozenset({"id", "source", "cause", "corrects", "digest", "photo_digest", "warning", "payload_base64"})


def cell(name: str, value: object, names: Names, language: str, lists: Mapping[str, str]) -> Cell:
    """How a value of a column reads. None is a dash: missing is not zero."""
    if value is None or value == "":
        return Cell(DASH, "missing")
    if isinstance(value, bool):
        return Cell(page_text("yes" if value else "no", language), "" if value or name != "known" else "unknown")
    if isinstance(value, datetime):
        return Cell(i18n.time_text(value), "number-like", datetime=value.isoformat())
    if name.endswith("_kg") and isinstance(value, int):
        return Cell(i18n.tonnes(value), "number")
    if name.endswith("_bytes") or isinstance(value, int):
        return Cell(i18n.count(int(str(value))), "number")
    if isinstance(value, Decimal):
        return Cell(i18n.decimal_text(value), "number")
    if isinstance(value, Mapping):
        return Cell(", ".join(f"{key} = {text}" for key, text in value.items()) or DASH, "wrap")
    if isinstance(value, list | tuple):
        return Cell(", ".join(str(part) for part in value) or DASH, "wrap")
    text = str(value)
    if name in PLACES:
        known: Mapping[str, str] = getattr(names, PLACES[name])
        return Cell(known.get(text, text), title=text if text in known else "")
    if name == "severity":
        return Cell(name_of("severity", text, language), f"tag tag-{text}")
    if name == "plate" or name.endswith("_plate"):
        return Cell(text, "plate")
    code_list = lists.get(name, "")
    if text in CODES.get(code_list, {}):
        return Cell(name_of(code_list, text, language))
    if name in LONG:
        return Cell(text, "mono clip", title=text)
    return Cell(text, "wrap" if name in WIDE else "")


def family_label(family: Family, member: str, language: str) -> str | None:
    """The label of a member of a family's data, from its declaration; masses are shown in tonnes, so their unit is said so."""
    declared = family.data.model_fields.get(member)
    if declared is None:
        return None
    extra = declared.json_schema_extra
    english = extra.get("x-title-en") if isinstance(extra, dict) else None
    label = str(english) if language == "en" and english else (declared.title or member)
    return in_tonnes(label) if member.endswith("_kg") else label


# --------------------------------------------------------------------------------------------------------------- filters


@dataclass(frozen=True, slots=True)
class Option:
    value: str
    label: str
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of the form: time, text, choice or several."""

    name: str
    label: str
    kind: str
    value: str = ""
    options: tuple[Option, ...] = ()
    invalid: bool = False
    required: bool = False


NO_FILTER: Final = frozenset({"now"})
LAST_FILTER: Final = "as_of"
LEADING_FILTERS: Final = 5
"""So many filters are shown where a page does not list its own; the rest unfolds."""


def parse_time(text: str, *, end: bool = False) -> int:
    """Epoch ms of a time as people write it in Beijing: ``2026-03-01``, ``2026-03-01 08:00`` or with seconds.

    A day given as an end means its end. Raises ValueError.
    """
    text = text.strip().replace("T", " ").replace("/", "-")
    for pattern in ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"):
        try:
            moment = datetime.strptime(text, pattern).replace(tzinfo=ZONE)
        except ValueError:
            continue
        return ms_of(moment) + (86_400_000 if end and pattern == "%Y-%m-%d" else 0)
    raise ValueError(text)


def filter_label(parameter: QueryParameter, language: str) -> str:
    key = f"filter.{parameter.name}"
    return page_text(key, language) if key in TEXTS else parameter.title.in_language(language)


def option_label(name: str, code: str, names: Names, lists: Mapping[str, str], language: str) -> str:
    """The name of a choice: of a registered place, a code list, or a text ``<parameter>.<choice>``."""
    if name in PLACES:
        known: Mapping[str, str] = getattr(names, PLACES[name])
        return known.get(code, code)
    key = f"{name}.{code}"
    if key in TEXTS:
        return page_text(key, language)
    if name == "code" and code in WARNINGS:
        return WARNINGS[code].name.in_language(language)
    if name == "reason" and code in PROBLEMS:
        return PROBLEMS[code].title.in_language(language)
    return name_of(lists.get(name, name), code, language)


def make_filter(
    parameter: QueryParameter, value: str, names: Names, lists: Mapping[str, str], language: str, *, invalid: bool = False
) -> Filter:
    name = parameter.name
    label = filter_label(parameter, language)
    if parameter.kind == "time":
        return Filter(name, label, "time", value, invalid=invalid)

    def named(codes: Iterable[str]) -> list[tuple[str, str]]:
        return [(code, option_label(name, code, names, lists, language)) for code in codes]

    pairs = named(parameter.choices or {})
    if not pairs and name in PLACES:
        pairs = sorted(named(getattr(names, PLACES[name])), key=lambda pair: pair[1])
    elif not pairs and name == "code":
        pairs = named(WARNINGS)
    elif not pairs and name == "reason":
        pairs = named(code for code, problem in PROBLEMS.items() if not problem.status)
    elif not pairs:
        pairs = named(CODES.get(lists.get(name, ""), {}))
    if not pairs:
        return Filter(name, label, "text", value, invalid=invalid)
    if parameter.kind == "subset":
        chosen = value.split(",")
        return Filter(name, label, "several", value, tuple(Option(code, text, code in chosen) for code, text in pairs))
    if value and value not in dict(pairs):
        # Several at once, or one that is not registered: kept as given.
        pairs.append((value, ", ".join(option_label(name, code, names, lists, language) for code in value.split(","))))
    options = tuple(Option(code, text, code == value) for code, text in pairs)
    return Filter(name, label, "choice", value, options, required=bool(parameter.default))


class BadFilter(Exception):
    """A filter's value cannot be read; ``name`` says which."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def query_value(parameter: QueryParameter, text: str) -> object:
    """A filter's text as the query's parameter. Raises BadFilter."""
    if parameter.kind != "time":
        return text.strip()
    try:
        return parse_time(text, end=is_end(parameter.name))
    except ValueError as error:
        raise BadFilter(parameter.name) from error


# ---------------------------------------------------------------------------------------------------------------- static


@dataclass(frozen=True, slots=True)
class StaticFile:
    body: bytes
    packed: bytes | None
    media_type: str
    digest: str


MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@cache
def read_static(folder: Path) -> Mapping[str, StaticFile]:
    """All files of a folder by relative path, compressed once: 1.6 MB in memory, and no request compresses anything."""
    files = {}
    for path in sorted(folder.rglob("*")):
        media_type = MEDIA_TYPES.get(path.suffix)
        if not path.is_file() or media_type is None:
            continue
        body = path.read_bytes()
        beside = path.with_name(f"{path.name}.gz")
        packed = beside.read_bytes() if beside.exists() else gzip.compress(body, 9, mtime=0) if len(body) > 1024 else None
        name = path.relative_to(folder).as_posix()
        files[name] = StaticFile(body, packed, media_type, hashlib.sha256(body).hexdigest()[:16])
    return files


def static_response(file: StaticFile, request: Request) -> Response:
    """The file, compressed if the client takes it; for ever if asked for by its digest."""
    tagged = f'"{file.digest}"'
    forever = request.query_params.get("v") == file.digest
    headers = {
        "ETag": tagged,
        "Vary": "Accept-Encoding",
        "Cache-Control": "public, max-age=31536000, immutable" if forever else "no-cache",
    }
    if request.headers.get("if-none-match") == tagged:
        return Response(status_code=304, headers=headers)
    if file.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=file.media_type)
    return Response(file.body, headers=headers, media_type=file.media_type)


# ----------------------------------------------------------------------------------------------------------------- pages


@dataclass(frozen=True, slots=True)
class Fault:
    """A page that cannot be shown: HTTP status and what to add to its text."""

    status: int
    detail: str = ""


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks: it names text/html, an API client does not."""
    return request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", "")


@cache
def read_templates(folder: Path) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class Site:
    """Templates, static files and shared readings of one platform process."""

    def __init__(self, deps: Deps | None, folder: Path = HERE) -> None:
        self.deps = deps
        self.static = read_static(folder / "static")
        self.shared = Shared()
        self.templates = read_templates(folder / "templates")

    def static_url(self, name: str) -> str:
        file = self.static.get(name)
        return f"/static/{name}?v={file.digest}" if file else f"/static/{name}"

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """An HTML page in the request's language; the ``lang`` parameter is kept in a cookie."""
        language = language_of(request)
        context: dict[str, Any] = {
            "language": language,
            "t": partial(_text, language),
            "static": self.static_url,
            "dash": DASH,
            "path": request.url.path,
            "navigation": navigation(language),
            "other_language_url": with_parameters(request, lang="en" if language == "zh" else "zh"),
            "version": self.deps.version if self.deps else "",
            "charts": "vendor/echarts.min.js" in self.static,
            "htmx": "vendor/htmx.min.js" in self.static,
            **values,
        }
        body = self.templates.get_template(template).render(context)
        headers = {"Cache-Control": "no-store", "Content-Language": "zh-CN" if language == "zh" else "en", "Vary": "Cookie"}
        response = Response(body, status, headers, "text/html; charset=utf-8")
        if request.query_params.get("lang") in i18n.LANGUAGES:
            # Not HttpOnly-sensitive: it holds a language, no identity.
            response.set_cookie("lang", language, max_age=31_536_000, samesite="lax", httponly=True, path="/")
        return response

    def fault(self, request: Request, fault: Fault) -> Response:
        """The page of an error; a status without words of its own has those of 503."""
        key = f"error.{fault.status if f'error.{fault.status}' in TEXTS else 503}"
        return self.page(request, "error.html", fault.status, number=fault.status, key=key, detail=fault.detail)


def _text(language: str, key: str, **parameters: object) -> str:
    return page_text(key, language, **parameters)


def language_of(request: Request) -> str:
    return i18n.language_from(request.query_params.get("lang"), request.cookies.get("lang"))


def with_parameters(request: Request, **changes: str | None) -> str:
    """This page's address with some parameters set (or left out: None); order and repetitions are kept."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in changes]
    kept += [(name, value) for name, value in changes.items() if value is not None]
    return f"{request.url.path}?{urlencode(kept)}" if kept else request.url.path


@dataclass(frozen=True, slots=True)
class Link:
    href: str
    label: str


def navigation(language: str) -> list[Link]:
    pages = [Link(page.path, page_text(f"nav.{page.name}", language)) for page in PAGES if page.navigation]
    return [Link("/", page_text("nav.screen", language)), *pages, Link("/about", page_text("nav.about", language))]


def error_page(deps: Deps | None, request: Request, status: int) -> Response:
    """The page of an error that happened outside these routes (an unknown address, a fault)."""
    return Site(deps).fault(request, Fault(status))


@dataclass(frozen=True, slots=True)
class Reading:
    """Who reads, and what they may see."""

    principal: Principal
    scope: Scope


def offered_filters(declared: TablePage, query: NamedQuery) -> tuple[QueryParameter, ...]:
    """The filters of a page: times and what it lists first, then the query's others, then ``as_of``."""
    accepted = query.accepted
    first = [name for name in (declared.filters or ("from", "to")) if name in accepted]
    own = [name for name in accepted if name not in (*first, LAST_FILTER, *NO_FILTER)]
    return tuple(accepted[name] for name in (*first, *own, LAST_FILTER))


def router(deps: Deps) -> APIRouter:
    """All page routes, over what ``deps`` reads."""
    site = Site(deps)
    routes = APIRouter(include_in_schema=False)

    def reader(reading: Reading, language: str) -> Reader:
        async def run(name: str, parameters: Mapping[str, object], limit: int) -> list[dict[str, Any]]:
            # Without ``now``, which is another one at every asking.
            given = tuple(sorted((k, str(v)) for k, v in parameters.items() if k != "now"))
            key = ("query", name, given, limit, reading.scope)

            async def make() -> list[dict[str, Any]]:
                page = await deps.run_query(deps.warehouse, deps.queries[name], reading.scope, parameters, None, limit)
                return list(page.rows)

            rows: list[dict[str, Any]] = await site.shared.get(key, make, SLOW_S if name in REGISTRY else None)
            return rows

        return Reader(run, deps.clock.now_ms(), language)

    async def names_of(reading: Reading, language: str) -> Names:
        key = ("names", language, reading.scope)
        names: Names = await site.shared.get(key, lambda: read_names(reader(reading, language)), SLOW_S)
        return names

    def guarded(
        handler: Callable[[Request, Reading, str], Awaitable[Response]],
    ) -> Callable[[Request], Awaitable[Response]]:
        """Rights first, then the page; what cannot be read is a page that says so, never a bare 500."""

        async def handle(request: Request) -> Response:
            try:
                principal = require_reader(request)
                reading = Reading(principal, reading_scope(principal))
                async with asyncio.timeout(QUERY_S):
                    return await handler(request, reading, language_of(request))
            except Refusal as refusal:
                if not wants_page(request):
                    raise
                return site.fault(request, Fault(ALL_PROBLEMS[refusal.problem.code].status))
            except (WarehouseError, TimeoutError) as error:
                logger.warning("page %s cannot be read", request.url.path, exc_info=error)
                response = site.fault(request, Fault(503))
                response.headers["Retry-After"] = "5"
                return response

        return handle

    async def screen(request: Request, reading: Reading, language: str) -> Response:
        try:
            # The frame of the screen waits for no table; its panels say what is slow or cannot be read.
            async with asyncio.timeout(FRAME_S):
                names = await names_of(reading, language)
        except (WarehouseError, TimeoutError):
            names = Names()
        city = names.city or deps.city[LANGUAGES.index(language)]
        city = " · ".join(part for part in (city, page_text("screen.city", language)) if part)
        texts = {key: TEXTS[key].in_language(language) for key in SCRIPT_TEXTS}
        return site.page(request, "screen.html", city=city, today=day_text(deps.clock.now_ms()), script_texts=texts)

    async def panel(request: Request, reading: Reading, language: str) -> Response:
        make = PANELS.get(request.path_params["panel"])
        if make is None:
            return site.fault(request, Fault(404))
        wish = request.query_params.get("meter", "")[:64]
        key = ("panel", request.path_params["panel"], language, wish, reading.scope)

        async def assemble() -> bytes:
            return dumps(await make(reader(reading, language), await names_of(reading, language), wish))

        body = await site.shared.get(key, assemble)
        return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")

    async def table(declared: TablePage, request: Request, reading: Reading, language: str) -> Response:
        return await show(declared, deps.queries[declared.query], None, request, reading, language)

    async def events(request: Request, reading: Reading, language: str) -> Response:
        type_ = request.path_params["type"]
        if type_ not in deps.catalog:
            return site.fault(request, Fault(404))
        family = deps.catalog[type_]
        return await show(TablePage("events", type_), deps.family_query(family), family, request, reading, language)

    async def show(
        declared: TablePage, query: Any, family: Family | None, request: Request, reading: Reading, language: str
    ) -> Response:
        names = await names_of(reading, language)
        offered = offered_filters(declared, query)
        # Check boxes and JavaScript-free forms repeat a name; the API's parameters are comma lists.
        given = {name: ",".join(v for v in request.query_params.getlist(name) if v.strip()) for name in request.query_params}
        defaults = {p.name: declared.defaults.get(p.name, p.default) for p in offered}
        values = {p.name: given.get(p.name) or defaults[p.name] for p in offered}
        cursor = request.query_params.get("cursor") or None
        invalid, problem, page = "", "", None
        try:
            parameters: dict[str, object] = {p.name: query_value(p, values[p.name]) for p in offered if values[p.name]}
            parameters["now"] = deps.clock.now_ms()
            page = await deps.run_query(deps.warehouse, query, reading.scope, parameters, cursor, ROWS)
        except BadFilter as error:
            invalid, problem = error.name, page_text("table.bad-time", language)
        except QueryError as error:
            invalid, problem = error.parameter, error.text.in_language(language)
        rows = list(page.rows) if page else []
        labels = family or deps.catalog.families.get(FAMILY_OF.get(declared.query, ""))
        lists = code_lists(query, labels)
        filters = [make_filter(p, values[p.name], names, lists, language, invalid=p.name == invalid) for p in offered]
        leading = len(declared.filters) or LEADING_FILTERS
        if family is not None:
            title = family.title.in_language(language)
            intro = page_text("page.events.intro", language, type=family.type)
        else:
            title = page_text(f"nav.{declared.name}", language)
            intro = page_text(f"page.{declared.name}.intro", language)
        columns = table_columns(declared, query, family, labels, values, language)
        known = [row["known_at"] for row in rows if isinstance(row.get("known_at"), datetime)]
        return site.page(
            request,
            declared.template,
            400 if problem else 200,
            title=title,
            intro=intro,
            filters=filters[:leading],
            more_filters=filters[leading:],
            more_open=any(given.get(f.name) or f.invalid for f in filters[leading:]),
            filtered=any(given.get(p.name) for p in offered),
            problem=problem,
            span=default_span(query, values, language),
            columns=columns,
            rows=[[render_cell(column.name, row, names, lists, language) for column in columns] for row in rows],
            items=[quarantine_item(row, deps, language) for row in rows] if declared.name == "quarantine" else [],
            next=with_parameters(request, cursor=page.next) if page and page.next else "",
            paged=cursor is not None,
            first=with_parameters(request, cursor=None),
            read_at=i18n.time_text(_moment(deps.clock.now_ms())),
            known_at=i18n.time_text(max(known)) if known else "",
            json_url=json_url(declared, family, offered, values),
            family=family,
            others=[Link(f"/events/{f.type}", f.title.in_language(language)) for f in deps.catalog.families.values()],
        )

    async def about(request: Request, reading: Reading, language: str) -> Response:
        licences = sorted(name for name in site.static if name.startswith("vendor/") and name.endswith(".txt"))
        return site.page(
            request,
            "about.html",
            families=[
                (Link(f"/events/{family.type}", family.title.in_language(language)), family.type)
                for family in deps.catalog.families.values()
            ],
            registry=[Link(page.path, page_text(f"nav.{page.name}", language)) for page in PAGES if not page.navigation],
            licences=[Link(site.static_url(name), name.removeprefix("vendor/")) for name in licences],
        )

    async def static(request: Request) -> Response:
        file = site.static.get(request.path_params["path"])
        if file is None:
            return site.fault(request, Fault(404))
        return static_response(file, request)

    routes.add_api_route("/", guarded(screen), methods=["GET"], name="screen")
    routes.add_api_route("/screen/{panel}", guarded(panel), methods=["GET"], name="panel")
    for declared in PAGES:
        routes.add_api_route(declared.path, guarded(partial(table, declared)), methods=["GET"], name=declared.name)
    routes.add_api_route("/events/{type}", guarded(events), methods=["GET"], name="events")
    routes.add_api_route("/about", guarded(about), methods=["GET"], name="about")
    routes.add_api_route("/static/{path:path}", static, methods=["GET"], name="static")
    return routes


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, ZONE)


def default_span(query: NamedQuery, values: Mapping[str, str], language: str) -> str:
    """What a missing start means: big tables are never read whole by an omission."""
    if query.bounds is None or query.bounds.default_days is None or values.get("from"):
        return ""
    return page_text("table.span", language, days=query.bounds.default_days)


SENT: Final = "data_"
"""Prefix of a column whose member is named like one of the envelope or scope: what the sender claimed stands beside what
the registration says."""
NUMBERS: Final = frozenset({"integer", "decimal", "number"})


def table_columns(
    declared: TablePage,
    query: NamedQuery,
    family: Family | None,
    labels: Family | None,
    values: Mapping[str, str],
    language: str,
) -> list[Column]:
    """The page's columns with their labels: the family's, the page's own, else the query's titles."""
    known = {column.name: column for column in query.columns}
    names = list(declared.columns) or list(known)
    if "group" in query.accepted:
        # What is not grouped by has no value in any row.
        group = {"start" if name == "hour" else name for name in values.get("group", "").split(",")}
        names = [name for name in names if name in group or known[name].kind in NUMBERS]
    if family is not None:
        # What happened stands first, what identifies it last.
        last = ["source", "id", "known_at", "cause", "corrects"]
        scope = ["enterprise", "site", "division"]
        middle = [name for name in names if name not in ("time", *last, *scope)]
        names = ["time", *middle, *(n for n in scope if n in names), *(n for n in last if n in names)]
    return [
        Column(name, column_label(declared, query, labels, name, language), name in known and known[name].kind in NUMBERS)
        for name in names
    ]


def column_label(declared: TablePage, query: NamedQuery, family: Family | None, name: str, language: str) -> str:
    own = f"column.{declared.name}.{name}"
    if own in TEXTS:
        return page_text(own, language)
    if family is not None and (label := family_label(family, name, language)):
        return label
    sent = name.removeprefix(SENT)
    if family is not None and sent != name and (label := family_label(family, sent, language)):
        return page_text("column.sent", language, label=label)
    title = next((column.title.in_language(language) for column in query.columns if column.name == name), "")
    if not title:
        return page_text(f"column.{name}", language)
    return in_tonnes(title) if name.endswith("_kg") else title


def in_tonnes(label: str) -> str:
    """A label of kilograms as the label of the tonnes shown."""
    return label.replace("（千克）", "（吨）").replace("(kg)", "(t)").replace("(千克)", "（吨）")


def render_cell(name: str, row: Mapping[str, Any], names: Names, lists: Mapping[str, str], language: str) -> Cell:
    """A cell whose value may depend on the rest of the row."""
    if name == "text":
        parameters = dict(row["parameters"] or {})
        words = warning_text(row["code"], parameters, language, warning_place(dict(row), names))[1]
        ticket = parameters.get("ticket", "")
        day = i18n.time_text(row["since"])[:10]
        href = f"/events/weighing.recorded?{urlencode({'id': ticket, 'from': day})}" if ticket else ""
        if shipment := parameters.get("shipment", ""):
            begin = i18n.time_text(row["since"] - TRIP)[:10]
            href = f"/shipments?{urlencode({'shipment': shipment, 'from': begin})}"
        return Cell(words, "wrap", href=href)
    if name == "code" and "severity" in row:
        return Cell(warning_text(str(row["code"]), {}, language)[0])
    if name == "mass_kg" and row.get("known") is False:
        # Only what moved is known; it must not be read as a stock.
        return Cell(page_text("stock.cell", language, mass_kg=row[name]), "number unknown")
    if name == "subject":
        return Cell(str(warning_place(dict(row), names)["subject"]), title=str(row[name]))
    return cell(name, row.get(name), names, language, lists)


TRIP: Final = timedelta(days=7)
"""So long before a warning of a shipment its loading is looked for."""

FAMILY_OF: Final = {
    "weighings": "weighing.measured",
    "tickets": "weighing.recorded",
    "flows": "flow.summed",
    "load-curves": "consumption.recorded",
    "stocks": "stock.moved",
    "warnings": "warning.raised",
    "quarantine": "event.refused",
    "enterprises": "enterprise.registered",
    "sites": "site.registered",
    "districts": "district.registered",
    "devices": "device.registered",
    "vehicles": "vehicle.registered",
    "rules": "rule.published",
}
"""Query to the family whose labels and code lists its columns carry."""


def json_url(declared: TablePage, family: Family | None, offered: Sequence[QueryParameter], values: Mapping[str, str]) -> str:
    """The same rows from the API; times as epoch milliseconds."""
    paths = {read.query: read.path for read in READS}
    base = f"/v1/events/{family.type}" if family else paths[declared.query]
    query: list[tuple[str, str]] = []
    for parameter in offered:
        try:
            if values[parameter.name]:
                query.append((parameter.name, str(query_value(parameter, values[parameter.name]))))
        except BadFilter:
            continue
    return f"{base}?{urlencode(query)}" if query else base


# ------------------------------------------------------------------------------------------------------------- quarantine


@dataclass(frozen=True, slots=True)
class Item:
    """One refused item as the desk shows it."""

    id: str
    what: str
    type: str
    why: str
    text: str
    pointer: str
    source: str
    event_id: str
    principal: str
    time: str
    stage: str
    digest: str
    size: int
    kept: int
    payload: str
    binary: bool
    code: str
    faults: tuple[tuple[str, str, str], ...]
    """Pointer, label and fault of each field."""


INDENTED_BYTES: Final = 16_384
SHOWN_CHARACTERS: Final = 65_536


def payload_text(payload: bytes) -> tuple[str, bool]:
    """A payload to read: JSON indented, other text as it is, anything else in hexadecimal (and true).

    It is what somebody sent who was refused: nested deeper than a serialiser goes, or such that indenting it makes a hundred
    times as much, it is shown as it came.
    """
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return payload[:4096].hex(" "), True
    if len(payload) > INDENTED_BYTES:
        return text, False
    try:
        indented = orjson.dumps(orjson.loads(payload), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return text, False
    return (indented if len(indented) <= SHOWN_CHARACTERS else text), False


def field_faults(parameters: Mapping[str, str], family: Family | None, language: str) -> tuple[tuple[str, str, str], ...]:
    """Faults of fields, which the parameters of ``data-invalid`` hold as JSON pointer (RFC 6901) to code."""
    faults = []
    for pointer, code in sorted(parameters.items()):
        if pointer.startswith("/"):
            member = pointer.removeprefix("/data/").split("/")[0]
            label = family_label(family, member, language) if family and pointer.startswith("/data/") else None
            key = f"fault.{code}"
            if key in TEXTS:
                words = page_text(key, language)
            else:
                words = FIELD_FAULTS[code].in_language(language) if code in FIELD_FAULTS else code
            faults.append((pointer, label or member, words))
    return tuple(faults)


def quarantine_item(row: Mapping[str, Any], deps: Deps, language: str) -> Item:
    try:
        payload = base64.b64decode(row["payload_base64"] or "", validate=True)
    except (binascii.Error, ValueError):
        payload = b""
    type_ = str(row["refused_type"] or "")
    family = deps.catalog.families.get(type_)
    code = str(row["reason"])
    words = ALL_PROBLEMS.get(code)
    why = words.title.in_language(language) if words else code
    text = render(code, dict(row["parameters"] or {}), language)["detail"]
    shown, binary = payload_text(payload)
    return Item(
        id=str(row["id"]),
        what=family.title.in_language(language) if family else type_ or page_text("quarantine.no-type", language),
        type=type_,
        why=why,
        text="" if text == why else str(text),
        pointer=str(row["pointer"] or ""),
        source=str(row["refused_source"] or DASH),
        event_id=str(row["refused_id"] or DASH),
        principal=str(row["principal"] or DASH),
        time=i18n.time_text(row["time"]),
        stage=name_of("stage", str(row["stage"]), language),
        digest=str(row["digest"]),
        size=int(row["size_bytes"]),
        kept=len(payload),
        payload=shown,
        binary=binary,
        code=code,
        faults=field_faults(dict(row["parameters"] or {}), family, language),
    )
