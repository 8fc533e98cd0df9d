"""What the panels of the city screen show, ready to be drawn: names in the page's language, masses in kilograms.

Each panel is one function from named queries to a JSON document. Owns: which query feeds which panel and how rows are put
together for people. Does not own: the queries, the rights filter (both in projections, run through ``Deps``) and the looks.

Every document has ``known_at``: up to when (receive time, epoch ms) its figures include what is known; null if there is no
data. An absent figure is null, never 0.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias

from api.i18n import ZONE, warning_text
from api.live import DAY_MS, shanghai_day_start
from hengliu.events.envelope import ms_of
from hengliu.reference.codes import COLOUR_ORDER, name_of

__all__ = ["PANELS", "Names", "Reader", "Shared", "read_names"]

HOUR_MS: Final = 3_600_000
HOURS: Final = 24
STOCK_SITES: Final = 12
WARNINGS_SHOWN: Final = 12
WARNINGS_READ: Final = 500
WEIGHINGS_SHOWN: Final = 20
LOAD_SLOT_MINUTES: Final = 15

Row: TypeAlias = dict[str, Any]
Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reader:
    """Named queries with one person's rights, at one time.

    Attributes:
        run: query name, parameters, limit to rows.
        now_ms: wall clock, epoch ms.
        language: zh or en.
    """

    run: Callable[[str, Mapping[str, object], int], Awaitable[list[Row]]]
    now_ms: int
    language: str


@dataclass(frozen=True, slots=True)
class Names:
    """Names of what is registered, in one language; and which divisions lie inside the city."""

    enterprises: Mapping[str, str] = field(default_factory=dict)
    sites: Mapping[str, str] = field(default_factory=dict)
    divisions: Mapping[str, str] = field(default_factory=dict)
    inside: tuple[str, ...] = ()
    meters: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)
    """Event source to kind and device."""
    city: str = ""


def _name(row: Row, key: str, language: str) -> str:
    if language == "en" and row.get("name_en"):
        return str(row["name_en"])
    return str(row.get("name") or row[key])


async def read_names(reader: Reader) -> Names:
    """Names of enterprises, sites, divisions and meters.

    A division whose code ends in 00 is the city (GB/T 2260-2007, 3: digits 5 and 6 name the county level); what counts as
    a district of the city is registered inside it and is not the city itself.
    """
    language = reader.language
    queries = ("enterprises", "sites", "districts", "meters", "devices")
    enterprises, sites, districts, meters, devices = await asyncio.gather(*(reader.run(name, {}, 1000) for name in queries))
    site_names = {str(row["site"]): _name(row, "site", language) for row in sites}
    inside = [row for row in districts if row.get("inside")]
    city = next((_name(row, "division", language) for row in inside if str(row["division"]).endswith("00")), "")
    return Names(
        enterprises={str(row["enterprise"]): _name(row, "enterprise", language) for row in enterprises},
        sites=site_names,
        divisions={str(row["division"]): _name(row, "division", language) for row in districts},
        inside=tuple(sorted(str(row["division"]) for row in inside if not str(row["division"]).endswith("00"))),
        meters=_meter_names(meters, site_names, language),
        devices={
            str(row["source"]): f"{name_of('device_kind', str(row['kind']), language)} {row['device']}" for row in devices
        },
        city=city,
    )


def _meter_names(rows: list[Row], sites: Mapping[str, str], language: str) -> dict[str, str]:
    """Site and quantity; with the meter's own id where a site has several of one quantity, or its site is not known."""
    heads: dict[str, str] = {}
    for row in rows:
        site = str(row.get("site") or "")
        if site in sites and row.get("quantity"):
            heads[str(row["meter"])] = f"{sites[site]} · {name_of('quantity', str(row['quantity']), language)}"
    times = Counter(heads.values())
    names = {}
    for row in rows:
        meter = str(row["meter"])
        head = heads.get(meter, "")
        names[meter] = head if times[head] == 1 and head else f"{head} ({meter})" if head else meter
    return names


def _colour(code: str) -> int:
    return COLOUR_ORDER.index(code) if code in COLOUR_ORDER else len(COLOUR_ORDER)


def _ms(value: object) -> int | None:
    return ms_of(value) if isinstance(value, datetime) else None


async def _overview_row(reader: Reader) -> Row:
    rows = await reader.run("overview", {"now": reader.now_ms}, 1)
    return rows[0] if rows else {}


