"""Rows to events: times, units, identity, and what makes no event."""

import gzip
import json
import zipfile
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.files.convert import Converter, Fault, Made, Skipped
from connectors.files.mapping import FileForm, Mapping, bundled, find_mapping, read_mapping
from connectors.files.numbers import ROUNDINGS, UNITS, factor, parse, to_places
from connectors.files.readers import FileFault, Row, open_rows
from connectors.files.times import TimeFault, Zone, read_stamp
from hengliu.events.catalog import Catalog
from tests.connectors.test_mapping import GOOD

HOUR = 3_600_000


def made(mapping: Mapping, columns: Sequence[str], *rows: Sequence[str]) -> list[Made | Skipped | Fault]:
    converter = Converter(mapping, columns)
    return list(converter.convert(iter([Row(n, row) for n, row in enumerate(rows, 2)])))


def bodies(results: Sequence[Made | Skipped | Fault]) -> list[dict[str, Any]]:
    assert all(isinstance(r, Made) for r in results), results
    return [json.loads(r.body) for r in results if isinstance(r, Made)]


HEAT = read_mapping(GOOD, "heat.toml")
COLUMNS = ("when", "no", "heat")


def test_an_interval_stamped_at_its_end() -> None:
    (event,) = bodies(made(HEAT, COLUMNS, ("2024-03-01 08:00", "7", "12.5")))
    assert event["source"] == "urn:dev:org:32473-heat-7"
    assert (event["data"]["start"], event["data"]["end"]) == ("2024-02-29T23:00:00.000Z", "2024-03-01T00:00:00.000Z")
    assert event["time"] == "2024-03-01T00:00:00.000Z"
    assert event["id"] == str(int(datetime.fromisoformat("2024-02-29T23:00:00+00:00").timestamp()) // 3600)
    assert event["data"]["value"] == "12.5"
    Catalog()["meter.read"].data.model_validate_json(json.dumps(event["data"]))


@pytest.mark.parametrize(
    ("row", "kind", "code"),
    [
        (("2024-03-01 08:00", "7", ""), Skipped, "empty"),
        (("2024-03-01 08:20", "7", "Null"), Skipped, "empty"),
        (("2024-03-01 08:20", "7", "1"), Fault, "off-grid"),
        (("2024-03-01 25:00", "7", "1"), Fault, "time-form"),
        (("2024-03-01 08:00", "", "1"), Fault, "source-empty"),
        (("2024-03-01 08:00", "7", "1,5"), Fault, "number-form"),
        (("2024-03-01 08:00", "7", "1e3"), Fault, "number-form"),
        (("2024-03-01 08:00", "7", "NaN1"), Fault, "number-form"),
        (("2024-03-01 08:00", "7", "0.1234567"), Fault, "not-exact"),
        (("2024-03-01 08:00", "7"), Fault, "row-width"),
    ],
)
def test_a_row_without_an_event_says_why(row: tuple[str, ...], kind: type, code: str) -> None:
    (result,) = made(HEAT, COLUMNS, row)
    assert isinstance(result, kind)
    assert not isinstance(result, Made)
    assert (result.code, result.line) == (code, 2)


def test_a_device_is_registered_with_its_first_event_alone() -> None:
    results = made(HEAT, COLUMNS, ("2024-03-01 08:00", "7", "1"), ("2024-03-01 09:00", "7", "1"))
    assert [r.device for r in results if isinstance(r, Made)] == [{"device": "heat-7", "kind": "meter", "site": "plant"}, None]


def test_midnight_of_the_steelworks_ends_its_date() -> None:
    steel = find_mapping("steelworks")
    columns = ("date", "Usage_kWh")
    events = bodies(made(steel, columns, ("1/1/2018 23:45", "1"), ("1/1/2018 0:00", "2"), ("2/1/2018 0:15", "3")))
    starts = [e["data"]["start"] for e in events]
    assert starts == ["2018-01-01T14:30:00.000Z", "2018-01-01T14:45:00.000Z", "2018-01-01T15:00:00.000Z"]
    assert [int(e["id"]) - int(events[0]["id"]) for e in events] == [0, 1, 2]


def test_the_hour_that_comes_twice_in_alicante() -> None:
    water = find_mapping("alicante-water")
    columns = ("user key", "datetime", "meter reading", "diff")
    rows = [
        ("a", f"30/10/2016 {clock}", str(n), "") for n, clock in enumerate(("01:11:08", "02:11:08", "02:11:08", "03:11:20"))
    ]
    ids = [int(e["id"]) for e in bodies(made(water, columns, *rows))]
    assert [b - a for a, b in pairwise(ids)] == [3600, 3600, 3612]
    # Out of a meter's own first row of the file: the earlier one.
    assert int(bodies(made(water, columns, rows[1]))[0]["id"]) == ids[1]
    (back,) = made(water, columns, ("a", "27/03/2016 02:30:00", "1", ""))
    assert isinstance(back, Fault)
    assert back.code == "time-nonexistent"


@settings(deadline=None)
@given(st.lists(st.integers(0, 23), min_size=2, max_size=24, unique=True), st.integers(0, 24))
def test_ids_are_the_same_however_a_file_is_cut(hours: list[int], cut: int) -> None:
    rows = [Row(n, (f"2024-03-01 {hour:02}:00", "7", str(hour))) for n, hour in enumerate(hours)]
    whole = [r.body for r in Converter(HEAT, COLUMNS).convert(iter(rows)) if isinstance(r, Made)]
    parts = [
        r.body for part in (rows[:cut], rows[cut:]) for r in Converter(HEAT, COLUMNS).convert(iter(part)) if isinstance(r, Made)
    ]
    assert whole == parts
    assert len(whole) == len(rows)


def test_rows_without_time_are_named_by_the_files_head() -> None:
    metro = find_mapping("metro-loads")
    columns = ("Station", "Material", "Vehicle", "Fullness", "Tons")
    rows = [("Metro South", "MSW", "Car", "0.2", f"{n}.0") for n in range(1, 40)]
    first = [e["id"] for e in bodies(made(metro, columns, *rows[:30]))]
    grown = [e["id"] for e in bodies(made(metro, columns, *rows))]
    other = [e["id"] for e in bodies(made(metro, columns, *rows[1:]))]
    assert grown[:30] == first
    assert len(set(grown)) == len(rows)
    assert not set(grown) & set(other)
    event = bodies(made(metro, columns, *rows))[0]
    assert event["data"] == {
        "place": "metro-Metro-South",
        "material": "MSW",
        "vehicle_class": "Car",
        "fullness": "0.2",
        "net_kg": 907,
    }


def test_two_fixes_in_one_second_are_two_events() -> None:
    jersey = find_mapping("jersey-positions")
    columns = ("latitude", "longitude", "truck", "address", "time")
    here = ("40.67637", "-74.1919", "E-7", "", "2015-12-10T20:38:58")
    there = ("40.6817", *here[1:])
    ids = [e["id"] for e in bodies(made(jersey, columns, here, there, here))]
    assert ids[0] == ids[2]
    assert ids[0] != ids[1]


def test_implausible_times_and_optional_cells_of_the_gate() -> None:
    gate = find_mapping("blantyre-gate")
    columns = ("date", "start", "end", "deviceid", "emptier type", "skip_origin")
    reset, plain = made(
        gate,
        columns,
        ("", "2010-01-01T02:36:48.986+02:00", "", "9", "bcc", ""),
        ("", "2021-01-17T09:00:55.952+02", "", "9", "bcc", ""),
    )
    assert isinstance(reset, Skipped)
    assert reset.code == "time-implausible"
    assert isinstance(plain, Made)
    assert json.loads(plain.body)["data"] == {"gate": "blantyre-dump", "terminal": "9", "carrier": "bcc"}


def test_prices_stocks_weighings_and_belts_need_no_code() -> None:
    """Any family, out of files that nobody here has seen."""
    text = """
    name = "anything"
    title = {{ zh = "任意", en = "Anything" }}
    [time]
    columns = ["day", "clock"]
    format = "%d.%m.%Y %H:%M"
    zone = "Asia/Shanghai"
    [event]
    type = "{type}"
    source = "urn:dev:org:32473-any"
    id = {id}
    [event.data]
    {data}
    """
    columns = ("day", "clock", "n", "x", "s")
    row = ("05.02.2024", "08:30", "17", "1.234,5", "ja")
    mark = 'column = "x", decimal_mark = ",", group_mark = "."'
    taxed = 'tax_included = { column = "s", values = { ja = "true" } }'
    price = f'price_fen_per_t = {{ {mark}, unit = {{ from = "CNY/t", to = "fen/t" }} }}'
    stock = f'mass_kg = {{ {mark}, unit = {{ from = "kt", to = "kg" }} }}'
    mass = f'mass_kg = {{ {mark}, unit = {{ from = "lb", to = "kg" }}, rounding = "half-even" }}'
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "price.quoted": (
            f'commodity = "coke"\nmarket = "wh"\n{price}\n{taxed}',
            {"price_fen_per_t": 123_450, "tax_included": True},
        ),
        "stock.surveyed": (f'site = "y"\ncommodity = "raw"\n{stock}', {"mass_kg": 1_234_500_000}),
        "weighing.measured": (f'plate = "A{{n}}"\n{mass}', {"plate": "A17", "mass_kg": 560}),
        "belt.metered": ('belt = "b"\ntotal_kg = { column = "n", factor = "1000" }', {"total_kg": 17_000}),
        "plate.captured": ('plate = "A{n}"\nlane = "l"', {"plate": "A17", "lane": "l"}),
    }
    for type_, (data, expected) in cases.items():
        mapping = read_mapping(text.format(type=type_, id='{ from = "column", column = "n", prefix = "e1" }', data=data), "x")
        (event,) = bodies(made(mapping, columns, row))
        assert event["id"] == "e1-17"
        assert event["time"] == "2024-02-05T00:30:00.000Z"
        assert expected.items() <= event["data"].items()
        Catalog()[type_].data.model_validate_json(json.dumps(event["data"]))


