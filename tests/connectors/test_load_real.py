"""Slices of every real file through a whole platform, beside a city that goes on sending."""

import asyncio
import csv
import gzip
import io
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from connectors.files.command import load_file
from connectors.files.mapping import find_mapping
from hengliu.compose.engines import engines
from simulator.city import City, registry
from simulator.run import Feeder, wall_ms
from tests.connectors import asked, recount
from tests.e2e.deployment import Deployment
from tests.e2e.figures import settled

HOUR_MS = 3_600_000
MADRID = {  # a back-flow of 112 litres among hourly steps; a garbled pair; a doubled register; the hour that came twice
    "12913a45-9436-47d3-a25c-21bff410f1ee": ("2016-03-25", "2016-04-18"),
    recount.GARBLED: ("2016-09-24", "2016-10-05"),
    recount.DOUBLED: ("2017-01-10", "2017-01-21"),
    "cd27840f-ff51-4b15-aef4-4730f9ba284c": ("2016-10-29", "2016-11-01"),
}


def _keep_gz(source: Path, target: Path, keep: Callable[[int, bytes], bool]) -> None:
    with gzip.open(source) as lines, gzip.open(target, "wb") as out:
        out.writelines(line for number, line in enumerate(lines) if keep(number, line))


def _alicante(source: Path, target: Path) -> None:
    wanted = {meter.encode(): days for meter, days in MADRID.items()}
    kept: list[bytes] = []
    with zipfile.ZipFile(source) as archive, archive.open(archive.namelist()[0]) as lines:
        for number, line in enumerate(lines):
            days = wanted.get(line[:36])
            if number == 0 or (
                days and days[0] <= f"{line[43:47].decode()}-{line[40:42].decode()}-{line[37:39].decode()}" <= days[1]
            ):
                kept.append(line)
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("slice.csv", b"".join(kept))


def slices(data: Path, folder: Path) -> Path:
    """Parts of the real files, under their own names."""
    folder.mkdir()
    london = (b"2013-03-30", b"2013-03-31", b"2013-10-27")
    meters = (b"MAC000002", b"MAC000045", b"MAC000050")
    _keep_gz(data / recount.LONDON, folder / recount.LONDON,
             lambda n, line: n == 0 or (line[:9] in meters and line[10:20] in london))  # fmt: skip
    _keep_gz(data / recount.STEEL, folder / recount.STEEL, lambda n, _: n <= 4 * 96)
    _keep_gz(data / recount.JERSEY, folder / recount.JERSEY, lambda n, _: n < 400)
    _keep_gz(data / recount.BLANTYRE, folder / recount.BLANTYRE, lambda n, _: n == 0 or 600 < n < 900)
    _keep_gz(data / recount.METRO, folder / recount.METRO, lambda n, _: n <= 400)
    _alicante(data / recount.ALICANTE, folder / recount.ALICANTE)
    return folder


FILES = (
    ("london-electricity", recount.LONDON),
    ("steelworks", recount.STEEL),
    ("alicante-water", recount.ALICANTE),
    ("jersey-positions", recount.JERSEY),
    ("blantyre-gate", recount.BLANTYRE),
    ("metro-loads", recount.METRO),
)


async def figures(client: httpx.AsyncClient, part: Path) -> list[str]:
    """All differences between the tables and the slices."""
    water = recount.alicante(recount.alicante_rows(part))
    findings = {(f"alicante-{recount.DOUBLED}", "register-interleaved"): 1,
                (f"alicante-{recount.GARBLED}", "reading-implausible"): 1}  # fmt: skip
    return [
        *asked.differences("london", recount.london(part), await asked.consumption(client, "real-london")),
        *asked.differences("steel", recount.steel(part), await asked.hours(client, "steelworks-main")),
        *asked.differences("water", water, await asked.consumption(client, "real-alicante")),
        *asked.differences("finding", findings, await asked.warnings(client, "real-alicante")),
        *asked.differences("fix", recount.jersey(part), await asked.positions(client)),
        *asked.differences("passage", recount.blantyre(part), await asked.passages(client)),
        *asked.differences("load", recount.metro(part), await asked.declared_loads(client)),
    ]


