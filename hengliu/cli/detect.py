"""``hengliu detect``: scores of a series in a file, one pass in time order."""

import contextlib
import csv
import math
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec
from rich.console import Console
from rich.table import Table

from connectors.files.convert import FAULTS, Converter, Fault, Made
from connectors.files.mapping import NULLS, FileForm, MappingFault, find_mapping
from connectors.files.mapping import Mapping as FileMapping
from connectors.files.readers import FileFault, open_rows
from connectors.files.times import TimeFault, Zone, read_stamp
from hengliu.events.catalog import Catalog
from hengliu.events.envelope import ms_of
from hengliu.events.family import Text
from hengliu.reference.codes import FINDING
from streams.detectors.base import Limits, Watch
from streams.detectors.catalog import DETECTORS, detector

__all__ = ["DetectError", "Point", "Scored", "detect_command", "limits_of", "points", "score_points"]

COLUMNS: Final = ("timestamp", "score", "warning")
EXPLAINED: Final = ("severity", "code", "parameters")
HOUR_MS: Final = 3_600_000
_MEMBERS: Final = ("value", "net_kg", "mass_kg", "total_kg", "price", "amount", "speed_kmh")
"""Members of an event that may be the series, the first that it has."""
_FORMS: Final = tuple(
    f"{day}{clock}"
    for day in ("%d/%m/%Y", "%Y/%m/%d", "%m/%d/%Y", "%d.%m.%Y", "%Y年%m月%d日")
    for clock in (" %H:%M", " %H:%M:%S", "")
)
"""Tried on the first row, before ISO 8601: what is ambiguous there is taken for day before month."""
_STAMPS: Final = ("timestamp", "datetime", "time", "date", "ts", "时间")
_VALUES: Final = ("value", "数值", "值")