def test_days_and_months_are_those_of_the_zone() -> None:
    for length, stamp, start, end in (
        ("days = 1", "2024-03-02 00:00", "2024-02-29T16:00:00.000Z", "2024-03-01T16:00:00.000Z"),
        ("months = 1", "2024-03-01 00:00", "2024-01-31T16:00:00.000Z", "2024-02-29T16:00:00.000Z"),
    ):
        mapping = read_mapping(GOOD.replace("minutes = 60", length), "heat.toml")
        (event,) = bodies(made(mapping, COLUMNS, (stamp, "7", "1")))
        assert (event["data"]["start"], event["data"]["end"]) == (start, end)


@pytest.mark.parametrize(("policy", "hour"), [("earlier", 0), ("later", 1)])
def test_the_repeated_hour_by_policy(policy: Any, hour: int) -> None:
    stamp = read_stamp("2016-10-30T02:30:00", "iso")
    base = int(datetime.fromisoformat("2016-10-30T00:30:00+00:00").timestamp()) * 1000
    assert Zone("Europe/Madrid", policy).to_ms(stamp) == base + hour * HOUR
    with pytest.raises(TimeFault, match="time-ambiguous"):
        Zone("Europe/Madrid").to_ms(stamp)


def test_the_hour_left_out_by_policy() -> None:
    stamp = read_stamp("2016-03-27T02:30:00", "iso")
    base = int(datetime.fromisoformat("2016-03-27T01:30:00+00:00").timestamp()) * 1000
    assert Zone("Europe/Madrid", nonexistent="shift").to_ms(stamp) == base
    with pytest.raises(TimeFault, match="time-nonexistent"):
        Zone("Europe/Madrid").to_ms(stamp)


