"""Every named query on both engines, with answers computed by hand."""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hengliu.events.catalog import Catalog
from hengliu.events.envelope import ms_of
from hengliu.ports.log import Record
from hengliu.ports.warehouse import Warehouse
from hengliu.rights import Scope
from projections.catalog import tables
from projections.migrate import migrate
from projections.queries import ERRORS, QUERIES, NamedQuery, QueryError, ScopeColumns, family_query, run_query
from projections.table import MAX_TIME_MS, MIN_TIME_MS
from tests.contract.warehouse_support import ENGINES, engine_of
from tests.projections.support import HOUR, T0, event, put, weighing

ALL = Scope(everything=True)
DAY = 24 * HOUR
MINUTE = 60_000


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


@pytest.fixture(scope="module", params=ENGINES)
def migrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """One migrated warehouse an engine: making twenty tables takes longer than most of the tests."""
    engine = engine_of(request, tmp_path_factory.mktemp("warehouse"))

    async def begin() -> Warehouse:
        opened = await engine.open()
        await migrate(opened, tables(Catalog()))
        return opened

    yield asyncio.run(begin())
    asyncio.run(engine.close())


@pytest.fixture
async def warehouse(migrated: Warehouse) -> Warehouse:
    """Its tables, empty."""
    filled = await migrated.query(
        "SELECT name AS name FROM system.tables"
        " WHERE database = currentDatabase() AND total_rows > 0 AND name != 'schema_migration'"
    )
    for (name,) in filled.rows:
        await migrated.execute(f"TRUNCATE TABLE {name}")
    return migrated


@pytest.fixture
def nowhere() -> Warehouse:
    """A warehouse that must not be asked."""

    class Nowhere:
        async def query(self, sql: str, parameters: object = None) -> Any:
            raise AssertionError(f"asked: {sql}")

    return cast("Warehouse", Nowhere())


async def ask(warehouse: Warehouse, name: str, scope: Scope = ALL, **parameters: Any) -> list[dict[str, Any]]:
    """All rows of a named query; ``from_`` stands for ``from``."""
    given = {k.rstrip("_"): v for k, v in parameters.items()}
    return (await run_query(warehouse, QUERIES[name], scope, {"now": T0, **given}, None, 1000)).rows


M01 = ("m01", "m01", "150303")
M02 = ("m02", "m02", "150302")


def flow(
    id_: str, start: int, net: int, *, scope: tuple[str, str, str] = M01, tickets: int = 1, known_at: int = 0, **more: str
) -> Record:
    enterprise, site, division = scope
    data: dict[str, Any] = {"enterprise": enterprise, "site": site, "division": division, "start": at(start).isoformat()}
    data |= {"direction": "out", "commodity": "raw", "use": "power", "net_kg": net, "tickets": tickets, **more}
    return event("flow.summed", id_, start, data, scope=scope, source="/streams/flows", received=start, known_at=known_at)


def consumption(
    id_: str, start: int, end: int, amount: str, *, meter: str = "em-1", corrects: str = "", known_at: int = 0, **more: str
) -> Record:
    data = {"enterprise": "m01", "site": "m01", "division": "150303", "meter": meter, "quantity": "electricity"}
    data |= {"start": at(start).isoformat(), "end": at(end).isoformat(), "amount": amount, "unit": "kWh", "reading": "register"}
    extra: dict[str, Any] = {"corrects": corrects} if corrects else {}
    return event(
        "consumption.recorded", id_, end, {**data, **more}, source="/streams/meters", received=end, known_at=known_at, **extra
    )


def stock(id_: str, delta: int, reason: str, *, scope: tuple[str, str, str] = M01, known_at: int = T0) -> Record:
    enterprise, site, division = scope
    data = {"enterprise": enterprise, "site": site, "division": division, "commodity": "raw", "delta_kg": delta}
    data |= {"reason": reason, "start": at(T0).isoformat()}
    return event("stock.moved", id_, T0, data, scope=scope, source="/streams/stock", known_at=known_at)


def warning(change: str, id_: str, warning_id: str, time: int, *, scope: tuple[str, str, str] = M01, **more: Any) -> Record:
    enterprise, site, division = scope
    data: dict[str, Any] = {"warning": warning_id, "code": "overload", "severity": "high", "subject": "蒙C12345"}
    data |= {"enterprise": enterprise, "site": site, "division": division, "parameters": {"gross_kg": "52300"}}
    data |= {"rule": "overload", "rule_version": 1, "since": at(T0).isoformat(), **more}
    return event(f"warning.{change}", id_, time, data, scope=scope, source="/streams/overload", known_at=time)


def registered(what: str, id_: str, known_at: int = T0, /, **data: Any) -> Record:
    return event(f"{what}.registered", id_, T0, data, scope=("", "", ""), source="/aggregates/registry", received=known_at)


