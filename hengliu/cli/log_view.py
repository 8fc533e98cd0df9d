"""``hengliu log``: topics, offsets, tail. Reads only; works beside a running platform."""

import asyncio
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from hengliu.compose.adapters import open_log_for_reading
from hengliu.events.envelope import iso_ms
from hengliu.ports.log import CLOCK_TYPE, EventLog, Slice, TopicPartition
from hengliu.settings import Settings

console = Console(highlight=False)


async def _partitions(log: EventLog, topic: str | None = None) -> list[TopicPartition]:
    specs = await log.topics()
    return [TopicPartition(s.name, p) for s in specs if topic in (None, s.name) for p in range(s.partitions)]


async def topics(settings: Settings) -> int:
    """Print topic, kind and partitions."""
    async with open_log_for_reading(settings) as log:
        table = Table("主题 topic", "类别 kind", "分区 partitions")
        for spec in await log.topics():
            table.add_row(spec.name, spec.kind, str(spec.partitions))
    console.print(table)
    return 0


async def offsets(settings: Settings) -> int:
    """Print the end position of each partition. Positions are sparse: they are not counts."""
    async with open_log_for_reading(settings) as log:
        ends = await log.end_positions(await _partitions(log))
    table = Table("主题 topic", "分区 partition", "末尾位置 end position")
    for tp, end in sorted(ends.items()):
        table.add_row(tp.topic, str(tp.partition), str(end))
    console.print(table)
    console.print("位置有空缺，不等于条数 / positions have gaps; they are not counts", style="dim")
    return 0


def _print(pieces: Sequence[Slice], clocks: bool) -> None:
    for piece in pieces:
        for offset, value, headers in zip(piece.offsets, piece.values, piece.headers, strict=True):
            if headers.type == CLOCK_TYPE and not clocks:
                continue
            text = value.decode("utf-8", "backslashreplace")
            console.print(
                f"{piece.topic}/{piece.partition}/{offset} {iso_ms(headers.received)} {headers.type} {text}",
                markup=False,
                soft_wrap=True,
            )


async def tail(settings: Settings, topic: str, last: int, follow: bool, clocks: bool) -> int:
    """Print the last records of each partition, then follow."""
    async with open_log_for_reading(settings) as log:
        tps = await _partitions(log, topic)
        if not tps:
            console.print(f"没有主题 {topic} / there is no topic {topic}", style="red")
            return 1
        ends = await log.end_positions(tps)
        for tp in tps:
            start = max(0, ends[tp] - 1)
            found: Slice | None = None
            # Offsets are sparse and clock records are many: step back until enough is found or the start is reached.
            step = max(last, 1) * 4
            while last:
                piece = await log.read_range(tp, max(0, start - step), ends[tp])
                wanted = [i for i, h in enumerate(piece.headers) if clocks or h.type != CLOCK_TYPE][-last:]
                if len(wanted) == last or start - step <= 0:
                    found = Slice(
                        piece.topic, piece.partition, piece.position, piece.next_position,
                        [piece.offsets[i] for i in wanted], [piece.keys[i] for i in wanted],
                        [piece.values[i] for i in wanted], [piece.headers[i] for i in wanted],
                    )  # fmt: skip
                    break
                step *= 4
            if found is not None:
                _print([found], clocks)
        if follow:
            reader = await log.open_reader(ends)
            try:
                while True:
                    _print(await reader.poll(1_000, 1_000), clocks)
                    await asyncio.sleep(0)
            finally:
                await reader.close()
    return 0