async def _known_at(reader: Reader) -> int | None:
    return _ms((await _overview_row(reader)).get("last_known_at"))


async def _open_warnings(reader: Reader) -> list[Row]:
    return await reader.run("warnings", {"state": "raised,updated"}, WARNINGS_READ)


SILENCE_CODE: Final = "device-silent"


async def _day_of_flows(reader: Reader) -> list[Row]:
    """Flow panes of the last 24 hours by hour, district, commodity and direction: one question for three panels.

    Midnight in Asia/Shanghai is never before it, so today's sums lie in it too.
    """
    parameters = {"from": _first_hour(reader.now_ms), "group": "hour,division,commodity,direction"}
    return await reader.run("flows", parameters, 10_000)


def _first_hour(now_ms: int) -> int:
    return now_ms - now_ms % HOUR_MS - (HOURS - 1) * HOUR_MS


def _add(held: list[int | None], index: int, kilograms: int) -> None:
    held[index] = (held[index] or 0) + kilograms


async def overview(reader: Reader, names: Names, wish: str) -> Document:
    """The figures of today (Asia/Shanghai), open warnings, devices and up to when the data reaches."""
    row, warnings, flows = await asyncio.gather(_overview_row(reader), _open_warnings(reader), _day_of_flows(reader))
    start = shanghai_day_start(reader.now_ms)
    hours = (reader.now_ms - start) // HOUR_MS + 1
    spans: dict[str, list[int | None]] = {"out": [None] * hours, "in": [None] * hours}
    for flow in flows:
        index = ((_ms(flow["start"]) or 0) - start) // HOUR_MS
        if 0 <= index < hours:
            _add(spans[flow["direction"]], index, int(flow["net_kg"]))
    devices = row.get("devices")
    silent = len({warning["subject"] for warning in warnings if warning["code"] == SILENCE_CODE})
    return {
        "known_at": _ms(row.get("last_known_at")),
        "now": reader.now_ms,
        "out_kg": row.get("net_out_kg_today"),
        "in_kg": row.get("net_in_kg_today"),
        "out_hours": spans["out"],
        "in_hours": spans["in"],
        "tickets": row.get("tickets_today"),
        "weighings": row.get("weighings_today"),
        "warnings": row.get("warnings_open"),
        "high": sum(1 for warning in warnings if warning["severity"] == "high"),
        "devices": devices,
        "devices_online": None if devices is None else max(0, int(devices) - silent),
        "sites": row.get("sites"),
    }


async def hours(reader: Reader, names: Names, wish: str) -> Document:
    """Net mass dispatched from sites in each of the last 24 hours, stacked by commodity; an hour without tickets is null."""
    first = _first_hour(reader.now_ms)
    known_at, flows = await asyncio.gather(_known_at(reader), _day_of_flows(reader))
    masses: dict[str, list[int | None]] = {}
    for row in flows:
        index = ((_ms(row["start"]) or 0) - first) // HOUR_MS
        if row["direction"] == "out" and 0 <= index < HOURS:
            _add(masses.setdefault(str(row["commodity"]), [None] * HOURS), index, int(row["net_kg"]))
    return {
        "known_at": known_at,
        "hours": [first + i * HOUR_MS for i in range(HOURS)],
        "series": [
            {"code": code, "name": name_of("commodity", code, reader.language), "kg": masses[code]}
            for code in sorted(masses, key=_colour)
        ],
    }


async def districts(reader: Reader, names: Names, wish: str) -> Document:
    """Received and dispatched since midnight (Asia/Shanghai) per district; a district without tickets has nulls."""
    start = shanghai_day_start(reader.now_ms)
    known_at, flows = await asyncio.gather(_known_at(reader), _day_of_flows(reader))
    masses: dict[tuple[str, str], int] = {}
    for row in flows:
        if (_ms(row["start"]) or 0) >= start:
            key = (str(row["division"]), str(row["direction"]))
            masses[key] = masses.get(key, 0) + int(row["net_kg"])
    shown = list(names.inside) + sorted({division for division, _ in masses} - set(names.inside))
    return {
        "known_at": known_at,
        "day": day_text(reader.now_ms),
        "rows": [
            {
                "division": division,
                "name": names.divisions.get(division, division),
                "in_kg": masses.get((division, "in")),
                "out_kg": masses.get((division, "out")),
            }
            for division in shown
        ],
    }


