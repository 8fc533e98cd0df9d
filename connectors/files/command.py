"""``hengliu load``: the command line of file loading."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from connectors.files.client import Loader, LoadError, Report
from connectors.files.convert import FAULTS, Converter
from connectors.files.mapping import Mapping as FileMapping
from connectors.files.mapping import MappingFault, bundled, find_mapping
from connectors.files.readers import FileFault, Row, Rows, open_rows
from hengliu.events.catalog import Catalog
from hengliu.events.family import Text
from hengliu.reference.problems import PROBLEMS

__all__ = ["load_command", "load_file", "registrations"]

SHOWN: Final = 20
"""Problems printed line by line; all are counted."""

_T = TypeVar("_T")

_TROUBLE: Final = {
    "": "",
    "connection": "连接中断，重试 / connection lost, retrying",
    "busy": "平台繁忙，稍候 / platform busy, waiting",
    "server": "平台出错，重试 / platform error, retrying",
}


def load_command(file: Path | None, mapping: str, list_: bool, url: str, token_file: Path, limit: int, console: Console) -> int:
    """Run the command; returns the exit code.

    0: every row was read and every event taken (now or before). 1: rows or events were refused, or the platform went away.
    2: nothing was begun, since mapping, file or token are not usable.
    """
    if list_:
        _list(console)
        return 0
    try:
        if file is None or not mapping:
            raise LoadError(Text("用法：hengliu load 文件 --as 映射", "usage: hengliu load FILE --as MAPPING"))
        chosen = find_mapping(mapping)
        token = token_file.read_text(encoding="ascii").strip()
    except LoadError as error:
        _say(console, error.text)
    except MappingFault as fault:
        console.print(f"[red]映射 {fault.name} 有误 / mapping {fault.name} has faults[/red]")
        for place, text in fault.faults:
            console.print(f"  {place}: {text.zh} / {text.en}", markup=False)
    except FileNotFoundError as missing:
        if missing.filename is not None:
            _say(console, Text(f"没有令牌文件 {missing.filename}", f"no token file {missing.filename}"))
        else:
            _say(
                console,
                Text(f"没有映射 {mapping}；hengliu load --list 列出全部", f"no mapping {mapping}; see hengliu load --list"),
            )
    except (OSError, UnicodeDecodeError) as error:
        _say(console, Text(f"令牌不可读：{error}", f"the token cannot be read: {error}"))
    else:
        return _load(chosen, file, url, token, limit, console)
    return 2


def _say(console: Console, text: Text) -> None:
    console.print(f"[red]{text.zh} / {text.en}[/red]", soft_wrap=True)


def _list(console: Console) -> None:
    table = Table(show_lines=True)
    table.add_column("映射 / mapping", no_wrap=True)
    table.add_column("内容，事件，文件示例 / what, event, example file", overflow="fold")
    for one in bundled():
        types = ", ".join(event.type for event in one.event)
        table.add_row(one.name, f"{one.title.zh} / {one.title.en}\n{types} · {one.example}")
    console.print(table)
    console.print("自写映射：--as 映射文件.toml / a mapping of your own: --as FILE.toml (docs/loading.md)", highlight=False)


def registrations(mapping: FileMapping) -> list[tuple[str, dict[str, Any]]]:
    """What to register before the first row, in the order that each thing needs the one before."""
    declared = mapping.registration
    return [
        *(("districts", dict(one)) for one in declared.districts),
        *(("enterprises", dict(one)) for one in declared.enterprises),
        *(("sites", dict(one)) for one in declared.sites),
    ]


@contextmanager
def _converted(file: Path, mapping: FileMapping, limit: int) -> Iterator[tuple[Loader | None, Rows, Iterator[Any]]]:
    with open_rows(file, mapping.file) as rows:
        converter = Converter(mapping, rows.columns, Catalog())
        found: Iterator[Row] = islice(rows.rows, limit) if limit else rows.rows
        yield None, rows, converter.convert(found)


async def load_file(file: Path, mapping: FileMapping, url: str, token: str, *, limit: int = 0, **options: Any) -> Report:
    """Load a file without a screen; ``options`` are those of ``Loader``.

    Raises:
        FileFault: the file is not what the mapping says.
        LoadError: the platform is away or refuses the requests.
    """
    with _converted(file, mapping, limit) as (_, _, results):
        return await Loader(url, token, results, registrations(mapping), **options).run()


def _load(mapping: FileMapping, file: Path, url: str, token: str, limit: int, console: Console) -> int:
    began = time.monotonic()
    report: Report | None = None
    ended: Text | None = None
    try:
        with (
            _converted(file, mapping, limit) as (_, rows, results),
            Progress(
                TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[counts]}"),
                TimeRemainingColumn(), console=console, transient=console.is_terminal,
            ) as bar,
        ):  # fmt: skip
            task = bar.add_task(mapping.name, total=1.0, counts="")
            plain = [0.0]

            def show(now: Report) -> None:
                # Read ahead is not done: of what was read, the share that was answered.
                done = rows.done() * now.settled / max(1, now.results)
                rate = now.events / max(1e-6, time.monotonic() - began)
                counts = f"{now.results:,} 行 rows · {now.events:,} 事件 events · {rate:,.0f}/s {_TROUBLE[now.trouble]}"
                bar.update(task, completed=done, counts=counts)
                if not console.is_terminal and time.monotonic() - plain[0] >= 5:
                    plain[0] = time.monotonic()
                    left = (plain[0] - began) * (1 - done) / max(1e-6, done)
                    console.print(f"{done:.0%} {counts} · 剩余 left {left:.0f} s", highlight=False, soft_wrap=True)

            loader = Loader(url, token, results, registrations(mapping), progress=show)
            report = loader.report
            asyncio.run(loader.run())
            bar.update(task, completed=1.0)
    except (LoadError, FileFault) as error:
        ended = error.text
    except KeyboardInterrupt:
        ended = Text("已中断；再次执行会接着载入，不会重复计数", "interrupted; run it again to go on, nothing is counted twice")
    if report is not None:
        _summary(report, time.monotonic() - began, console)
    if ended is not None:
        _say(console, ended)
        return 2 if report is None else 1
    return 0 if report is not None and report.whole else 1


def _summary(report: Report, seconds: float, console: Console) -> None:
    def line(zh: str, en: str, count: int) -> None:
        console.print(f"  {count:>12,}  {zh} / {en}", markup=False, highlight=False, soft_wrap=True)

    rate = report.events / max(1e-6, seconds)
    console.print(f"用时 {seconds:.1f} s，{rate:,.0f} 事件/s / took {seconds:.1f} s, {rate:,.0f} events/s", highlight=False)
    line("接受", "accepted", report.accepted)
    line("重复（不再计数）", "duplicate (not counted again)", report.duplicate)
    for code, count in report.refused.most_common():
        line(f"拒绝：{_title(code).zh}", f"refused: {_title(code).en} ({code})", count)
    for reasons, zh, en in ((report.skipped, "无事件", "no event"), (report.faults, "不可读", "not readable")):
        for (code, column), count in reasons.most_common():
            where = f" [{column}]" if column else ""
            line(f"{zh}：{FAULTS[code].zh}{where}", f"{en}: {FAULTS[code].en}", count)
    if report.devices:
        line("已登记设备", "devices registered", report.devices)
    if report.retries:
        line("重试", "requests repeated", report.retries)
    for problem in report.problems[:SHOWN]:
        words = FAULTS.get(problem.code) or _title(problem.code)
        text = f"第 {problem.line} 行 / line {problem.line}: {words.zh} / {words.en} ({problem.code}) "
        console.print(text + f"{problem.column} {problem.detail}", markup=False, highlight=False, soft_wrap=True)
    more = report.refused.total() + report.faults.total() - min(SHOWN, len(report.problems))
    if more > 0:
        console.print(f"另有 {more:,} 个问题 / and {more:,} more", highlight=False)


def _title(code: str) -> Text:
    known: Mapping[str, Any] = PROBLEMS
    return known[code].title if code in known else Text(code, code)