REGISTRY = [
    registered("district", "d1", division="150303", name="海南区", name_en="Hainan"),
    registered("district", "d2", division="150302", name="海勃湾区", name_en="Haibowan"),
    registered("district", "d3", division="610100", name="西安市", inside=False),
    registered("enterprise", "e1", enterprise="m01", name="甲矿", kind="mine", division="150303"),
    registered("enterprise", "e2", enterprise="m02", name="乙矿", kind="mine", division="150302"),
    registered("site", "s1", site="m01", enterprise="m01", name="甲矿场", name_en="A", division="150303", kind="mine"),
    registered("site", "s2", site="m02", enterprise="m02", name="乙矿场", division="150302", kind="mine", latitude="39.5"),
    registered("device", "v1", device="wb-m01-1", source="urn:dev:org:32473-wb-m01-1", kind="weighbridge", site="m01"),
    registered(
        "device", "v2", device="em-1", source="urn:dev:org:32473-em-1", kind="meter", site="m01", quantity="electricity"
    ),
    registered("device", "v3", device="em-2", source="urn:dev:org:32473-em-2", kind="meter", site="m02", quantity="water"),
    registered("vehicle", "p1", plate="蒙C12345", kind="combination", axles=6, tare_kg=15_300),
]


async def test_weighings_newest_first_with_filters(warehouse: Warehouse) -> None:
    await put(
        warehouse,
        [
            weighing(1, T0 - HOUR, 48_920, axles=6, commodity="raw", use="power"),
            weighing(2, T0, 15_300, "蒙C2", scope=M02),
            weighing(3, T0 - 8 * DAY, 1),
        ],
    )
    rows = await ask(warehouse, "weighings")
    assert [row["id"] for row in rows] == ["2", "1"]
    assert rows[1] == {
        "id": "1", "source": "urn:dev:org:32473-wb-m01-1", "time": at(T0 - HOUR), "known_at": at(T0 - HOUR + 1000),
        "plate": "蒙C12345", "mass_kg": 48_920, "axles": 6, "commodity": "raw", "use": "power", "enterprise": "m01",
        "site": "m01", "division": "150303",
    }  # fmt: skip
    assert (rows[0]["axles"], rows[0]["commodity"]) == (None, None)
    assert [r["id"] for r in await ask(warehouse, "weighings", plate="蒙C2,none")] == ["2"]
    assert [r["id"] for r in await ask(warehouse, "weighings", enterprise="m01")] == ["1"]
    assert [r["id"] for r in await ask(warehouse, "weighings", division="150302")] == ["2"]
    assert [r["id"] for r in await ask(warehouse, "weighings", division="150300")] == ["2", "1"]
    assert [r["id"] for r in await ask(warehouse, "weighings", commodity="raw")] == ["1"]
    assert await ask(warehouse, "weighings", plate="x' OR 1=1 --") == []


async def test_bounds_in_time(warehouse: Warehouse) -> None:
    midnight = 1_772_294_400_000  # 2026-02-28T16:00Z, the first instant of 1 March in Shanghai
    await put(warehouse, [weighing(i, t) for i, t in enumerate((midnight - 1, midnight, midnight + DAY - 1, midnight + DAY))])

    async def ids(**bounds: Any) -> list[str]:
        return sorted(r["id"] for r in await ask(warehouse, "weighings", **bounds))

    assert await ids(from_=midnight, to=midnight + DAY) == ["1", "2"]
    assert await ids(from_="2026-03-01", to="2026-03-01") == ["1", "2"]
    assert await ids(from_="2026-03-01T00:00:00+08:00", to="2026-02-28T16:00:00.001Z") == ["1"]
    assert await ids(from_=at(midnight + DAY)) == ["3"]
    assert await ids(to=midnight) == ["0"]
    assert await ids(to=midnight + 10 * DAY) == []  # a week before ``to``
    assert await ids(now=midnight + 8 * DAY) == ["3"]
    assert await ids(now=midnight + 9 * DAY) == []
    with pytest.raises(QueryError) as caught:
        await ids(from_=5, to=5)
    assert caught.value.code == "empty-range"


async def test_without_now_the_engine_s_clock_bounds(warehouse: Warehouse) -> None:
    await put(warehouse, [weighing(1, T0 - 400 * DAY * 10)])
    page = await run_query(warehouse, QUERIES["weighings"], ALL, {})
    assert page.rows == []
    assert len((await run_query(warehouse, QUERIES["weighings"], ALL, {"from": "2000-01-01"})).rows) == 1


async def test_times_at_both_ends_of_the_calendar_are_found(warehouse: Warehouse) -> None:
    """The weeks of the sorting key stay in order from 1900 to 2299."""
    moments = [MIN_TIME_MS, MIN_TIME_MS + 40 * DAY, -1, 0, T0, MAX_TIME_MS - 40 * DAY, MAX_TIME_MS - 1]
    await put(warehouse, [weighing(i, t, received=T0) for i, t in enumerate(moments)])
    for i, moment in enumerate(moments):
        found = await ask(warehouse, "weighings", from_=moment, to=moment + 1)
        assert [r["id"] for r in found] == [str(i)]
        assert len(await ask(warehouse, "weighings", from_=moment)) == len(moments) - i
    await put(warehouse, [consumption("1", T0, T0 + HOUR, "1", meter="m")])
    assert len(await ask(warehouse, "load-curves", from_=MIN_TIME_MS, slot=60)) == 1