async def stocks(reader: Reader, names: Names, wish: str) -> Document:
    """Book stock per site. A site is known when every commodity on it has an opening or a survey; else its total is null."""
    known_at, rows = await asyncio.gather(_known_at(reader), reader.run("stocks", {}, 1000))
    sites: dict[str, list[Row]] = {}
    for row in rows:
        sites.setdefault(str(row["site"]), []).append(row)
    documents: list[Document] = []
    for site, parts in sites.items():
        known = all(part["known"] for part in parts)
        total = sum(int(part["mass_kg"]) for part in parts)
        order = sorted(
            parts, key=lambda part: COLOUR_ORDER.index(part["commodity"]) if part["commodity"] in COLOUR_ORDER else 99
        )
        documents.append(
            {
                "site": site,
                "name": names.sites.get(site, site),
                "mass_kg": total if known else None,
                "change_kg": total,
                "parts": [
                    {
                        "code": part["commodity"],
                        "name": name_of("commodity", part["commodity"], reader.language),
                        "kg": int(part["mass_kg"]),
                    }
                    for part in order
                ]
                if known
                else [],
            }
        )
    documents.sort(key=lambda d: (d["mass_kg"] is None, -(d["mass_kg"] or 0), d["site"]))
    shown = documents
    if len(documents) > STOCK_SITES:
        # Places are kept for sites whose stock is unknown: a screen that hides them looks complete.
        unknown = [d for d in documents if d["mass_kg"] is None][: STOCK_SITES // 4]
        shown = [d for d in documents if d["mass_kg"] is not None][: STOCK_SITES - len(unknown)] + unknown
    return {"known_at": known_at, "rows": shown, "more": len(documents) - len(shown)}


async def load(reader: Reader, names: Names, wish: str) -> Document:
    """Average load of one meter (``wish``, else the first electricity meter) in 15-minute slots over the last 24 hours."""
    meters = await reader.run("meters", {}, 1000)
    order = sorted(meters, key=lambda m: (m.get("quantity") != "electricity", str(m["meter"])))
    known = {str(meter["meter"]): meter for meter in order}
    chosen = wish if wish in known else next(iter(known), "")
    slot_ms = LOAD_SLOT_MINUTES * 60_000
    start = reader.now_ms - reader.now_ms % slot_ms - DAY_MS
    rows: list[Row] = []
    if chosen:
        slots = {"meter": chosen, "from": start, "slot": LOAD_SLOT_MINUTES}
        rows = await reader.run("load-curves", slots, 1000)
    rows = [row for row in rows if row.get("flow", "import") == "import"]
    rows.sort(key=lambda row: row["start"])
    unit = str(rows[0]["unit"]) if rows else ""
    return {
        "known_at": await _known_at(reader),
        "meter": chosen,
        "name": names.meters.get(chosen, chosen),
        "meters": [{"meter": meter, "name": names.meters.get(meter, meter)} for meter in known],
        # An average of kilowatt hours per hour is a power; other quantities keep "per hour".
        "unit": "kW" if unit == "kWh" else f"{name_of('unit', unit, reader.language)}/h" if unit else "",
        "from": start,
        "to": reader.now_ms,
        "points": [[_ms(row["start"]), _ms(row["end"]), _plain(row["average"])] for row in rows],
    }


def _plain(value: object) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)


async def warnings(reader: Reader, names: Names, wish: str) -> Document:
    """Open warnings, the most severe first, then the newest, with their sentences."""
    rank = {"high": 0, "medium": 1, "low": 2}
    known_at, found = await asyncio.gather(_known_at(reader), _open_warnings(reader))
    rows = sorted(found, key=lambda row: (rank.get(row["severity"], 3), -(_ms(row["since"]) or 0)))
    documents = []
    for row in rows[:WARNINGS_SHOWN]:
        title, text = warning_text(row["code"], row["parameters"] or {}, reader.language, warning_place(row, names))
        site = names.sites.get(row.get("site") or "", row.get("site") or "")
        documents.append(
            {
                "warning": row["warning"],
                "severity": row["severity"],
                "severity_name": name_of("severity", row["severity"], reader.language),
                "title": f"{title} · {site}" if site else title,
                "text": text,
                "since": _ms(row["since"]),
                "href": f"/warnings?warning={row['warning']}",
            }
        )
    return {"known_at": known_at, "now": reader.now_ms, "rows": documents, "more": len(rows) - len(documents)}


