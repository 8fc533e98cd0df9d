"""``hengliu simulate``: feed a running platform from a terminal."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text as RichText

from simulator.almanac import DAY_MS, HOUR_MS
from simulator.city import SIZES, City
from simulator.irregular import PROFILES
from simulator.run import Feeder, FeedError, FeedReport, Progress, wall_ms

__all__ = ["simulate"]


def _start_ms(text: str | None, history_hours: float, now: int) -> int:
    if text is None:
        return now - int(history_hours * HOUR_MS)
    if text == "now":
        return now
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} 不是 ISO 8601 时间 / is no ISO 8601 time: 2026-03-01T00:00+08:00, now", param_hint="--start"
        ) from error
    if instant.tzinfo is None:
        raise typer.BadParameter(f"{text!r} 缺少时区 / has no offset: {text}+08:00", param_hint="--start")
    return int(instant.timestamp() * 1000)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} 既非 max 也不是数字 / is neither max nor a number", param_hint="--speed") from error
    if not 0 < speed <= 100_000:
        raise typer.BadParameter(
            "速度应大于 0 且不超过 100000 / a speed lies above 0 and not above 100000", param_hint="--speed"
        )
    return speed


def progress_line(p: Progress) -> str:
    """One line for people: phase, city time, percent, events a second, time left, what is wrong."""
    when = datetime.fromtimestamp(p.city_ms / 1000, UTC).strftime("%Y-%m-%d %H:%MZ")
    text = f"{p.phase:8}{when}  {p.percent:5.1f} %  {p.events:,} events  {p.events_per_s:,.0f}/s"
    if p.seconds_left is not None and p.phase in ("history", "skip"):
        text += f"  {p.seconds_left:,.0f} s left"
    text += f"  refused {p.refused:,}"
    if p.unexpected:
        text += f"  UNEXPECTED {p.unexpected:,}"
    trouble = {
        "connection": "no connection, trying again",
        "busy": "platform is busy, waiting",
        "server": "server error, trying again",
    }
    return text + (f"  ({trouble[p.trouble]})" if p.trouble else "")


@contextlib.contextmanager
def _shown(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A line that changes in place; where nobody looks (a file, a service), one line every ten seconds and at each phase."""
    if console.is_terminal:
        with Live(RichText(""), console=console, refresh_per_second=4, transient=True) as live:
            yield lambda p: live.update(RichText(progress_line(p)))
        return
    last = ("", 0.0)

    def plain(p: Progress) -> None:
        nonlocal last
        if p.phase != last[0] or time.monotonic() - last[1] >= 10:
            last = (p.phase, time.monotonic())
            console.print(progress_line(p), soft_wrap=True, highlight=False)

    yield plain


async def _run(feeder: Feeder, seconds: float | None) -> FeedReport:
    task = asyncio.ensure_future(feeder.run())
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, task.cancel)
    with contextlib.suppress(asyncio.CancelledError, TimeoutError):
        return await asyncio.wait_for(task, seconds)
    return feeder.report