@settings(deadline=None)
@given(
    st.datetimes(datetime(1995, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 (local by intent)
    st.sampled_from(["Europe/Madrid", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe"]),
)
def test_a_local_time_read_back_is_the_same(local: datetime, name: str) -> None:
    local = local.replace(microsecond=0)
    zone = Zone(name, "earlier", "shift")
    ms = zone.to_ms(local)
    assert zone.to_ms(local) == ms, "the cache of offsets changes nothing"
    shifted = zone.local(ms)
    assert shifted == local or (shifted - local).total_seconds() in (1800, 3600), "only the hour left out moves"


def test_units_are_exact_and_rounding_has_a_name() -> None:
    assert to_places(Decimal("1"), *factor("short-ton", "kg"), 5, None) == Decimal("907.18474")
    assert to_places(Decimal("0.5"), Decimal(1), Decimal(1), 0, "half-even") == 0
    assert to_places(Decimal("0.5"), Decimal(1), Decimal(1), 0, "half-up") == 1
    with pytest.raises(ArithmeticError):
        to_places(Decimal("0.5"), Decimal(1), Decimal(1), 0, None)
    with pytest.raises(ArithmeticError):
        to_places(Decimal(1), *factor("MJ", "kWh"), 6, None)
    assert format(to_places(parse("4e+05", exponent=True), Decimal(1), Decimal(1), 6, None), "f") == "400000"
    assert UNITS["short-ton"][1] == 2000 * UNITS["lb"][1]
    assert UNITS["long-ton"][1] == 2240 * UNITS["lb"][1]
    assert set(ROUNDINGS) == {"half-even", "half-up", "down", "up", "floor", "ceiling"}
    for text in ("", "-", "1.2.3", "１２", "1_0", "Infinity", "1e5", "0x1"):
        with pytest.raises(ValueError):  # noqa: PT011 (the text itself is the message)
            parse(text)


# ---- readers -------------------------------------------------------------------------------------------------------------


def read(path: Path, form: FileForm) -> tuple[tuple[str, ...], list[tuple[int, list[str]]]]:
    with open_rows(path, form) as rows:
        found = [(row.line, list(row.cells)) for row in rows.rows]
        assert rows.done() == 1.0
        return rows.columns, found


CONTENT = '﻿a,b\r\n 1 ,"x,\ny"\r\n\r\n2,z\r\n'.encode()


def test_plain_gz_and_zip_give_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CONTENT)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CONTENT))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/a.csv", CONTENT)
        archive.writestr("readme.txt", "")
    expected = (("a", "b"), [(3, ["1", "x,\ny"]), (5, ["2", "z"])])
    assert read(tmp_path / "a.csv", FileForm()) == expected
    assert read(tmp_path / "a.csv.gz", FileForm()) == expected
    assert read(tmp_path / "a.zip", FileForm(member="*.csv")) == expected
    with pytest.raises(FileFault, match=r"2 个文件.*2 members"):
        read(tmp_path / "a.zip", FileForm())


def test_carriage_returns_alone_end_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a;b\r1;2\r3;4\r")
    assert read(tmp_path / "a.csv", FileForm(delimiter=";"))[1] == [(2, ["1", "2"]), (3, ["3", "4"])]


def test_json_lines_keep_their_digits(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1.10, "b": null}\n\n[1]\n{"a": 12345678901234567890}\n', "utf-8")
    form = FileForm(format="jsonl", columns=("a", "b"))
    assert read(tmp_path / "a.jsonl", form)[1] == [(1, ["1.10", ""]), (3, []), (4, ["12345678901234567890", ""])]


def test_chinese_encodings_and_damage(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("表号,热量\n7,1\n".encode("gb18030"))
    assert read(tmp_path / "a.csv", FileForm(encoding="gb18030"))[0] == ("表号", "热量")
    with pytest.raises(FileFault, match=r"编码不符.*another encoding"):
        read(tmp_path / "a.csv", FileForm())
    whole = gzip.compress(CONTENT * 1000)
    (tmp_path / "a.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFault, match="损坏"):
        read(tmp_path / "a.gz", FileForm())
    (tmp_path / "e.csv").write_bytes(b"")
    with pytest.raises(FileFault, match="空的"):
        read(tmp_path / "e.csv", FileForm())


@pytest.mark.realdata
def test_workbooks_are_read(real_data: Path) -> None:
    columns, rows = read(
        real_data / "weighbridge-sandpit-signal-x.xlsx", FileForm(format="xlsx", header=False, columns=("n", "t"))
    )
    assert columns == ("n", "t")
    assert len(rows) > 1000
    assert all(line >= 1 for line, _ in rows)


@pytest.mark.realdata
@pytest.mark.parametrize("mapping", bundled(), ids=lambda m: m.name)
def test_each_bundled_mapping_reads_its_example(real_data: Path, mapping: Mapping) -> None:
    with open_rows(real_data / mapping.example, mapping.file) as rows:
        results = [r for r, _ in zip(Converter(mapping, rows.columns).convert(rows.rows), range(1200), strict=False)]
    assert len(results) == 1200
    assert not [r for r in results if isinstance(r, Fault)]
    for result in results[::100]:
        if isinstance(result, Made):
            event = json.loads(result.body)
            Catalog()[event["type"]].data.model_validate_json(json.dumps(event["data"]))
