"""Declarations and row mappings: exact values, missing as NULL, a family that only this test knows, and drift."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hengliu.events import topics
from hengliu.events.catalog import FAMILIES, Catalog
from hengliu.events.envelope import ms_of
from hengliu.events.families.common import UtcTime, labelled
from hengliu.events.family import EventData, Family, Text, Writer
from hengliu.events.quantities import decimal_string
from hengliu.ports.log import Headers, Record
from hengliu.ports.migration import MigrationError, schema_drift
from hengliu.ports.warehouse import Column, TableSchema, check_schema, create_sql
from hengliu.rights import Scope
from infra.chdb_warehouse import ChdbWarehouse
from projections.catalog import tables
from projections.family_table import family_table
from projections.migrate import SchemaDrift, declared_migrations, declared_schemas, migrate
from projections.queries import family_query, run_query
from projections.table import TEXT, Range, Records, Rows, Table
from tests.projections.support import T0, event, put, warehouse_at, weighing


def records(*made: Record) -> Records:
    span = Range("t", 0, 0, len(made))
    return Records([span] * len(made), list(range(len(made))), [r.value for r in made], [r.headers for r in made])


def rows_of(type_: str, *made: Record) -> Rows:
    table = family_table(Catalog()[type_])
    rows = table.rows(records(*made))
    check_schema(table.schema, rows.data)
    return rows


def one(type_: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    rows = rows_of(type_, event(type_, "1", T0, data, **more))
    assert not rows.faults
    return dict(rows.data.to_pylist()[0])


def test_every_family_s_example_becomes_a_row() -> None:
    for table in tables(Catalog()):
        for family in FAMILIES:
            if family.type in table.types:
                made = event(family.type, "1", T0, family.example_data, source=family.example_source)
                rows = table.rows(records(made))
                assert not rows.faults, family.type
                assert rows.data.num_rows == 1
                check_schema(table.schema, rows.data)


def test_every_family_has_exactly_one_table() -> None:
    claimed = [type_ for table in tables(Catalog()) for type_ in table.types]
    assert sorted(claimed) == sorted(f.type for f in FAMILIES)


def test_missing_is_null_and_not_zero() -> None:
    row = one("weighing.measured", {"plate": "蒙C1", "mass_kg": 1})
    assert [row[name] for name in ("axles", "commodity", "zero_kg", "waybill")] == [None] * 4
    row = one("weighing.measured", {"plate": "蒙C1", "mass_kg": 1, "zero_kg": 0, "axles": None})
    assert (row["zero_kg"], row["axles"]) == (0, None)


def test_an_absent_member_with_a_default_means_the_default() -> None:
    assert one("belt.metered", {"belt": "b", "total_kg": 1})["commodity"] == "raw"


def test_scope_of_devices_comes_from_the_headers_alone() -> None:
    row = one("stock.surveyed", {"site": "claimed", "commodity": "raw", "mass_kg": 1})
    assert (row["enterprise"], row["site"], row["division"], row["data_site"]) == ("m01", "m01", "150303", "claimed")


def test_scope_of_the_platform_s_own_events_comes_from_their_data() -> None:
    data = {"device": "d", "source": "urn:dev:org:32473-d", "kind": "meter", "site": "s9"}
    row = one("device.registered", data, source="/aggregates/registry")
    assert (row["site"], row["enterprise"], row["source"], row["data_source"]) == (
        "s9",
        "m01",
        "/aggregates/registry",
        "urn:dev:org:32473-d",
    )


def test_known_at_is_the_header_s_or_else_the_receive_time() -> None:
    assert ms_of(one("belt.metered", {"belt": "b", "total_kg": 1}, received=T0 + 7)["known_at"]) == T0 + 7
    assert ms_of(one("belt.metered", {"belt": "b", "total_kg": 1}, received=T0 + 7, known_at=5)["known_at"]) == 5


def test_an_event_without_time_has_its_receive_time() -> None:
    value = b'{"id":"1","source":"s","data":{"belt":"b","total_kg":1}}'
    rows = rows_of("belt.metered", Record(b"", value, Headers(T0, "belt.metered")))
    assert ms_of(rows.data.to_pylist()[0]["time"]) == T0


def test_times_with_any_offset_are_utc_milliseconds() -> None:
    read = {"meter": "m", "quantity": "water", "reading": "interval", "value": "1", "unit": "m3"}
    row = one("meter.read", {**read, "start": "2026-03-01T08:00:00.1239+08:00", "end": "2026-02-28T18:45:00-05:30"})
    assert row["start"] == datetime(2026, 3, 1, 0, 0, 0, 123_000, UTC)
    assert row["end"] == datetime(2026, 3, 1, 0, 15, tzinfo=UTC)


def test_a_map_is_kept_as_its_json() -> None:
    row = one("rule.published", {"rule": "r", "version": 1, "parameters": {"a": "1.10", "乙": "x"}})
    assert json.loads(row["parameters"]) == {"a": "1.10", "乙": "x"}


def test_bad_records_are_faults_and_the_rest_are_rows() -> None:
    good = [weighing(i, T0) for i in range(3)]
    far = event("weighing.measured", "f", 20_000_000_000_000, {"plate": "x", "mass_kg": 1})
    big = event("weighing.measured", "b", T0, {"plate": "x", "mass_kg": 2**63})
    naive = Record(b"", good[0].value.replace(b"00.000Z", b"00.000"), good[0].headers)
    broken = Record(b"", b'{"id":"1","source":"s","data":{"plate":"x","mass_kg":1', good[0].headers)
    null = Record(b"", good[0].value.replace(b"48920", b"null"), good[0].headers)
    rows = rows_of("weighing.measured", good[0], far, broken, good[1], big, naive, null, good[2])
    assert [r["id"] for r in rows.data.to_pylist()] == ["0", "1", "2"]
    assert [(f.row, f.code) for f in rows.faults] == [
        (1, "unfit-value"),
        (2, "undecodable"),
        (4, "unfit-value"),
        (5, "undecodable"),
        (6, "undecodable"),
    ]


def test_a_decimal_finer_than_its_column_is_refused_and_never_cut() -> None:
    read = {"meter": "m", "quantity": "water", "reading": "register", "unit": "m3"}
    fine = event("meter.read", "1", T0, {**read, "value": "1.0000001"})
    rows = rows_of("meter.read", fine)
    assert rows.data.num_rows == 0
    assert rows.faults[0].code == "unfit-value"


DECIMALS = st.decimals(
    min_value=Decimal("-999999999999999999"), max_value=Decimal("999999999999999999"), places=6, allow_nan=False
)
ZONES = (UTC, timezone(timedelta(hours=8)), timezone(timedelta(hours=-9, minutes=-30)))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = st.builds(
    lambda microseconds, zone: (EPOCH + timedelta(microseconds=microseconds)).astimezone(zone),
    st.integers(ms_of(datetime(1900, 1, 2, tzinfo=UTC)) * 1000, ms_of(datetime(2299, 12, 30, tzinfo=UTC)) * 1000),
    st.sampled_from(ZONES),
)


@given(st.lists(st.tuples(DECIMALS, TIMES, st.none() | TIMES), min_size=1, max_size=5))
def test_mapping_is_exact(values: Sequence[tuple[Decimal, datetime, datetime | None]]) -> None:
    """Whatever pydantic accepts comes out as the same values: Decimals to the digit, instants to the millisecond."""
    made = []
    for value, time, start in values:
        data = {"meter": "m", "quantity": "water", "reading": "register", "value": format(value, "f"), "unit": "m3"}
        if start is not None:
            data["start"] = start.isoformat()
        body = {"id": "1", "source": "s", "time": time.isoformat(), "data": data}
        made.append(Record(b"", json.dumps(body).encode(), Headers(T0, "meter.read")))
    rows = rows_of("meter.read", *made)
    assert not rows.faults
    for row, (value, time, start) in zip(rows.data.to_pylist(), values, strict=True):
        assert row["value"] == value
        assert ms_of(row["time"]) == ms_of(time)
        assert (row["start"] and ms_of(row["start"])) == (start and ms_of(start))


def test_the_same_records_give_the_same_block() -> None:
    made = [weighing(i, T0 + i) for i in range(50)]
    first, second = rows_of("weighing.measured", *made), rows_of("weighing.measured", *made)
    assert first.data.equals(second.data)
    assert all(column.num_chunks == 1 for column in first.data.columns)


class GasSampled(EventData):
    """A family that stands in no list of the product."""

    point: str = labelled("测点", "Point")
    methane_percent: decimal_string(6, 3) | None = labelled("甲烷（%）", "Methane (%)", None)  # type: ignore[valid-type]
    state: Literal["ok", "alarm"] = labelled("状态", "State", "ok")
    seen: UtcTime | None = labelled("观测时间", "Seen", None)
    tags: list[str] = labelled("标签", "Tags", [])
    count: int = labelled("次数", "Count", 0)


GAS = Family(
    type="gas.sampled",
    title=Text("瓦斯", "Gas sample"),
    data=GasSampled,
    topic=topics.TELEMETRY,
    example_source="urn:dev:org:32473-gas-1",
    example_data={"point": "p"},
)


async def test_a_family_of_this_test_has_table_and_query_with_nothing_else_touched(tmp_path: Path) -> None:
    catalog = Catalog().extended(GAS)
    async with warehouse_at(tmp_path / "w", catalog) as warehouse:
        data = {"point": "p", "methane_percent": "0.750", "tags": ["a", "乙"], "seen": "2026-03-01T10:00:00+08:00"}
        await put(warehouse, [event("gas.sampled", "1", T0, data), event("gas.sampled", "2", T0, {"point": "q"})], catalog)
        page = await run_query(warehouse, family_query(GAS), Scope(True), {"from": T0})
        assert [(r["point"], r["methane_percent"], r["state"], r["tags"], r["count"]) for r in page.rows] == [
            ("p", Decimal("0.750"), "ok", ["a", "乙"], 0),
            ("q", None, "ok", [], 0),
        ]
        assert (page.rows[0]["seen"], page.rows[1]["seen"]) == (datetime(2026, 3, 1, 2, tzinfo=UTC), None)
        assert [c.title.en for c in family_query(GAS).columns][-6:] == [
            "Point",
            "Methane (%)",
            "State",
            "Seen",
            "Tags",
            "Count",
        ]


async def test_a_row_of_every_family_comes_back_from_the_engine(tmp_path: Path) -> None:
    """NULLs stay NULL, Decimals keep their digits, times their milliseconds, on the way through the engine."""
    async with warehouse_at(tmp_path / "w") as warehouse:
        for family in FAMILIES:
            data = {**family.example_data}
            await put(warehouse, [event(family.type, family.type, T0 + 123, data, source=family.example_source)])
        result = await warehouse.query("SELECT value AS v, start AS s, time AS t FROM meter_read")
        assert result.rows == [(Decimal("120345.750000"), None, datetime.fromtimestamp((T0 + 123) / 1000, UTC))]
        result = await warehouse.query("SELECT latitude AS a, speed_kmh AS s, laden AS l FROM vehicle_located")
        assert result.rows == [(Decimal("39.4123456"), Decimal("42.50"), True)]
        result = await warehouse.query("SELECT silence_after_s AS s, quantity AS q, chained AS c FROM device_registered")
        assert result.rows == [(None, None, False)]


# --- migrations and drift --------------------------------------------------------------------------------------------


def test_migration_files_are_as_the_runner_wants_them() -> None:
    assert [str(m) for m in declared_migrations(tables(Catalog()))] == [
        "warning/0001_create.sql",
        "projection_position/0001_create.sql",
    ]


async def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    declared = tables(Catalog())
    async with warehouse_at(tmp_path / "w") as warehouse:
        before = (await warehouse.query("SELECT count() AS n FROM schema_migration")).rows
        await migrate(warehouse, declared)
        assert (await warehouse.query("SELECT count() AS n FROM schema_migration")).rows == before
        assert await schema_drift(warehouse, declared_schemas(declared)) == []


class GasSampledMore(GasSampled):
    pressure_kpa: decimal_string(9, 3) | None = labelled("压力", "Pressure (kPa)", None)  # type: ignore[valid-type]
    phase: Literal["a", "b"] | None = labelled("相", "Phase", None)
    channel: str = labelled("通道", "Channel", "it's one")


async def test_optional_members_of_a_newer_version_become_columns(tmp_path: Path) -> None:
    async with warehouse_at(tmp_path / "w", Catalog().extended(GAS)) as warehouse:
        await put(warehouse, [event("gas.sampled", "1", T0, {"point": "p"})], Catalog().extended(GAS))
        newer = Catalog().extended(Family(GAS.type, GAS.title, GasSampledMore, GAS.topic))
        await migrate(warehouse, tables(newer))
        await migrate(warehouse, tables(newer))
        await put(warehouse, [event("gas.sampled", "2", T0, {"point": "p", "pressure_kpa": "101.325"})], newer)
        result = await warehouse.query(
            "SELECT id AS i, pressure_kpa AS p, phase AS h, channel AS c FROM gas_sampled ORDER BY id"
        )
        assert result.rows == [("1", None, None, "it's one"), ("2", Decimal("101.325"), None, "it's one")]


class GasSampledRequired(GasSampled):
    owner: str = labelled("产权人", "Owner")


async def test_a_required_member_more_is_drift(tmp_path: Path) -> None:
    newer = Family(GAS.type, GAS.title, GasSampledRequired, GAS.topic)
    async with warehouse_at(tmp_path / "w", Catalog().extended(GAS)) as warehouse:
        with pytest.raises(SchemaDrift) as caught:
            await migrate(warehouse, tables(Catalog().extended(newer)))
        assert [(d.table, d.column, d.declared, d.found) for d in caught.value.drifts] == [
            ("gas_sampled", "owner", "String", "nothing")
        ]
        assert "gas_sampled.owner" in caught.value.text.zh


@pytest.mark.parametrize(
    ("statement", "table", "column"),
    [
        ("ALTER TABLE weighing_measured MODIFY COLUMN mass_kg Int32", "weighing_measured", "mass_kg"),
        ("ALTER TABLE weighing_measured ADD COLUMN extra String", "weighing_measured", "extra"),
        ("ALTER TABLE warning DROP COLUMN subject", "warning", "subject"),
        ("ALTER TABLE warning MODIFY SETTING non_replicated_deduplication_window = 0", "warning", ""),
        ("DROP TABLE warning", "warning", ""),
    ],
)
async def test_drift_is_named_at_the_start(tmp_path: Path, statement: str, table: str, column: str) -> None:
    async with warehouse_at(tmp_path / "w") as warehouse:
        await warehouse.execute(statement)
        with pytest.raises(SchemaDrift) as caught:
            await migrate(warehouse, tables(Catalog()))
        assert [(d.table, d.column) for d in caught.value.drifts] == [(table, column)]


async def test_another_sorting_key_is_drift(tmp_path: Path) -> None:
    warehouse = await ChdbWarehouse.open(tmp_path / "w")
    try:
        schema = tables(Catalog())[1].schema
        other = TableSchema(schema.name, schema.columns, ("time",))
        await warehouse.execute(create_sql(other))
        [drift] = await schema_drift(warehouse, [schema])
        assert (drift.declared, drift.found) == (
            "ORDER BY intDiv(toUnixTimestamp64Milli(time), 604800000), enterprise, time",
            "ORDER BY (time)",
        )
    finally:
        await warehouse.close()


def hand_table(folder: Path, columns: tuple[Column, ...]) -> Table:
    return Table(
        TableSchema("hand", columns, ("a",)), frozenset(), frozenset(), lambda r: Rows(r), Text("手", "Hand"), migrations=folder
    )  # fmt: skip


async def test_numbered_migrations_apply_once_in_order_and_may_not_change(tmp_path: Path) -> None:
    folder = tmp_path / "hand"
    folder.mkdir()
    a, b = Column("a", "String", TEXT), Column("b", "Nullable(String)", TEXT, nullable=True)
    (folder / "0001_create.sql").write_text(create_sql(TableSchema("hand", (a,), ("a",))))
    async with warehouse_at(tmp_path / "w") as warehouse:
        await migrate(warehouse, [hand_table(folder, (a,))])
        with pytest.raises(SchemaDrift):
            await migrate(warehouse, [hand_table(folder, (a, b))])
        (folder / "0002_b.sql").write_text("ALTER TABLE hand ADD COLUMN IF NOT EXISTS b Nullable(String)")
        await migrate(warehouse, [hand_table(folder, (a, b))])
        result = await warehouse.query("SELECT version AS v FROM schema_migration WHERE table_name = 'hand' ORDER BY version")
        assert result.rows == [(1,), (2,)]
        (folder / "0001_create.sql").write_text(create_sql(TableSchema("hand", (a, b), ("a",))))
        with pytest.raises(MigrationError, match=r"hand/0001_create\.sql"):
            await migrate(warehouse, [hand_table(folder, (a, b))])


def test_a_decimal_must_declare_its_scale() -> None:
    class Loose(EventData):
        value: Decimal

    with pytest.raises(ValueError, match="digits and its scale"):
        family_table(Family("x.made", Text("x", "x"), Loose, topics.TELEMETRY, writer=Writer.DEVICE))