def simulate(
    url: Annotated[
        str, typer.Option(help="平台地址 / address of a running platform.", envvar="HENGLIU_URL")
    ] = "http://127.0.0.1:8000",
    token_file: Annotated[
        Path,
        typer.Option(help="设备令牌文件，演示会写好 / file with the bearer token of the city's devices; the demo writes it."),
    ] = Path("var/demo.token"),
    seed: Annotated[
        int,
        typer.Option(help="种子：不同种子是不同城市，须已在平台登记 / another seed is another city, registered beforehand."),
    ] = 1,
    size: Annotated[str, typer.Option(help=f"规模 / size: {', '.join(SIZES)}.")] = "demo",
    irregularities: Annotated[
        str,
        typer.Option(help=f"安插异常 / plant irregularities: {', '.join(PROFILES)}."),
    ] = "none",
    start: Annotated[
        str | None,
        typer.Option(
            help="城市起始时刻：带时区的 ISO 8601 或 now / first instant: ISO 8601 with offset, or now; see --history-hours."
        ),
    ] = None,
    history_hours: Annotated[
        float, typer.Option(help="未给 --start 时从多少小时前开始 / without --start: how long ago the city starts.", min=0.0)
    ] = 36.0,
    days: Annotated[
        float | None,
        typer.Option(help="城市运行多少天后停止，缺省不停 / stop after so many days of the city; default: never.", min=0.0),
    ] = None,
    speed: Annotated[
        str,
        typer.Option(help="城市时间流速：数字或 max（尽快），1 为实时 / city seconds a second: a number, or max; 1 is live."),
    ] = "1",
    state: Annotated[
        Path | None,
        typer.Option(
            help="在此文件记下进度，再次启动时续传 / remember here what was acknowledged, and go on there when started again."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="每个请求最多几个事件 / events per request, at most.", min=1, max=10_000)] = 500,
    in_flight: Annotated[int, typer.Option(help="同时进行的请求数 / requests at the same time.", min=1, max=64)] = 2,
    seconds: Annotated[
        float | None, typer.Option(help="运行多少秒后停止 / stop after so many seconds of your time.", min=0.0)
    ] = None,
) -> None:
    """让一座虚构的煤炭城市像真实设备那样，向运行中的平台发送读数。

    Let a made-up coal city send its readings to a running platform, as its devices would.

    过去的数据尽快发送；到当前时刻后按 --speed 的速度进行。重复发送无害，平台会答 duplicate。
    What lies in the past is sent as fast as the platform takes it; from now on the city keeps the pace of --speed.
    Sending anything twice is harmless: the platform answers "duplicate".

    示例 / examples:

      hengliu simulate                         最近 36 小时，然后实时 / 36 hours, then live

      hengliu simulate --start now --speed 60  从现在起一秒一分钟 / a minute each second, from now

      hengliu simulate --start 2026-03-01T00:00+08:00 --days 30 --speed max --size month
    """
    if size not in SIZES:
        raise typer.BadParameter(f"{size!r}：应为以下之一 / is none of {', '.join(SIZES)}", param_hint="--size")
    if irregularities not in PROFILES:
        raise typer.BadParameter(
            f"{irregularities!r}：应为以下之一 / is none of {', '.join(PROFILES)}", param_hint="--irregularities"
        )
    console = Console(stderr=True)
    try:
        token = token_file.read_text("utf-8").strip()
    except OSError as error:
        console.print(
            f"[red]没有令牌 / no token:[/] {error}\n演示把令牌写在 $HENGLIU_DATA_DIR/demo.token，用 --token-file 指明。\n"
            "The demo writes one to $HENGLIU_DATA_DIR/demo.token; name it with --token-file."
        )
        raise typer.Exit(2) from error
    now = wall_ms()
    start_ms = _start_ms(start, history_hours, now)
    pace = _speed(speed)
    until = None if days is None else start_ms + int(days * DAY_MS)
    live_from = max(start_ms, now) if pace is not None else None
    if until is not None and live_from is not None:
        live_from = min(live_from, until)
    try:
        with _shown(console) as show:
            feeder = Feeder(City(seed, size, irregularities), url, token, start=start_ms, until=until, speed=pace,
                            live_from=live_from, position=state, batch=batch, in_flight=in_flight, progress=show)  # fmt: skip
            report = asyncio.run(_run(feeder, seconds))
    except (FeedError, ValueError) as error:
        console.print(f"[red]已停止 / stopped:[/] {error}")
        raise typer.Exit(1) from error
    for odd in report.unexpected[:10]:
        console.print(
            f"expected {odd['expected']}, got {odd['status']}: {odd['type']} {odd['id']} of {odd['source']}: {odd['problem']}"
        )
    console.print(
        f"{report.events:,} events: {report.accepted:,} accepted, {report.duplicates:,} duplicates, {report.refused:,} refused "
        f"({report.unexpected_count:,} unexpected), {report.retries:,} requests repeated"
    )
    if report.unexpected_count:
        raise typer.Exit(1)
