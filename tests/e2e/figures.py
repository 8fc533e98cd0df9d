"""Every figure that a page shows, asked over HTTP and compared with the simulator's own ledger."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx

from hengliu.events.envelope import iso_ms
from simulator.ledger import Balance

__all__ = ["differences", "settled"]

FACTORS = {
    ("kWh", "electricity"): Decimal(1), ("L", "water"): Decimal("0.001"), ("m3", "water"): Decimal(1),
    ("m3", "gas"): Decimal(1), ("GJ", "heat"): Decimal(1), ("MJ", "heat"): Decimal("0.001"),
    ("kWh", "heat"): Decimal("0.0036"), ("t", "steam"): Decimal(1), ("kg", "steam"): Decimal("0.001"),
}  # fmt: skip
"""Sent unit to the unit of the tables. Written out here again: the operators' own table is what is under test."""


async def items(client: httpx.AsyncClient, path: str, **parameters: Any) -> list[dict[str, Any]]:
    """All pages of a read."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query = {**parameters, "limit": 1000, **({"cursor": cursor} if cursor else {})}
        answer = await client.get(path, params=query)
        assert answer.status_code == 200, (path, query, answer.status_code, answer.text)
        page = answer.json()
        found += page["items"]
        cursor = page["next"]
        if not cursor:
            return found


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _compare(name: str, mine: Mapping[Any, Any], theirs: Mapping[Any, Any]) -> list[str]:
    keys = {*mine, *theirs}
    wrong = sorted((k for k in keys if mine.get(k) != theirs.get(k)), key=str)
    return [f"{name} {k}: ledger {mine.get(k)}, platform {theirs.get(k)}" for k in wrong[:5]] + (
        [f"{name}: {len(wrong)} of {len(keys)} differ"] if wrong else []
    )


async def differences(client: httpx.AsyncClient, balance: Balance, start: int, until: int) -> list[str]:
    """What the platform shows otherwise than the ledger; empty when all is equal."""
    span = {"from": iso_ms(start - 86_400_000), "to": iso_ms(until + 86_400_000)}
    return [
        *await _flows(client, balance, span),
        *await _tickets(client, balance, span),
        *await _shipments(client, balance, span),
        *await _stocks(client, balance),
        *await _overloads(client, balance, span),
        *await _consumption(client, balance, span),
        *await _counts(client, balance, span),
    ]


async def _flows(client: httpx.AsyncClient, balance: Balance, span: Mapping[str, str]) -> list[str]:
    mine: dict[Any, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for (hour, enterprise, _, division, direction, commodity, use, origin, destination), (
        net,
        tickets,
    ) in balance.flows.items():
        key = (hour, enterprise, division, direction, commodity, use, origin or None, destination or None)
        mine[key] = (mine[key][0] + net, mine[key][1] + tickets)
    group = "hour,enterprise,division,direction,commodity,use,origin,destination"
    theirs = {
        (
            _ms(r["start"]),
            r["enterprise"],
            r["division"],
            r["direction"],
            r["commodity"],
            r["use"],
            r["origin"],
            r["destination"],
        ): (
            r["net_kg"],
            r["tickets"],
        )
        for r in await items(client, "/v1/flows", group=group, **span)
    }
    return _compare("flow", mine, theirs)


async def _tickets(client: httpx.AsyncClient, balance: Balance, span: Mapping[str, str]) -> list[str]:
    mine = {(t.plate, t.site, t.gross_time): (t.gross_kg, t.tare_kg, t.direction) for t in balance.tickets}
    theirs = {
        (r["plate"], r["site"], _ms(r["gross_time"])): (r["gross_kg"], r["tare_kg"], r["direction"])
        for r in await items(client, "/v1/tickets", **span)
    }
    return _compare("ticket", mine, theirs)


async def _shipments(client: httpx.AsyncClient, balance: Balance, span: Mapping[str, str]) -> list[str]:
    """Both ends of every load in one row; and of an ordinary city no load and no position is suspected."""
    mine: dict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
    for t in balance.tickets:
        mine[t.waybill][t.direction] = (t.site, t.net_kg)
    ends = {waybill: (found.get("out"), found.get("in")) for waybill, found in mine.items()}
    theirs = {
        r["shipment"]: (
            (r["loaded_site"], r["loaded_kg"]) if r["loadings"] else None,
            (r["unloaded_site"], r["unloaded_kg"]) if r["unloaded_kg"] is not None else None,  # not who was never weighed empty
        )
        for r in await items(client, "/v1/shipments", **span)
    }
    suspected = {
        (r["code"], r["subject"], r["since"]): "raised"
        for r in await items(client, "/v1/warnings", **span)
        if r["code"].startswith("shipment-") or r["code"] == "position-contradiction"
    }
    return [*_compare("shipment", ends, theirs), *_compare("suspected", {}, suspected)]


async def _stocks(client: httpx.AsyncClient, balance: Balance) -> list[str]:
    theirs = {(r["site"], r["commodity"]): r["mass_kg"] for r in await items(client, "/v1/stocks") if r["known"]}
    return _compare("stock", balance.stock, theirs)


async def _overloads(client: httpx.AsyncClient, balance: Balance, span: Mapping[str, str]) -> list[str]:
    mine = {(o.plate, o.site, o.time): o.mass_kg for o in balance.overloads}
    theirs = {
        (r["subject"], r["site"], _ms(r["since"])): int(r["parameters"]["gross_kg"])
        for r in await items(client, "/v1/warnings", **span)
        if r["code"] == "overload"
    }
    return _compare("overload", mine, theirs)


async def _consumption(client: httpx.AsyncClient, balance: Balance, span: Mapping[str, str]) -> list[str]:
    mine: dict[Any, Decimal] = defaultdict(Decimal)
    for c in balance.consumption:
        mine[c.meter, c.flow] += Decimal(c.amount).scaleb(-c.decimals) * FACTORS[c.unit, c.quantity]
    theirs: dict[Any, Decimal] = defaultdict(Decimal)
    for r in await items(client, "/v1/load-curves", slot=1440, **span):
        theirs[r["meter"], r["flow"]] += Decimal(r["amount"])
    return _compare("consumption", mine, theirs)


async def _counts(client: httpx.AsyncClient, balance: Balance, span: Mapping[str, str]) -> list[str]:
    theirs = {"weighings": len(await items(client, "/v1/weighings", **span))}
    return _compare("count", {"weighings": balance.weighings}, theirs)


async def settled(
    client: httpx.AsyncClient, balance: Callable[[], Balance], start: int, until: int, timeout_s: float = 90
) -> list[str]:
    """Differences once they are gone, or those that are left after the time."""
    deadline = time.monotonic() + timeout_s
    while True:
        left = await differences(client, balance(), start, until)
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(1)
