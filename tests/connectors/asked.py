"""What a platform's tables say of loaded files, asked over HTTP in the form of ``tests.connectors.recount``."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx

__all__ = ["consumption", "declared_loads", "differences", "hours", "items", "passages", "positions", "warnings"]

EVER = {"from": "1999-01-01T00:00:00Z", "to": "2021-12-31T23:59:59Z"}


async def items(client: httpx.AsyncClient, path: str, **parameters: Any) -> list[dict[str, Any]]:
    """All pages of a read."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        answer = await client.get(path, params={**parameters, "limit": 1000, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, (path, parameters, answer.status_code, answer.text)
        page = answer.json()
        found += page["items"]
        cursor = page["next"]
        if not cursor:
            return found


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


async def consumption(client: httpx.AsyncClient, site: str) -> dict[str, Decimal]:
    """Total per meter of a site, over all days."""
    total: dict[str, Decimal] = defaultdict(Decimal)
    for row in await items(client, "/v1/load-curves", slot=1440, site=site, **EVER):
        total[row["meter"]] += Decimal(row["amount"])
    return dict(total)


async def hours(client: httpx.AsyncClient, meter: str) -> dict[datetime, Decimal]:
    """Consumption per hour of one meter."""
    found = await items(client, "/v1/load-curves", slot=60, meter=meter, **EVER)
    return {_utc(row["start"]): Decimal(row["amount"]) for row in found}


async def positions(client: httpx.AsyncClient) -> Counter[tuple[str, datetime, Decimal, Decimal]]:
    """Fixes of the trucks of the file."""
    found = await items(client, "/v1/events/vehicle.located", site="real-jersey-city", **EVER)
    return Counter((r["plate"], _utc(r["time"]), Decimal(r["latitude"]), Decimal(r["longitude"])) for r in found)


async def passages(client: httpx.AsyncClient) -> Counter[tuple[str, datetime, str | None]]:
    """Passages of the gate of the file."""
    found = await items(client, "/v1/events/gate.passed", site="real-blantyre", **EVER)
    return Counter((r["terminal"], _utc(r["time"]).replace(microsecond=0), r["load_origin"]) for r in found)


async def declared_loads(client: httpx.AsyncClient) -> dict[str, tuple[int, int]]:
    """Vehicle class to (loads, kg)."""
    total: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for row in await items(client, "/v1/events/load.declared", site="real-metro", **EVER):
        loads, mass = total[row["vehicle_class"]]
        total[row["vehicle_class"]] = (loads + 1, mass + row["net_kg"])
    return dict(total)


async def warnings(client: httpx.AsyncClient, site: str) -> Counter[tuple[str, str]]:
    """(subject, code) of what is found in the registers of a site. What a detector makes of the load is a matter of judgement
    (docs/detection.md), which no recomputation from the file can confirm."""
    found = await items(client, "/v1/warnings", site=site)
    return Counter((row["subject"], row["code"]) for row in found if row["code"] != "series-anomaly")


def differences(name: str, file: Mapping[Any, Any], platform: Mapping[Any, Any]) -> list[str]:
    """What differs, the first five and how many."""
    wrong = sorted((k for k in {*file, *platform} if file.get(k) != platform.get(k)), key=str)
    listed = [f"{name} {k}: file {file.get(k)}, platform {platform.get(k)}" for k in wrong[:5]]
    return [*listed, f"{name}: {len(wrong)} of {len({*file, *platform})} differ"] if wrong else []