class DetectError(Exception):
    """The run cannot go on."""

    def __init__(self, text: Text) -> None:
        super().__init__(f"{text.zh} / {text.en}")
        self.text = text


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the file. ``stamp`` is written out as it is; ``series`` is empty where a file holds one."""

    stamp: str
    time: int
    value: float | None
    series: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    point: Point
    score: float
    warning: bool
    severity: str
    code: str
    parameters: str
    late: bool


def detect_command(
    file: Path | None, name: str, mapping: str, out: str, list_: bool, settings: list[str], explain: bool, console: Console
) -> int:
    """Run the command; returns the exit code.

    0: every row was scored. 1: some rows could not be read, or came out of time order. 2: nothing was scored.
    """
    if list_:
        _list(console)
        return 0
    try:
        if file is None:
            raise DetectError(
                Text(
                    "用法：hengliu detect 文件 --detector 名称 --as 映射 --out 结果.csv",
                    "usage: hengliu detect FILE --detector NAME --as MAPPING --out SCORES.csv",
                )
            )
        if name not in DETECTORS:
            raise DetectError(
                Text(f"没有检测器 {name}；有：{'、'.join(DETECTORS)}", f"no detector {name}; there are {', '.join(DETECTORS)}")
            )
        faults: Counter[tuple[str, str]] = Counter()
        scored = score_points(points(file, mapping, faults), name, limits_of(settings))
        rows, late, warnings, several = _write(scored, out, explain)
    except (DetectError, FileFault) as error:
        _say(console, error.text)
        return 2
    except MappingFault as fault:
        console.print(f"[red]映射 {fault.name} 有误 / mapping {fault.name} has faults[/red]")
        for place, text in fault.faults:
            console.print(f"  {place}: {text.zh} / {text.en}", markup=False)
        return 2
    except OSError as error:
        _say(console, Text(f"无法写入 {out}：{error.strerror}", f"cannot write {out}: {error.strerror}"))
        return 2
    console.print(
        f"{rows} 行，{several} 个序列，{warnings} 次告警 / {rows} rows, {several} series, {warnings} warnings", highlight=False
    )
    if late:
        _say(
            console,
            Text(
                f"{late} 行不按时间顺序，按前一行的时刻判断",
                f"{late} rows out of time order, judged at the time of the row before",
            ),
        )
    for (code, column), count in sorted(faults.items()):
        words = FAULTS[code]
        _say(console, Text(f"{count} 行未读：{words.zh} {column}", f"{count} rows not read: {words.en} {column}"))
    return 1 if late or faults else 0


def _say(console: Console, text: Text) -> None:
    console.print(f"[red]{text.zh} / {text.en}[/red]", soft_wrap=True)


def _list(console: Console) -> None:
    table = Table("名称 / name", "内容 / what", "每序列内存上限 / most memory a series")
    for name in DETECTORS:
        one = detector(name)
        table.add_row(name, f"{one.title.zh} / {one.title.en}", f"{one.state_bytes} B")
    console.print(table)
    codes = Table("说明代码 / code", "含义 / meaning")
    for code, text in FINDING.items():
        codes.add_row(code, f"{text.zh} / {text.en}")
    console.print(codes)
    settings = ", ".join(f"{f.name}={f.default}" for f in fields(Limits))
    console.print(f"--set: {settings}", highlight=False, soft_wrap=True)


def limits_of(settings: list[str]) -> Limits:
    """Limits with ``name=value`` settings over the defaults.

    Raises:
        DetectError: an unknown name or no number.
    """
    limits = Limits()
    known = {f.name: f.type for f in fields(Limits)}
    for text in settings:
        name, _, value = text.partition("=")
        try:
            number: Any = float(value) if known[name] in (float, "float") else int(value)
            if not (math.isfinite(number) and number >= 0) or (name == "limit" and number == 0):
                raise ValueError(value)
        except KeyError as error:
            raise DetectError(
                Text(f"没有参数 {name}；有：{'、'.join(known)}", f"no parameter {name}; there are {', '.join(known)}")
            ) from error
        except ValueError as error:
            raise DetectError(Text(f"参数 {name} 的值不合适：{value}", f"parameter {name} cannot be {value!r}")) from error
        limits = replace(limits, **{name: number})
    return limits


def score_points(found: Iterator[Point], name: str, limits: Limits) -> Iterator[Scored]:
    """Scores in the order of the points; each series has its own detector, which sees each point once."""
    chosen = detector(name, limits)
    watches: dict[str, tuple[Watch, int]] = {}
    for point in found:
        watch, last = watches.get(point.series) or (chosen.open(), point.time)
        time = max(point.time, last)
        watches[point.series] = watch, time
        verdict = watch.observe(time, point.value)
        parameters = msgspec.json.encode(verdict.parameters).decode() if verdict.parameters else ""
        yield Scored(point, verdict.score, verdict.flagged, verdict.severity, verdict.code, parameters, point.time < last)


def _write(scored: Iterator[Scored], out: str, explain: bool) -> tuple[int, int, int, int]:
    """(rows, late rows, warnings, series). A file appears only whole, unless it is standard output."""
    first = next(scored, None)
    if first is None:
        raise DetectError(Text("文件没有数据行", "the file has no rows"))
    named = bool(first.point.series)
    rows = late = warnings = 0
    flagged: dict[str, bool] = {}
    part = Path(f"{out}.part")
    with contextlib.ExitStack() as stack:
        target: TextIO = sys.stdout if out == "-" else stack.enter_context(part.open("w", encoding="utf-8", newline=""))
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow((*COLUMNS, *(("series",) if named else ()), *(EXPLAINED if explain else ())))

        def put(one: Scored) -> None:
            nonlocal rows, late, warnings
            row = [one.point.stamp, f"{one.score:.6f}", "1" if one.warning else "0"]
            row += [one.point.series] if named else []
            row += [one.severity, one.code, one.parameters] if explain else []
            writer.writerow(row)
            rows += 1
            late += one.late
            warnings += one.warning and not flagged.get(one.point.series, False)
            flagged[one.point.series] = one.warning

        put(first)
        for one in scored:
            put(one)
    if out != "-":
        part.replace(out)
    return rows, late, warnings, len(flagged)


def points(file: Path, mapping: str, faults: Counter[tuple[str, str]]) -> Iterator[Point]:
    """The rows of a file.

    Args:
        mapping: a bundled mapping or a mapping's file; or ``TIME,VALUE``, the names of two columns; or empty: columns
            ``timestamp`` and ``value``, or the only two.
        faults: counts rows that a mapping could not read.

    Raises:
        DetectError, FileFault, MappingFault: the file or the mapping is not usable.
    """
    if mapping and "," not in mapping and mapping not in ("generic", "csv"):
        try:
            chosen = find_mapping(mapping)
        except FileNotFoundError as error:
            raise DetectError(
                Text(
                    f"没有映射 {mapping}；也可用“时间列,数值列”，如 --as timestamp,value",
                    f"no mapping {mapping}; two column names serve too, such as --as timestamp,value",
                )
            ) from error
        return _mapped(file, chosen, faults)
    return _plain(file, mapping if "," in mapping else "")


def _form_of(file: Path) -> FileForm:
    """The delimiter that splits the header most; GB 18030, which GBK is part of, where the beginning is no UTF-8."""
    header = ""
    for encoding in ("utf-8", "gb18030"):
        try:
            with open_rows(file, FileForm(delimiter="\x1f", quote="", encoding=encoding)) as rows:
                header = rows.columns[0] if rows.columns else ""
            break
        except FileFault:
            if encoding == "gb18030" or not file.is_file():
                raise
    return FileForm(delimiter=max(",;\t|", key=lambda one: (header.count(one), one == ",")), encoding=encoding)


def _plain(file: Path, named: str) -> Iterator[Point]:
    file_form = _form_of(file)
    comma = file_form.delimiter != ","
    with open_rows(file, file_form) as rows:
        columns = [column.strip() for column in rows.columns]
        stamp_at, value_at = _columns(columns, named)
        zone = Zone("UTC")
        form = ""
        for row in rows.rows:
            if len(row.cells) <= max(stamp_at, value_at):
                raise DetectError(Text(f"第 {row.line} 行列数不对", f"line {row.line}: wrong number of cells"))
            stamp, text = row.cells[stamp_at], row.cells[value_at]
            form = form or _form(stamp)
            try:
                time = zone.to_ms(read_stamp(stamp, form))
            except TimeFault as error:
                raise DetectError(
                    Text(f"第 {row.line} 行的时间读不懂：{stamp!r}", f"line {row.line}: not a time: {stamp!r}")
                ) from error
            yield Point(stamp, time, _number(text.replace(",", ".") if comma and "." not in text else text, row.line))


def _columns(columns: list[str], named: str) -> tuple[int, int]:
    if named:
        wanted = [one.strip() for one in named.split(",")]
        if len(wanted) != 2 or not all(wanted):
            raise DetectError(Text("应为“时间列,数值列”", "TIME,VALUE is expected: two column names"))
        missing = [one for one in wanted if one not in columns]
        if missing:
            raise DetectError(
                Text(
                    f"文件没有列 {'、'.join(missing)}；有：{'、'.join(columns)}",
                    f"the file has no column {', '.join(missing)}; it has {', '.join(columns)}",
                )
            )
        return columns.index(wanted[0]), columns.index(wanted[1])
    lower = [column.lower() for column in columns]
    stamp = next((lower.index(one) for one in _STAMPS if one in lower), 0 if len(columns) == 2 else -1)
    value = next((lower.index(one) for one in _VALUES if one in lower), 1 - stamp if len(columns) == 2 and stamp >= 0 else -1)
    if stamp < 0 or value < 0:
        raise DetectError(
            Text(
                f"看不出哪一列是时间、哪一列是数值；请写 --as 时间列,数值列；有：{'、'.join(columns)}",
                f"which columns are time and value? say --as TIME,VALUE; there are {', '.join(columns)}",
            )
        )
    return stamp, value


def _form(stamp: str) -> str:
    digits = stamp.replace(".", "", 1)
    if digits.isdecimal() and digits.isascii() and len(stamp.partition(".")[0]) >= 9:
        return "epoch-ms" if len(stamp.partition(".")[0]) >= 12 else "epoch-s"
    for form in _FORMS:
        with contextlib.suppress(TimeFault):
            read_stamp(stamp, form)
            return form
    return "iso"


def _number(text: str, line: int) -> float | None:
    if text in NULLS:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise DetectError(Text(f"第 {line} 行不是数：{text!r}", f"line {line}: not a number: {text!r}")) from error
    return value if math.isfinite(value) else None


def _mapped(file: Path, mapping: FileMapping, faults: Counter[tuple[str, str]]) -> Iterator[Point]:
    """The events that the mapping makes; a cumulative register becomes its rise per hour."""
    previous: dict[str, tuple[int, Decimal]] = {}
    with open_rows(file, mapping.file) as rows:
        for made in Converter(mapping, rows.columns, Catalog()).convert(rows.rows):
            if isinstance(made, Fault):
                faults[made.code, made.column] += 1
            if not isinstance(made, Made):
                continue
            event: dict[str, Any] = msgspec.json.decode(made.body)
            data = event["data"]
            member = next((one for one in _MEMBERS if one in data), None)
            if member is None:
                raise DetectError(Text(f"{event['type']} 没有可检测的数值", f"{event['type']} holds no number to watch"))
            series = ":".join((made.source, *(str(data[one]) for one in ("quantity", "flow") if one in data)))
            time = ms_of(msgspec.convert(event["time"], datetime))
            value: float | None
            if data.get("reading") == "register":
                now = Decimal(str(data[member]))
                before = previous.get(series)
                previous[series] = time, now
                rise = float(now - before[1]) * HOUR_MS / (time - before[0]) if before and time > before[0] else None
                value = rise if rise is not None and rise >= 0 else None
            else:
                value = float(data[member])
            yield Point(str(event["time"]), time, value, series)
