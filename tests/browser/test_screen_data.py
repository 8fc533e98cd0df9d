"""Panel documents and the shared makings behind them, without a browser."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.screen import Names, Reader, Shared, districts, hours, read_names, stocks
from tests.browser.stage import Recorded

NOW = 1_772_331_000_000
"""2026-03-01 10:10 in Asia/Shanghai."""


def reader(rows: Mapping[str, list[dict[str, Any]]], language: str = "zh") -> Reader:
    async def run(name: str, parameters: Mapping[str, object], limit: int) -> list[dict[str, Any]]:
        return rows.get(name, [])

    return Reader(run, NOW, language)


def pane(hour: datetime, division: str, direction: str, kilograms: int, commodity: str = "raw") -> dict[str, Any]:
    return {"start": hour, "division": division, "direction": direction, "commodity": commodity, "net_kg": kilograms}


MIDNIGHT = datetime(2026, 2, 28, 16, tzinfo=UTC)


async def test_today_begins_at_midnight_in_shanghai() -> None:
    rows = {
        "flows": [
            pane(MIDNIGHT - timedelta(hours=1), "150302", "out", 1_000),
            pane(MIDNIGHT, "150302", "out", 20_000),
            pane(MIDNIGHT + timedelta(hours=2), "150302", "out", 3_000),
        ]
    }
    document = await districts(reader(rows), Names(divisions={"150302": "海勃湾区"}, inside=("150302", "150303")), "")
    assert document["day"] == "2026-03-01"
    assert [(r["division"], r["in_kg"], r["out_kg"]) for r in document["rows"]] == [
        ("150302", None, 23_000),
        ("150303", None, None),
    ]


async def test_an_hour_without_tickets_is_null_and_not_zero() -> None:
    rows = {
        "flows": [pane(MIDNIGHT, "150302", "out", 20_000), pane(MIDNIGHT, "150303", "out", 5), pane(MIDNIGHT, "1", "in", 9)]
    }
    document = await hours(reader(rows), Names(), "")
    (series,) = document["series"]
    assert len(document["hours"]) == 24
    assert document["hours"][-1] == NOW - NOW % 3_600_000
    assert [kg for kg in series["kg"] if kg is not None] == [20_005]


async def test_a_site_is_known_only_when_all_of_it_is() -> None:
    rows = {
        "stocks": [
            {"site": "a", "commodity": "raw", "mass_kg": 5, "known": True},
            {"site": "a", "commodity": "coke", "mass_kg": 7, "known": True},
            {"site": "b", "commodity": "raw", "mass_kg": 100, "known": True},
            {"site": "b", "commodity": "coke", "mass_kg": -3, "known": False},
        ]
    }
    document = await stocks(reader(rows), Names(), "")
    assert [(r["site"], r["mass_kg"], r["change_kg"]) for r in document["rows"]] == [("a", 12, 12), ("b", None, 97)]


async def test_names_follow_the_language_and_meters_are_told_apart() -> None:
    recorded = Recorded()

    async def run(name: str, parameters: Mapping[str, object], limit: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = getattr(recorded, name)(parameters)
        return [*rows, {"meter": "em-m01-2", "site": "m01", "quantity": "electricity"}] if name == "meters" else rows

    chinese = await read_names(Reader(run, NOW, "zh"))
    english = await read_names(Reader(run, NOW, "en"))
    assert chinese.city == "乌海市"
    assert english.divisions["150302"] == "Haibowan"
    assert "150300" not in english.inside
    assert english.meters["em-p01-1"] == "Haibowan power station · Electricity"
    assert english.meters["em-m01-2"] == "Qipanjing No. 1 mine · Electricity (em-m01-2)"
    assert english.devices["urn:dev:org:32473-wb-m01-1"] == "Weighbridge wb-m01-1"


class Making:
    def __init__(self) -> None:
        self.made = 0
        self.fails = False

    async def make(self) -> int:
        self.made += 1
        number = self.made
        await asyncio.sleep(0.05)
        if self.fails:
            raise RuntimeError("away")
        return number


async def test_many_askers_share_one_making_and_a_slow_one_serves_as_long_as_it_took() -> None:
    making, shared = Making(), Shared(fresh_s=0.0)
    assert await asyncio.gather(*(shared.get(("a",), making.make) for _ in range(50))) == [1] * 50
    assert await shared.get(("a",), making.make) == 1, "it took 50 ms and serves 50 ms"
    await asyncio.sleep(0.08)
    assert await shared.get(("a",), making.make) == 2
    assert await shared.get(("b",), making.make) == 3


async def test_one_asker_that_leaves_takes_nothing_from_the_others() -> None:
    making, shared = Making(), Shared()
    leaver = asyncio.create_task(shared.get(("a",), making.make))
    stayer = asyncio.create_task(shared.get(("a",), making.make))
    await asyncio.sleep(0.01)
    leaver.cancel()
    assert await stayer == 1


async def test_a_failed_making_is_not_kept() -> None:
    making, shared = Making(), Shared(fresh_s=60)
    making.fails = True
    with pytest.raises(RuntimeError):
        await shared.get(("a",), making.make)
    making.fails = False
    assert await shared.get(("a",), making.make) == 2
