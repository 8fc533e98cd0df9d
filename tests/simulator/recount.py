"""A second opinion on the simulator's ledger, from the bytes that were sent alone.

Written from docs/simulator.md, not from any operator and not from the ledger: it parses every event with the families' models,
keeps what is accepted, and pairs, differences and sums naively over whole lists. Slow and simple on purpose.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from hengliu.events.catalog import Catalog
from hengliu.events.envelope import ms_of
from hengliu.events.family import Writer
from simulator.wire import Sent

DAY = 86_400_000
CATALOG = Catalog()


def parse_time(text: str) -> int:
    return ms_of(datetime.fromisoformat(text))


class Desk:
    """Answers each event as the platform's contract says: accepted, duplicate or refused."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], Any] = {}
        self.accepted: list[dict[str, Any]] = []

    def answer(self, body: bytes) -> str:
        event = json.loads(body)
        if not isinstance(event, dict) or event.get("specversion") != "1.0":
            return "refused"
        family = CATALOG.families.get(event.get("type", ""))
        if family is None or family.writer is not Writer.DEVICE:
            return "refused"
        try:
            event["ms"] = parse_time(event["time"])
            family.data.model_validate_json(json.dumps(event["data"]))
        except (ValidationError, ValueError):
            return "refused"
        key = (event["source"], event["id"])
        if key in self.seen:
            return "duplicate" if self.seen[key] == event else "refused"
        self.seen[key] = event
        self.accepted.append(event)
        return "accepted"

    def answer_all(self, sent: Iterable[Sent]) -> list[str]:
        return [self.answer(s.body) for s in sent]


def tickets(
    events: Iterable[dict[str, Any]], site_of: dict[str, str], until: int, tares: dict[str, int | None]
) -> list[dict[str, Any]]:
    """Pair crossings by plate and site in the order of event time.

    Args:
        events: accepted events, in any order.
        site_of: source to site.
        until: 24 h of an open crossing are over at this instant.
        tares: plate to the registered tare, None where it must not be used.
    """
    crossings: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event["type"] == "weighing.measured":
            crossings[event["data"]["plate"], site_of[event["source"]]].append(event)
    found = []

    def ticket(site: str, gross: dict[str, Any], tare_kg: int, tare_ms: int | None) -> None:
        data = gross["data"]
        out = tare_ms is not None and tare_ms < gross["ms"]
        found.append({"plate": data["plate"], "site": site, "direction": "out" if out else "in", "gross_kg": data["mass_kg"],
                      "gross_time": gross["ms"], "tare_kg": tare_kg, "tare_time": tare_ms, "commodity": data["commodity"],
                      "use": data["use"], "origin": data["origin"], "destination": data["destination"],
                      "waybill": data["waybill"]})  # fmt: skip

    for (plate, site), visits in crossings.items():
        waiting: dict[str, Any] | None = None
        for crossing in sorted(visits, key=lambda e: e["ms"]):
            if waiting is not None and crossing["ms"] - waiting["ms"] > DAY:
                if tares[plate] is not None:
                    ticket(site, waiting, tares[plate] or 0, None)
                waiting = None
            if waiting is None:
                waiting = crossing
                continue
            a, b = waiting["data"]["mass_kg"], crossing["data"]["mass_kg"]
            if abs(a - b) < 100 and crossing["ms"] - waiting["ms"] <= 600_000:
                waiting = crossing
                continue
            gross, tare = (waiting, crossing) if a > b else (crossing, waiting)
            ticket(site, gross, tare["data"]["mass_kg"], tare["ms"])
            waiting = None
        if waiting is not None and waiting["ms"] + DAY <= until and tares[plate] is not None and "commodity" in waiting["data"]:
            ticket(site, waiting, tares[plate] or 0, None)
    return found


def stock(
    events: Iterable[dict[str, Any]], found: Iterable[dict[str, Any]], roles: dict[str, tuple[str, str]]
) -> dict[tuple[str, str], int]:
    """Book stock: the last survey, then belts and tickets after it. ``roles``: belt to (site, role)."""
    events = list(events)
    book: dict[tuple[str, str], tuple[int, int]] = {}
    for e in events:
        if e["type"] == "stock.surveyed":
            key = (e["data"]["site"], e["data"]["commodity"])
            if key not in book or book[key][0] < e["ms"]:
                book[key] = (e["ms"], e["data"]["mass_kg"])
    sums = {key: kg for key, (_, kg) in book.items()}
    belts: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for e in events:
        if e["type"] == "belt.metered":
            belts[e["data"]["belt"]].append((e["ms"], e["data"]["total_kg"], e["data"]["commodity"]))
    for belt, readings in belts.items():
        site, role = roles[belt]
        readings.sort()
        for (_, before, _), (ms, total, commodity) in pairwise(readings):
            if ms > book[site, commodity][0]:
                sums[site, commodity] += (total - before) * (1 if role == "produced" else -1)
    for t in found:
        key = (t["site"], t["commodity"])
        if t["gross_time"] > book[key][0]:
            sums[key] += (t["gross_kg"] - t["tare_kg"]) * (1 if t["direction"] == "in" else -1)
    return sums


def consumption(events: Iterable[dict[str, Any]], digits: dict[str, int]) -> dict[str, dict[tuple[int, int], Decimal]]:
    """Meter to interval to amount; a fall to zero is a new register, another fall of one of known digits a wrap."""
    amounts: dict[str, dict[tuple[int, int], Decimal]] = defaultdict(dict)
    registers: dict[str, list[tuple[int, Decimal]]] = defaultdict(list)
    for e in events:
        if e["type"] != "meter.read":
            continue
        data = e["data"]
        if data["reading"] == "interval":
            amounts[data["meter"]][parse_time(data["start"]), parse_time(data["end"])] = Decimal(data["value"])
        else:
            registers[data["meter"]].append((e["ms"], Decimal(data["value"])))
    for meter, readings in registers.items():
        readings.sort()
        for (start, before), (end, after) in pairwise(readings):
            if after == 0 and before != 0:
                continue
            step = after - before
            if step < 0 and meter in digits:
                step += 10 ** digits[meter]
            amounts[meter][start, end] = step
    return amounts