async def until_equal(client: httpx.AsyncClient, part: Path, patience_s: float = 60) -> list[str]:
    for _ in range(int(patience_s)):
        left = await figures(client, part)
        if not left:
            return []
        await asyncio.sleep(1)
    return left


async def command(deployment: Deployment, file: Path, mapping: str) -> tuple[int, str]:
    """``hengliu load`` as a person runs it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hengliu", "load", str(file), "--as", mapping, env=deployment.environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def scenario(deployment: Deployment, part: Path) -> None:
    city = City(11, "tiny")
    await deployment.register(registry(city))
    until = wall_ms() // HOUR_MS * HOUR_MS
    start = until - 4 * HOUR_MS
    feeder = Feeder(city, deployment.url, deployment.token, start=start, until=until)
    async with asyncio.TaskGroup() as group:
        living = group.create_task(feeder.run())
        for name, file in FILES:
            report = await load_file(part / file, find_mapping(name), deployment.url, deployment.token)
            assert report.whole, (name, report.problems[:3])
            assert report.accepted > 200, name
    assert living.result().unexpected_count == 0
    async with deployment.client() as client:
        assert await until_equal(client, part) == []
        for name, file in FILES[1:]:
            report = await load_file(part / file, find_mapping(name), deployment.url, deployment.token)
            assert report.whole, (name, report.problems[:3])
            assert report.accepted == 0, name
        code, output = await command(deployment, part / FILES[0][1], FILES[0][0])
        assert code == 0, output
        assert f"{0:>12,}  接受 / accepted" in output
        assert await until_equal(client, part, 3) == []
        balance = feeder.world.ledger.as_of(until, time_outs=False)
        assert await settled(client, lambda: balance, start, until) == []
        steel = recount.steel(part)
        assert sum(steel.values()) == sum((await asked.hours(client, "steelworks-main")).values())


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_slices_beside_a_live_city(real_data: Path, tmp_path: Path) -> None:
    part = await asyncio.to_thread(slices, real_data, tmp_path / "part")
    async with Deployment(tmp_path / "data") as deployment:
        await scenario(deployment, part)


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.clickhouse
@pytest.mark.postgres
@pytest.mark.timeout(300)
async def test_slices_beside_a_live_city_on_servers(real_data: Path, tmp_path: Path) -> None:
    part = await asyncio.to_thread(slices, real_data, tmp_path / "part")
    async with engines(tmp_path / "engines") as urls, Deployment(tmp_path / "data", urls) as deployment:
        await scenario(deployment, part)


@pytest.mark.realdata
def test_the_midnight_rows_of_the_steelworks_end_the_day_that_they_name(real_data: Path) -> None:
    """Each day has 96 quarters in a row; with the stamps read as written, time would run backwards daily."""
    with gzip.open(real_data / recount.STEEL, "rt", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(io.StringIO(file.read())))
    found = recount.steel(real_data)
    assert min(found) == datetime(2017, 12, 31, 15)  # noqa: DTZ001 (2018-01-01 00:00 in Seoul)
    assert len(found) * 4 == len(rows)
    days: dict[str, Decimal] = {}
    for hour, amount in found.items():
        day = (hour + timedelta(hours=9)).strftime("%d/%m/%Y")
        days[day] = days.get(day, Decimal(0)) + amount
    second = [r for r in rows if r["date"].split()[0] == "2/1/2018"]
    assert len(second) == 96
    assert days["02/01/2018"] == sum(Decimal(r["Usage_kWh"]) for r in second)


@pytest.mark.realdata
def test_london_stamps_are_utc(real_data: Path) -> None:
    """In local time 01:00 would be missing on 31 March and doubled on 27 October; no meter has either."""
    hours: dict[tuple[bytes, bytes], int] = {}
    with gzip.open(real_data / recount.LONDON) as lines:
        for line in _on(lines, (b"2013-03-31 01", b"2013-10-27 01")):
            hours[line[:9], line[10:20]] = hours.get((line[:9], line[10:20]), 0) + 1
    assert len(hours) > 100
    assert set(hours.values()) == {2}


def _on(lines: gzip.GzipFile, stamps: tuple[bytes, ...]) -> Iterator[bytes]:
    return (line for line in lines if line[10:23] in stamps)