async def test_as_of_shows_what_was_known(warehouse: Warehouse) -> None:
    await put(warehouse, [weighing(1, T0, received=T0 + 5), weighing(2, T0, received=T0 + 6)])
    assert [r["id"] for r in await ask(warehouse, "weighings", as_of=T0 + 5)] == ["1"]
    assert await ask(warehouse, "weighings", as_of=T0 + 4) == []


async def test_pages_follow_one_another_without_gap_or_repeat(warehouse: Warehouse) -> None:
    records = [weighing(i, T0 - (i // 3) * MINUTE, source=f"urn:dev:org:32473-{i % 2}") for i in range(20)]
    await put(warehouse, records)
    whole = await ask(warehouse, "weighings")
    for size in (1, 3, 19, 20, 21):
        got: list[dict[str, Any]] = []
        cursor = None
        pages = 0
        while True:
            page = await run_query(warehouse, QUERIES["weighings"], ALL, {"now": T0 + pages}, cursor, size)
            got += page.rows
            cursor, pages = page.next, pages + 1
            if cursor is None:
                break
        assert got == whole
        assert pages == -(-20 // size)


async def test_a_cursor_belongs_to_its_query_and_filters(warehouse: Warehouse) -> None:
    await put(warehouse, [weighing(i, T0) for i in range(3)])
    page = await run_query(warehouse, QUERIES["weighings"], ALL, {"now": T0}, None, 1)
    assert page.next
    for name, filters in (("tickets", {"now": T0}), ("weighings", {"now": T0, "plate": "x"}), ("overview", {"now": T0})):
        with pytest.raises(QueryError) as caught:
            await run_query(warehouse, QUERIES[name], ALL, filters, page.next, 1)
        assert caught.value.code == "bad-cursor"
    for bad in ("", "x", "é", "W10", page.next[:-3], page.next + "A"):
        with pytest.raises(QueryError):
            await run_query(warehouse, QUERIES["weighings"], ALL, {"now": T0}, bad, 1)


async def test_tickets(warehouse: Warehouse) -> None:
    data = {
        "enterprise": "m01", "site": "m01", "division": "150303", "plate": "蒙C12345", "direction": "out", "gross_kg": 48_920,
        "tare_kg": 15_300, "net_kg": 33_620, "gross_time": "2026-03-01T10:00:00+08:00", "tare_source": "register",
        "commodity": "raw", "use": "power", "origin": "150303",
    }  # fmt: skip
    await put(warehouse, [event("weighing.recorded", "t", T0, data, cause="a;b", operator="tickets", operatorversion=1)])
    [row] = await ask(warehouse, "tickets", plate="蒙C12345")
    assert (row["gross_kg"], row["tare_kg"], row["net_kg"]) == (48_920, 15_300, 33_620)
    assert (row["gross_time"], row["tare_time"]) == (at(T0), None)
    assert (row["origin"], row["destination"], row["cause"], row["corrects"]) == ("150303", None, "a;b", "")


async def test_tickets_of_the_hour_in_which_tonnage_counts_them(warehouse: Warehouse) -> None:
    """A truck in: weighed full at 10:50, empty at 11:20. Its ticket is of 11:20, its mass counts at 10."""
    gross = T0 + 50 * MINUTE
    data = {
        "enterprise": "m01", "site": "m01", "division": "150303", "plate": "蒙C12345", "direction": "in", "gross_kg": 48_920,
        "tare_kg": 15_300, "net_kg": 33_620, "gross_time": at(gross).isoformat(), "tare_source": "measured",
        "tare_time": at(gross + 30 * MINUTE).isoformat(), "commodity": "raw", "use": "power",
    }  # fmt: skip
    ticket = event("weighing.recorded", "t", gross + 30 * MINUTE, data, operator="tickets", operatorversion=1)
    await put(warehouse, [ticket, flow("f", T0, 33_620, direction="in")])
    [counted] = await ask(warehouse, "flows", group="hour", now=T0 + DAY)
    start = ms_of(counted["start"])
    hour: dict[str, Any] = {"gross_from": start, "gross_to": start + HOUR, "now": T0 + DAY}
    assert [r["net_kg"] for r in await ask(warehouse, "tickets", **hour)] == [counted["net_kg"]]
    assert await ask(warehouse, "tickets", from_=start, to=start + HOUR) == [], "its own time is the next hour's"
    assert await ask(warehouse, "tickets", gross_from=start + HOUR, now=T0 + DAY) == []
    assert len(await ask(warehouse, "tickets", gross_from="2026-03-01", gross_to="2026-03-01", now=T0 + DAY)) == 1


def leg(
    id_: str, stage: str, minute: int, net: int | None, scope: tuple[str, str, str], shipment: str = "W1", **more: Any
) -> Record:
    time = T0 + minute * MINUTE
    data: dict[str, Any] = {
        "enterprise": scope[0],
        "site": scope[1],
        "division": scope[2],
        "shipment": shipment,
        "stage": stage,
    }
    data |= {"plate": "蒙C12345", "ticket": f"t{id_}", "gross_kg": 48_000, "gross_time": at(time).isoformat(), "net_kg": net}
    return event("shipment.weighed", id_, time, {k: v for k, v in {**data, **more}.items() if v is not None}, scope=scope)


async def test_both_ends_of_a_shipment_are_one_row(warehouse: Warehouse) -> None:
    await put(
        warehouse,
        [
            leg("1", "loaded", 0, 33_000, M01, commodity="raw", destination="150302"),
            leg("2", "unloaded", 90, 31_000, M02, commodity="raw", plate="蒙C54321"),
            leg("3", "loaded", 5, 30_000, M01, "W2"),
            leg("4", "arrived", 95, None, M02, "W3", ticket=""),
        ],
    )  # fmt: skip
    names = ("shipment", "loaded_site", "loaded_kg", "unloaded_site", "unloaded_kg", "difference_kg", "loadings", "unloadings")
    rows = await ask(warehouse, "shipments", now=T0 + DAY)
    assert [tuple(r[n] for n in names) for r in rows] == [
        ("W3", None, None, "m02", None, None, 0, 1),
        ("W2", "m01", 30_000, None, None, None, 1, 0),
        ("W1", "m01", 33_000, "m02", 31_000, -2_000, 1, 1),
    ]
    first = rows[2]
    assert (first["loaded_at"], first["unloaded_at"]) == (at(T0), at(T0 + 90 * MINUTE))
    assert (first["loaded_plate"], first["unloaded_plate"], first["to_division"]) == ("蒙C12345", "蒙C54321", "150302")
    assert (first["loaded_ticket"], first["unloaded_ticket"]) == ("t1", "t2")
    # Whatever chooses a shipment, both ends of it are shown.
    for chosen in (
        {"plate": "蒙C54321"},
        {"site": "m02", "shipment": "W1"},
        {"from_": T0 + 60 * MINUTE, "to": T0 + 91 * MINUTE},
    ):
        assert [r["difference_kg"] for r in await ask(warehouse, "shipments", now=T0 + DAY, **chosen)] == [-2_000]
    # But only to who may see them.
    [mine] = await ask(warehouse, "shipments", Scope(False, frozenset({"m02"})), now=T0 + DAY, shipment="W1")
    assert (mine["loaded_kg"], mine["loaded_site"], mine["unloaded_kg"]) == (None, None, 31_000)


async def test_flows_add_deltas_and_group(warehouse: Warehouse) -> None:
    await put(
        warehouse,
        [
            flow("1", T0, 30_000),
            flow("2", T0, 20_000, known_at=T0 + 5),
            flow("3", T0, -20_000, tickets=-1, known_at=T0 + 9),
            flow("4", T0 + HOUR, 7_000, direction="in", origin="610100"),
            flow("5", T0, 5_000, scope=M02, commodity="coke", origin="150302"),
            flow("6", T0, 1_000, use="trade"),
            flow("7", T0, -1_000, use="trade", tickets=-1),
        ],
    )
    rows = await ask(warehouse, "flows")
    brief = [(r["start"], r["enterprise"], r["commodity"], r["direction"], r["net_kg"], r["tickets"]) for r in rows]
    assert brief == [
        (at(T0 + HOUR), "m01", "raw", "in", 7_000, 1),
        (at(T0), "m01", "raw", "out", 30_000, 1),
        (at(T0), "m02", "coke", "out", 5_000, 1),
    ]
    assert rows[0]["origin"] is None
    rows = await ask(warehouse, "flows", as_of=T0 + 5, group="hour")
    assert [(r["start"], r["net_kg"], r["enterprise"]) for r in rows] == [(at(T0), 55_000, None)]
    rows = await ask(warehouse, "flows", group="division")
    assert [(r["division"], r["net_kg"], r["start"]) for r in rows] == [("150302", 5_000, None), ("150303", 37_000, None)]
    await put(warehouse, REGISTRY)
    rows = await ask(warehouse, "flows", city="in", group="origin")
    assert [(r["origin"], r["net_kg"]) for r in rows] == [("610100", 7_000)]
    rows = await ask(warehouse, "flows", city="out", group="origin")
    assert [(r["origin"], r["net_kg"]) for r in rows] == [("150302", 5_000)]
    inside = {"division": "610100", "name": "西安市", "inside": True, "valid_from": at(T0).isoformat()}
    await put(warehouse, [registered("district", "d4", T0 + 2 * HOUR, **inside)])
    assert await ask(warehouse, "flows", city="in", group="origin") == []
    rows = await ask(warehouse, "flows", city="in", group="origin", as_of=T0 + HOUR)
    assert [(r["origin"], r["net_kg"]) for r in rows] == [("610100", 7_000)]
    rows = await ask(warehouse, "flows", from_=T0, to=T0 + HOUR, direction="out", group="use")
    assert [(r["use"], r["net_kg"]) for r in rows] == [("power", 35_000)]
    page = await run_query(warehouse, QUERIES["flows"], ALL, {"now": T0, "group": "hour,origin"}, None, 1)
    assert page.next
    rest = await run_query(warehouse, QUERIES["flows"], ALL, {"now": T0, "group": "hour,origin"}, page.next, 9)
    assert [(r["origin"], r["net_kg"]) for r in page.rows + rest.rows] == [("610100", 7_000), (None, 30_000), ("150302", 5_000)]


async def load(warehouse: Warehouse, **parameters: Any) -> list[tuple[int, int, str, str]]:
    rows = await ask(warehouse, "load-curves", **parameters)
    return [
        ((r["start"] - at(T0)).total_seconds() // 60, (r["end"] - r["start"]).total_seconds() // 60, str(r["amount"]),
         str(r["average"]))
        for r in rows
    ]  # fmt: skip


async def test_load_curve_of_intervals_that_fit_their_slots(warehouse: Warehouse) -> None:
    quarters = [consumption(str(i), T0 + i * 15 * MINUTE, T0 + (i + 1) * 15 * MINUTE, f"{i + 1}.5") for i in range(4)]
    await put(warehouse, quarters)
    assert await load(warehouse, from_=T0, slot=15) == [
        (0, 15, "1.500000", "6.000000"),
        (15, 15, "2.500000", "10.000000"),
        (30, 15, "3.500000", "14.000000"),
        (45, 15, "4.500000", "18.000000"),
    ]
    assert await load(warehouse, from_=T0, slot=60) == [(0, 60, "12.000000", "12.000000")]
    assert await load(warehouse, from_=T0 + 20 * MINUTE, to=T0 + 40 * MINUTE) == [
        (15, 15, "2.500000", "10.000000"),
        (30, 15, "3.500000", "14.000000"),
    ]
    assert await load(warehouse, from_=T0, slot=1440) == [(-600, 1440, "12.000000", "0.500000")]


async def test_load_curve_spreads_an_interval_exactly(warehouse: Warehouse) -> None:
    await put(
        warehouse,
        [
            consumption("1", T0 + 20 * MINUTE, T0 + 60 * MINUTE, "10"),
            consumption("2", T0 + 60 * MINUTE, T0 + 105 * MINUTE, "1"),
            consumption("3", T0 + 120 * MINUTE, T0 + 165 * MINUTE, "-0.000002"),
        ],
    )
    rows = await load(warehouse, from_=T0, slot="15")
    assert [(start, amount) for start, _, amount, _ in rows] == [
        (15, "2.500000"), (30, "3.750000"), (45, "3.750000"),
        (60, "0.333333"), (75, "0.333333"), (90, "0.333334"),
        (120, "0.000000"), (135, "-0.000001"), (150, "-0.000001"),
    ]  # fmt: skip
    assert sum(Decimal(amount) for _, _, amount, _ in rows) == Decimal("10.999998")
    assert await load(warehouse, from_=T0, slot=0) == [
        (20, 40, "10.000000", "15.000000"),
        (60, 45, "1.000000", "1.333333"),
        (120, 45, "-0.000002", "-0.000002"),
    ]


async def test_load_curve_corrections(warehouse: Warehouse) -> None:
    span = (T0, T0 + 45 * MINUTE)
    await put(
        warehouse,
        [
            consumption("1", *span, "1", known_at=T0 + HOUR),
            consumption("2", *span, "-1", corrects="1", known_at=T0 + 2 * HOUR),
            consumption("3", *span, "4.000001", known_at=T0 + 2 * HOUR),
            consumption("4", *span, "9", meter="gone"),
            consumption("5", *span, "-9", meter="gone", corrects="4"),
            consumption("6", *span, "0", meter="idle"),
        ],
    )
    rows = await ask(warehouse, "load-curves", from_=T0, slot=15)
    assert [(r["meter"], r["amount"]) for r in rows] == [
        *(("em-1", Decimal(a)) for a in ("1.333333", "1.333334", "1.333334")),
        *(("idle", Decimal(0)) for _ in range(3)),
    ]
    rows = await ask(warehouse, "load-curves", from_=T0, slot=60, meter="em-1", as_of=T0 + HOUR)
    assert [r["amount"] for r in rows] == [Decimal(1)]


async def test_meters(warehouse: Warehouse) -> None:
    await put(warehouse, [*REGISTRY, consumption("1", T0, T0 + HOUR, "1"), consumption("2", T0 + HOUR, T0 + 2 * HOUR, "1")])
    rows = await ask(warehouse, "meters")
    assert [(r["meter"], r["quantity"], r["unit"], r["flow"], r["enterprise"], r["site_name"]) for r in rows] == [
        ("em-1", "electricity", "kWh", "import", "m01", "甲矿场"),
        ("em-2", "water", "", "", "m02", "乙矿场"),
    ]
    assert (rows[0]["first"], rows[0]["last"], rows[1]["last"]) == (at(T0), at(T0 + 2 * HOUR), None)
    assert [r["meter"] for r in await ask(warehouse, "meters", Scope(False, frozenset({"m02"})))] == ["em-2"]


async def test_stocks(warehouse: Warehouse) -> None:
    await put(
        warehouse,
        [
            stock("1", 1_000_000, "survey"),
            stock("2", -33_620, "dispatched", known_at=T0 + 1),
            stock("3", -20, "dispatched", scope=M02, known_at=T0 + 2),
        ],
    )
    rows = await ask(warehouse, "stocks")
    assert [(r["site"], r["mass_kg"], r["known"], r["as_of"]) for r in rows] == [
        ("m01", 966_380, True, at(T0 + 1)),
        ("m02", -20, False, at(T0 + 2)),
    ]
    assert [r["mass_kg"] for r in await ask(warehouse, "stocks", as_of=T0)] == [1_000_000]
    assert [r["site"] for r in await ask(warehouse, "stocks", division="150302")] == ["m02"]


async def test_warnings_show_the_latest_change(warehouse: Warehouse) -> None:
    await put(
        warehouse,
        [
            warning("raised", "1", "a", T0),
            warning("raised", "2", "b", T0 + 1, scope=M02),
            warning("updated", "3", "a", T0 + 2, severity="low", parameters={"gross_kg": "1", "zh": "超载"}),
            warning("cleared", "4", "b", T0 + 3, scope=M02),
        ],
    )
    rows = await ask(warehouse, "warnings")
    assert [(r["warning"], r["state"], r["severity"]) for r in rows] == [("b", "cleared", "high"), ("a", "updated", "low")]
    assert rows[1]["parameters"] == {"gross_kg": "1", "zh": "超载"}
    assert (rows[1]["since"], rows[1]["time"], rows[1]["rule_version"]) == (at(T0), at(T0 + 2), 1)
    assert [r["warning"] for r in await ask(warehouse, "warnings", state="raised,updated")] == ["a"]
    assert [r["warning"] for r in await ask(warehouse, "warnings", severity="high")] == ["b"]
    early = await ask(warehouse, "warnings", as_of=T0 + 1)
    assert [(r["warning"], r["state"]) for r in early] == [("b", "raised"), ("a", "raised")]


async def test_quarantine(warehouse: Warehouse) -> None:
    data = {"reason": "unknown-type", "parameters": {"type": "x.y"}, "principal": "demo", "digest": "0" * 64, "size_bytes": 2}
    await put(warehouse, [event("event.refused", "q", T0, {**data, "payload_base64": "e30="}, scope=("", "", ""))])
    [row] = await ask(warehouse, "quarantine")
    assert (row["reason"], row["parameters"], row["refused_id"], row["stage"]) == (
        "unknown-type",
        {"type": "x.y"},
        None,
        "intake",
    )
    assert (row["size_bytes"], row["payload_base64"]) == (2, "e30=")
    assert await ask(warehouse, "quarantine", stage="stream") == []
    assert await ask(warehouse, "quarantine", Scope(False, frozenset({"m01"}), frozenset({"150000"}))) == []


async def test_registry_shows_the_latest_version(warehouse: Warehouse) -> None:
    later = registered("enterprise", "e3", T0 + 5, enterprise="m01", name="甲新", kind="mine", division="150303",
                       valid_from="2026-03-01T00:00:00Z")  # fmt: skip
    older = registered("enterprise", "e4", T0 + 9, enterprise="m01", name="甲旧", kind="mine", division="150303",
                       valid_from="2026-02-01T00:00:00Z")  # fmt: skip
    await put(warehouse, [*REGISTRY, later, older])
    assert [(r["enterprise"], r["name"]) for r in await ask(warehouse, "enterprises")] == [("m01", "甲新"), ("m02", "乙矿")]
    assert [r["name"] for r in await ask(warehouse, "enterprises", as_of=T0, enterprise="m01")] == ["甲矿"]
    sites = await ask(warehouse, "sites")
    assert [(r["site"], r["enterprise_name"], r["name_en"], r["latitude"]) for r in sites] == [
        ("m01", "甲新", "A", None),
        ("m02", "乙矿", "", Decimal("39.5")),
    ]
    devices = await ask(warehouse, "devices", kind="meter,weighbridge")
    assert [(r["device"], r["source"], r["enterprise"], r["division"]) for r in devices] == [
        ("em-1", "urn:dev:org:32473-em-1", "m01", "150303"),
        ("em-2", "urn:dev:org:32473-em-2", "m02", "150302"),
        ("wb-m01-1", "urn:dev:org:32473-wb-m01-1", "m01", "150303"),
    ]
    districts = await ask(warehouse, "districts", Scope())
    assert [(r["division"], r["inside"]) for r in districts] == [("150302", True), ("150303", True), ("610100", False)]
    [vehicle] = await ask(warehouse, "vehicles")
    assert (vehicle["plate"], vehicle["tare_kg"], vehicle["licence_mass_kg"], vehicle["tare_usable"]) == (
        "蒙C12345", 15_300, None, False,
    )  # fmt: skip


async def test_overview(warehouse: Warehouse) -> None:
    [empty] = await ask(warehouse, "overview")
    assert set(empty.values()) == {0, None}
    await put(
        warehouse,
        [
            *REGISTRY,
            weighing(1, T0),
            weighing(2, T0 - 11 * HOUR),  # 23:00 of yesterday in Shanghai
            weighing(3, T0, scope=M02),
            flow("1", T0, 30_000),
            flow("2", T0, 4_000, direction="in", tickets=2),
            flow("3", T0 - 11 * HOUR, 9_000),
            warning("raised", "1", "a", T0),
            warning("raised", "2", "b", T0),
            warning("cleared", "3", "b", T0 + 1),
        ],
    )
    assert await ask(warehouse, "overview") == [
        {
            "tickets_today": 3, "net_out_kg_today": 30_000, "net_in_kg_today": 4_000, "weighings_today": 2,
            "warnings_open": 1, "devices": 3, "sites": 2, "last_known_at": at(T0 + 1000),
        }
    ]  # fmt: skip
    [mine] = await ask(warehouse, "overview", Scope(False, frozenset({"m02"})))
    assert (mine["tickets_today"], mine["weighings_today"], mine["warnings_open"], mine["devices"], mine["sites"]) == (
        0, 1, 0, 1, 1,
    )  # fmt: skip
    with pytest.raises(QueryError) as caught:
        await run_query(warehouse, QUERIES["overview"], ALL, {})
    assert caught.value.code == "missing-parameter"


SAMPLE = [
    *REGISTRY,
    weighing(1, T0),
    weighing(2, T0, scope=M02),
    flow("1", T0, 1),
    flow("2", T0, 2, scope=M02),
    consumption("1", T0, T0 + HOUR, "1"),
    stock("1", 1, "survey"),
    stock("2", 2, "survey", scope=M02),
    warning("raised", "1", "a", T0),
    warning("raised", "2", "b", T0, scope=M02),
]


async def test_rights_hold_in_every_query(warehouse: Warehouse) -> None:
    """A reader of nothing sees nothing; a reader of m02, or of its district, sees m02 alone."""
    await put(warehouse, SAMPLE)
    shown = 0
    for query in QUERIES.values():
        if query.scope.public or query.name == "overview":
            continue
        assert await ask(warehouse, query.name, Scope()) == [], query.name
        for scope in (Scope(False, frozenset({"m02"})), Scope(False, frozenset(), frozenset({"150302"}))):
            for row in await ask(warehouse, query.name, scope):
                assert row["enterprise"] == "m02", query.name
                shown += 1
        city = await ask(warehouse, query.name, Scope(False, frozenset(), frozenset({"150300"})))
        whole = await ask(warehouse, query.name)
        assert len(city) == (0 if query.name == "vehicles" else len(whole)), query.name
    assert shown >= 14


async def test_a_query_without_the_rights_filter_is_refused() -> None:
    with pytest.raises(ValueError, match="no \\$scope"):
        NamedQuery("x", QUERIES["tickets"].title, "SELECT 1 WHERE $known", (), (), ScopeColumns(), ())


async def test_family_query_of_every_family(warehouse: Warehouse) -> None:
    await put(warehouse, SAMPLE)
    for family in Catalog().families.values():
        query = family_query(family)
        page = await run_query(warehouse, query, ALL, {"now": T0 + DAY})
        expected = sum(r.headers.type == family.type for r in SAMPLE)
        assert len(page.rows) == expected, family.type
        for row in page.rows:
            assert set(row) == {c.name for c in query.columns}
        assert (await run_query(warehouse, query, Scope(), {"now": T0})).rows == []
    query = family_query(Catalog()["weighing.measured"])
    rows = (await run_query(warehouse, query, ALL, {"now": T0, "source": "urn:dev:org:32473-wb-m01-1", "id": "2"})).rows
    assert [r["enterprise"] for r in rows] == ["m02"]


@pytest.mark.parametrize(
    ("name", "given", "code", "parameter"),
    [
        ("weighings", {"colour": "red"}, "unknown-parameter", "colour"),
        ("weighings", {"from": "yesterday"}, "not-a-time", "from"),
        ("weighings", {"from": "2026-03-01T00:00:00"}, "not-a-time", "from"),
        ("weighings", {"to": 10**15}, "not-a-time", "to"),
        ("weighings", {"to": True}, "not-a-time", "to"),
        ("weighings", {"as_of": "2026-02-30"}, "not-a-time", "as_of"),
        ("weighings", {"division": "15030"}, "not-a-division", "division"),
        ("weighings", {"plate": ""}, "not-text", "plate"),
        ("weighings", {"plate": ","}, "not-text", "plate"),
        ("weighings", {"plate": 7}, "not-text", "plate"),
        ("weighings", {"plate": [7]}, "not-text", "plate"),
        ("flows", {"city": "through"}, "not-a-choice", "city"),
        ("flows", {"group": "hour,colour"}, "not-a-choice", "group"),
        ("load-curves", {"slot": 7}, "not-a-choice", "slot"),
        ("overview", {"now": "soon"}, "not-a-time", "now"),
    ],
)
async def test_parameters_that_cannot_be_used(
    nowhere: Warehouse, name: str, given: dict[str, Any], code: str, parameter: str
) -> None:
    with pytest.raises(QueryError) as caught:
        await run_query(nowhere, QUERIES[name], ALL, given)
    assert (caught.value.code, caught.value.parameter) == (code, parameter)
    assert caught.value.text.zh != caught.value.text.en
    assert "{" not in caught.value.text.zh + caught.value.text.en


async def test_limits(nowhere: Warehouse) -> None:
    for limit in (0, -1, 10_001, True):
        with pytest.raises(QueryError) as caught:
            await run_query(nowhere, QUERIES["weighings"], ALL, {}, None, limit)
        assert caught.value.code == "bad-limit"


def test_every_error_has_both_languages() -> None:
    assert all(text.zh and text.en and text.zh != text.en for text in ERRORS.values())


async def test_a_week_of_a_year_is_read_alone(warehouse: Warehouse) -> None:
    """The sorting key's week prunes: of a year's granules a query of the last days reads a few."""
    await warehouse.execute(
        "INSERT INTO weighing_measured (id, source, time, known_at, enterprise, plate, mass_kg) SELECT toString(number), 's', "
        f"fromUnixTimestamp64Milli({T0} - number * 78840, 'UTC') AS t, t, toString(number % 50), 'p', 1 FROM numbers(400000)"
    )
    asked: list[tuple[str, Any]] = []

    class Listening:
        async def query(self, sql: str, parameters: Any = None) -> Any:
            asked.append((sql, parameters))
            return await warehouse.query(sql, parameters)

    page = await run_query(cast("Warehouse", Listening()), QUERIES["weighings"], ALL, {"now": T0})
    assert len(page.rows) == 100
    sql, parameters = asked[0]
    plan = await warehouse.query("EXPLAIN indexes = 1 " + sql, parameters)
    read, of = re.findall(r"Granules: (\d+)/(\d+)", "\n".join(str(row[0]) for row in plan.rows))[0]
    assert int(of) > 40
    assert int(read) <= 4


INTERVALS = st.lists(
    st.tuples(
        st.integers(0, 3 * 24 * 60),
        st.integers(1, 2 * 24 * 60),
        st.decimals(min_value=Decimal("-1000"), max_value=Decimal("1000"), places=6, allow_nan=False),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(intervals=INTERVALS, data=st.data())
async def test_slots_of_any_length_add_up_to_the_intervals(
    warehouse: Warehouse, intervals: list[tuple[int, int, Decimal]], data: st.DataObject
) -> None:
    """Whatever the slots, their sum is that of the intervals, to the last digit; and a correction takes all of it back."""
    await warehouse.execute("TRUNCATE TABLE consumption_recorded")
    made = [
        consumption(str(i), T0 + start * MINUTE, T0 + (start + length) * MINUTE, format(amount, "f"))
        for i, (start, length, amount) in enumerate(intervals)
    ]
    await put(warehouse, made)
    total = sum((amount for _, _, amount in intervals), Decimal(0))
    slots = data.draw(st.lists(st.sampled_from((0, 15, 30, 60, 1440)), min_size=1, max_size=3, unique=True))
    for slot in slots:
        rows = await ask(warehouse, "load-curves", from_=T0 - DAY, slot=slot)
        assert sum((r["amount"] for r in rows), Decimal(0)) == total
        assert all(slot == 0 or r["end"] - r["start"] == timedelta(minutes=slot) for r in rows)
    back = [
        consumption(f"c{i}", T0 + start * MINUTE, T0 + (start + length) * MINUTE, format(-amount, "f"), corrects=str(i))
        for i, (start, length, amount) in enumerate(intervals)
    ]
    await put(warehouse, back)
    assert await ask(warehouse, "load-curves", from_=T0 - DAY, slot=15) == []


async def test_pages_of_groups_with_nulls(warehouse: Warehouse) -> None:
    """Keysets with NULL in them: every page size gives the whole, once."""
    made = []
    for i in range(24):
        more: dict[str, Any] = {"origin": f"15030{i % 3}"} if i % 4 else {}
        more |= {"destination": "610100"} if i % 5 else {}
        made.append(flow(str(i), T0 + (i % 2) * HOUR, i + 1, **more))
    await put(warehouse, made)
    for group in ("hour,origin,destination", "origin", "destination,hour", "commodity"):
        whole = await ask(warehouse, "flows", group=group)
        assert sum(r["net_kg"] for r in whole) == sum(range(1, 25))
        for size in (1, 2, 5):
            got: list[dict[str, Any]] = []
            cursor = None
            while True:
                page = await run_query(warehouse, QUERIES["flows"], ALL, {"now": T0, "group": group}, cursor, size)
                got += page.rows
                cursor = page.next
                if cursor is None:
                    break
            assert got == whole