def warning_place(row: Row, names: Names) -> dict[str, object]:
    """What a warning's sentence may name beside its parameters: subject, since, its place and where a load went."""
    subject = str(row.get("subject") or "")
    site = str(row.get("site") or "")
    parameters = row.get("parameters") or {}
    to, destination = parameters.get("to", ""), parameters.get("destination", "")
    return {
        "subject": names.devices.get(subject) or names.meters.get(subject) or names.sites.get(subject) or subject,
        "since": row.get("since"),
        "place": names.sites.get(site, site),
        "to_place": names.sites.get(to, to),
        "destination_place": names.divisions.get(destination, destination),
    }


async def weighings(reader: Reader, names: Names, wish: str) -> Document:
    """The newest crossings of scales."""
    rows = await reader.run("weighings", {}, WEIGHINGS_SHOWN)
    return {
        "known_at": max((_ms(row["known_at"]) or 0 for row in rows), default=None),
        "now": reader.now_ms,
        "rows": [
            {
                "id": f"{row['source']} {row['id']}",
                "time": _ms(row["time"]),
                "plate": row["plate"],
                "mass_kg": row["mass_kg"],
                "site": row["site"],
                "site_name": names.sites.get(row["site"], row["site"]),
                "commodity": row["commodity"],
                "commodity_name": name_of("commodity", row["commodity"], reader.language) if row["commodity"] else None,
            }
            for row in rows
        ],
    }


async def labels(reader: Reader, names: Names, wish: str) -> Document:
    """Names that rows of the live line are shown with."""
    return {
        "sites": dict(names.sites),
        "commodity": {code: name_of("commodity", code, reader.language) for code in COLOUR_ORDER},
    }


def day_text(now_ms: int) -> str:
    """The day in Asia/Shanghai, ``2026-03-01``."""
    return datetime.fromtimestamp(now_ms / 1000, ZONE).strftime("%Y-%m-%d")


PanelFunction: TypeAlias = Callable[[Reader, Names, str], Awaitable[Document]]

PANELS: Mapping[str, PanelFunction] = {
    "overview": overview,
    "hours": hours,
    "districts": districts,
    "warnings": warnings,
    "weighings": weighings,
    "stocks": stocks,
    "load": load,
    "labels": labels,
}
"""``GET /screen/{panel}``. A new panel is one line here and one in the template."""


@dataclass(slots=True)
class _Making:
    """One making: its task, and until when (loop time) what it gave is fresh; infinite while it is under way."""

    task: asyncio.Task[Any]
    fresh_until: float = float("inf")


class Shared:
    """One making for all who ask for the same thing; askers wait for a making under way.

    What was made serves for ``fresh_s`` seconds, and for as long as its making took where that is longer: a warehouse that
    is slow is asked less often, however many look. A failed making is not kept. Entries are few (panels, languages, scopes,
    meters); beyond ``most`` the oldest goes.
    """

    def __init__(self, fresh_s: float = 1.0, most: int = 256) -> None:
        self._fresh_s = fresh_s
        self._most = most
        self._held: dict[tuple[object, ...], _Making] = {}

    async def get(self, key: tuple[object, ...], make: Callable[[], Awaitable[Any]], fresh_s: float | None = None) -> Any:
        """What ``make`` gave. Raises what it raised."""
        loop = asyncio.get_running_loop()
        held = self._held.get(key)
        if held is None or loop.time() >= held.fresh_until:
            began = loop.time()
            made = _Making(loop.create_task(_run(make)))

            def done(task: asyncio.Task[Any]) -> None:
                now = loop.time()
                made.fresh_until = now + max(self._fresh_s if fresh_s is None else fresh_s, now - began)
                if (task.cancelled() or task.exception() is not None) and self._held.get(key) is made:
                    del self._held[key]

            made.task.add_done_callback(done)
            self._held.pop(key, None)
            self._held[key] = held = made
            while len(self._held) > self._most:
                self._held.pop(next(iter(self._held)))
        # Shielded: one client that goes away does not take the answer from the others.
        return await asyncio.shield(held.task)


async def _run(make: Callable[[], Awaitable[Any]]) -> Any:
    return await make()
