"""``hengliu detect``: series from files that nobody here has seen."""

import csv
import gzip
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hengliu.cli import app
from streams.detectors.base import Limits
from streams.detectors.catalog import DETECTORS, detector

HOUR = 3_600_000


def series(count: int = 400) -> list[tuple[str, float]]:
    return [
        (f"2026-03-{1 + at // 24:02d} {at % 24:02d}:00:00", 50 + at * 7919 % 13 + (300 if at == 350 else 0))
        for at in range(count)
    ]


def written(path: Path, rows: list[tuple[str, float]], head: str = "timestamp,value", sep: str = ",") -> Path:
    path.write_text("\n".join([head, *(f"{stamp}{sep}{value}" for stamp, value in rows)]) + "\n", encoding="utf-8")
    return path


def detect(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["detect", *map(str, arguments)])


def scores(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", DETECTORS)
def test_scores_are_those_of_the_detector_row_by_row(name: str, tmp_path: Path) -> None:
    rows = series()
    done = detect(written(tmp_path / "a.csv", rows), "--detector", name, "--out", tmp_path / "s.csv")
    assert done.exit_code == 0, done.output
    found = scores(tmp_path / "s.csv")
    assert [tuple(row) for row in found[:1]] == [("timestamp", "score", "warning")]
    assert [row["timestamp"] for row in found] == [stamp for stamp, _ in rows]
    watch = detector(name, Limits()).open()
    for at, (row, (_, value)) in enumerate(zip(found, rows, strict=True)):
        verdict = watch.observe(1_772_323_200_000 + at * HOUR, value)
        assert (row["score"], row["warning"]) == (f"{verdict.score:.6f}", "1" if verdict.flagged else "0")
    assert not (tmp_path / "s.csv.part").exists()


def test_the_spike_is_flagged_and_explained(tmp_path: Path) -> None:
    detect(written(tmp_path / "a.csv", series()), "--out", tmp_path / "s.csv", "--explain")
    (spike,) = [row for row in scores(tmp_path / "s.csv") if float(row["score"]) > 0.5]
    assert spike["timestamp"] == "2026-03-15 14:00:00"
    assert spike["warning"] == "1"
    assert '"baseline"' in spike["parameters"]


def test_columns_by_name_other_delimiters_and_compression(tmp_path: Path) -> None:
    rows = series(50)
    plain = written(tmp_path / "a.csv", rows)
    assert detect(plain, "--out", tmp_path / "a.out").exit_code == 0
    semicolons = tmp_path / "b.csv"
    semicolons.write_text("id;when;load\n" + "".join(f"7;{stamp};{value}\n" for stamp, value in rows))
    assert detect(semicolons, "--as", "when,load", "--out", tmp_path / "b.out").exit_code == 0
    packed = tmp_path / "c.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert detect(packed, "--out", tmp_path / "c.out").exit_code == 0
    assert (tmp_path / "a.out").read_text() == (tmp_path / "b.out").read_text() == (tmp_path / "c.out").read_text()


def test_what_spreadsheets_write(tmp_path: Path) -> None:
    """Semicolons and decimal commas; Chinese names in GBK; days before months."""
    rows = series(50)
    detect(written(tmp_path / "a.csv", rows), "--out", tmp_path / "a.out")
    path = tmp_path / "b.csv"
    lines = [f"{s[8:10]}/03/2026 {s[11:16]};{v},0" for s, v in rows]
    path.write_bytes("\n".join(["时间;数值", *lines]).encode("gbk"))
    done = detect(path, "--out", tmp_path / "b.out")
    assert done.exit_code == 0, done.output
    assert [r["score"] for r in scores(tmp_path / "b.out")] == [r["score"] for r in scores(tmp_path / "a.out")]
    assert scores(tmp_path / "b.out")[0]["timestamp"] == "01/03/2026 00:00"


def test_epoch_stamps_and_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,value\n1772323200,5\n1772326800,\n1772330400,NaN\n1772334000,6\n")
    done = detect(path, "--out", tmp_path / "s.csv")
    assert done.exit_code == 0, done.output
    assert [row["timestamp"] for row in scores(tmp_path / "s.csv")] == ["1772323200", "1772326800", "1772330400", "1772334000"]


def test_a_mapping_with_several_series(tmp_path: Path) -> None:
    """A mapping's sources are series of their own, each scored as if it stood alone."""
    mapping = tmp_path / "two.toml"
    mapping.write_text(
        """
name = "two"
title = { zh = "两表", en = "two meters" }
[time]
column = "t"
zone = "UTC"
[interval]
minutes = 60
stamped = "end"
[event]
type = "meter.read"
source = "urn:dev:org:32473-{m}"
id = { from = "interval" }
[event.data]
meter = "{m}"
quantity = "electricity"
reading = "interval"
unit = "kWh"
value = { column = "v" }
"""
    )
    rows = series(300)
    path = tmp_path / "a.csv"
    path.write_text("t,m,v\n" + "".join(f"{s},{m},{v + (m == 'b')}\n" for s, v in rows for m in ("a", "b")))
    done = detect(path, "--as", mapping, "--out", tmp_path / "s.csv")
    assert done.exit_code == 0, done.output
    found = scores(tmp_path / "s.csv")
    assert {row["series"] for row in found} == {"urn:dev:org:32473-a:electricity", "urn:dev:org:32473-b:electricity"}
    alone = tmp_path / "alone.csv"
    detect(written(tmp_path / "b.csv", rows), "--out", alone)
    assert [row["score"] for row in found if "-a:" in row["series"]] == [row["score"] for row in scores(alone)]


def test_rows_out_of_order_are_told(tmp_path: Path) -> None:
    rows = series(50)
    rows[20], rows[21] = rows[21], rows[20]
    done = detect(written(tmp_path / "a.csv", rows), "--out", tmp_path / "s.csv")
    assert done.exit_code == 1
    assert "1 行不按时间顺序" in done.output
    assert "1 rows out of time order" in done.output
    assert len(scores(tmp_path / "s.csv")) == 50


def test_standard_output(tmp_path: Path) -> None:
    done = detect(written(tmp_path / "a.csv", series(3)), "--out", "-")
    assert done.stdout.splitlines()[:2] == ["timestamp,score,warning", "2026-03-01 00:00:00,0.000000,0"]


def test_a_parameter_changes_what_is_flagged(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", series())
    detect(path, "--out", tmp_path / "s.csv", "--set", "warm_samples=1000")
    assert [row for row in scores(tmp_path / "s.csv") if row["warning"] == "1"] == []


@pytest.mark.parametrize(
    ("arguments", "zh", "en"),
    [
        (["--detector", "x"], "没有检测器 x", "no detector x"),
        (["--as", "when,value"], "没有列 when", "no column when"),
        (["--as", "nowhere"], "没有映射 nowhere", "no mapping nowhere"),
        (["--set", "limit=-1"], "不合适：-1", "cannot be '-1'"),
        (["--set", "colour=3"], "没有参数 colour", "no parameter colour"),
    ],
)
def test_faults_are_told_in_both_languages(arguments: list[str], zh: str, en: str, tmp_path: Path) -> None:
    done = detect(written(tmp_path / "a.csv", series(3)), "--out", tmp_path / "s.csv", *arguments)
    assert done.exit_code == 2
    assert zh in done.output
    assert en in done.output
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(
    ("text", "zh", "en"),
    [
        ("timestamp,value\n", "没有数据行", "no rows"),
        ("timestamp,value\n2026-03-01 00:00:00,5\nsoon,6\n", "第 3 行的时间读不懂", "line 3: not a time"),
        ("timestamp,value\n2026-03-01 00:00:00,many\n", "第 2 行不是数", "line 2: not a number"),
        ("a,b,c\n1,2,3\n", "--as 时间列,数值列", "--as TIME,VALUE"),
        ("", "文件是空的", "the file is empty"),
    ],
)
def test_files_that_are_no_series(text: str, zh: str, en: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    done = detect(path, "--out", tmp_path / "s.csv")
    assert done.exit_code == 2
    assert zh in done.output
    assert en in done.output
    assert not (tmp_path / "s.csv").exists()


def test_the_list_names_every_detector_and_its_memory() -> None:
    done = detect("--list")
    assert done.exit_code == 0
    for name in DETECTORS:
        assert name in done.output
        assert str(detector(name).state_bytes) in done.output
