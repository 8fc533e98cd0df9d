"""The real files counted plainly: csv, Decimal and datetime, and nothing of the loader or the platform.

Zones are written out as the offsets that the files were looked at to have; rounding and units as docs/loading.md names them.
Every function takes how many data rows to count; None is all.
"""

import csv
import gzip
import io
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import islice
from pathlib import Path

LONDON = "electricity-london-half-hourly-2013.csv.gz"
STEEL = "electricity-steelworks-quarter-hourly-2018.csv.gz"
ALICANTE = "water-alicante-hourly-register.zip"
JERSEY = "truck-positions-jersey-city.csv.gz"
BLANTYRE = "gate-events-blantyre.csv.gz"
METRO = "weighbridge-metro-south-loads.csv.gz"

DOUBLED = "9348c9bb-e66e-4970-94c8-609ba5461ef2"
"""Two registers under one name from 2017-01-17 on: one beyond 450,000 L, one at 207,000 L."""
GARBLED = "1de2cf65-092d-4791-9257-374470bdb3c3"
"""Two readings of 2016-09-30 that nothing goes on from, far below all others."""


def _gz(path: Path) -> io.TextIOBase:
    return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")


def london(folder: Path, rows: int | None = None) -> dict[str, Decimal]:
    """kWh per meter."""
    total: dict[str, Decimal] = defaultdict(Decimal)
    with _gz(folder / LONDON) as file:
        for row in islice(csv.DictReader(file), rows):
            value = Decimal(row["energy(kWh/hh)"].strip())
            total["lcl-" + row["LCLid"]] += value.quantize(Decimal("0.000001"), rounding=ROUND_HALF_EVEN)
    return dict(total)


def steel(folder: Path, rows: int | None = None) -> dict[datetime, Decimal]:
    """kWh per hour, by the hour's start in UTC."""
    total: dict[datetime, Decimal] = defaultdict(Decimal)
    with _gz(folder / STEEL) as file:
        for row in islice(csv.DictReader(file), rows):
            date, clock = row["date"].split()
            day, month, year = map(int, date.split("/"))
            # NSM, seconds since midnight, says the same as the clock; 0 ends the day.
            seconds = int(row["NSM"]) or 86_400
            assert seconds % 86_400 == sum(int(p) * f for p, f in zip(clock.split(":"), (3600, 60), strict=True))
            start = datetime(year, month, day) + timedelta(seconds=seconds - 900, hours=-9)  # noqa: DTZ001
            total[start.replace(minute=0)] += Decimal(row["Usage_kWh"])
    return dict(total)


def alicante_rows(folder: Path, rows: int | None = None) -> Iterator[tuple[str, str, Decimal]]:
    """(meter, stamp, litres)."""
    with zipfile.ZipFile(folder / ALICANTE) as archive, archive.open(archive.namelist()[0]) as raw:
        for row in islice(csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8"), delimiter=";"), rows):
            yield row["user key"], row["datetime"], Decimal(row["meter reading"])


def alicante(found: Iterator[tuple[str, str, Decimal]]) -> dict[str, Decimal]:
    """m3 per meter: last minus first of each register. Back-flow is inside of it."""
    first: dict[tuple[str, bool], Decimal] = {}
    last: dict[tuple[str, bool], Decimal] = {}
    for meter, _, litres in found:
        register = (meter, meter == DOUBLED and litres < 300_000)
        first.setdefault(register, litres)
        last[register] = litres
    total: dict[str, Decimal] = defaultdict(Decimal)
    for (meter, which), litres in last.items():
        total["alicante-" + meter] += (litres - first[meter, which]) / 1000
    return dict(total)


def jersey(folder: Path, rows: int | None = None) -> Counter[tuple[str, datetime, Decimal, Decimal]]:
    """(truck, UTC, latitude, longitude). December: five hours behind."""
    with _gz(folder / JERSEY) as file:
        return Counter(
            (truck, datetime.fromisoformat(time) + timedelta(hours=5), Decimal(latitude), Decimal(longitude))
            for latitude, longitude, truck, _, time in islice(csv.reader(file, delimiter="|"), rows)
        )


def blantyre(folder: Path, rows: int | None = None) -> Counter[tuple[str, datetime, str | None]]:
    """(terminal, UTC in whole seconds, origin), without the three rows of clocks that were reset."""
    with _gz(folder / BLANTYRE) as file:
        return Counter(
            (row["deviceid"], datetime.fromisoformat(row["start"][:19]) - timedelta(hours=2), row["skip_origin"] or None)
            for row in islice(csv.DictReader(file), rows)
            if row["start"] > "2020-06"
        )


def metro(folder: Path, rows: int | None = None) -> dict[str, tuple[int, int]]:
    """Vehicle class to (loads, kg), each load rounded half to even."""
    total: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    with _gz(folder / METRO) as file:
        for row in islice(csv.DictReader(file), rows):
            loads, mass = total[row["Vehicle"]]
            kilograms = (Decimal(row["Tons"]) * Decimal("907.18474")).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
            total[row["Vehicle"]] = (loads + 1, mass + int(kilograms))
    return dict(total)
