"""The job that every contestant does: JSON decoded, one-minute tumbling windows of event time per device with sum, count,
minimum and maximum of gross less tare, final windows to a topic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import msgspec

from hengliu.ports.log import Headers, Record
from streams.kernel.windows import Result, WindowSpec

__all__ = ["PARTITIONS", "WINDOW_MS", "EnvelopeJob", "Flat", "FlatJob", "UniqueJob"]

PARTITIONS = 8
WINDOW_MS = 60_000
MINUTE = WindowSpec(WINDOW_MS)

Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]


class Flat(msgspec.Struct, gc=False):
    """The record; masses in kg, ``ts`` in ms. Members that the job does not read are not decoded."""

    device: str
    gross: Int64
    tare: Int64
    ts: Int64


class Numbered(Flat, gc=False):
    """The record with its number."""

    id: Int64


@lru_cache(maxsize=1_024)
def _headers(start: int) -> Headers:
    """Of one window's results: stamped with its end, since a broker deletes what is older than it keeps by its timestamp."""
    return Headers(received=start + WINDOW_MS, type="window.closed")


@dataclass(frozen=True, slots=True)
class FlatJob:
    """Net mass by device and minute."""

    window: WindowSpec = MINUTE

    name: ClassVar[str] = "net-by-device"
    record: ClassVar[Any] = Flat

    def ids(self, records: Sequence[Any]) -> Sequence[int] | None:
        return None

    def rows(self, records: Sequence[Any]) -> list[tuple[str, int, int]]:
        return [(r.device, r.ts, r.gross - r.tare) for r in records]

    def result(self, result: Result) -> Record:
        value = b'{"device":%s,"w":%d,"sum":%d,"n":%d,"mn":%d,"mx":%d}' % (
            msgspec.json.encode(result.key), result.start, result.total, result.records, result.minimum, result.maximum,
        )  # fmt: skip
        return Record(result.key.encode(), value, _headers(result.start))


class Enveloped(msgspec.Struct, gc=False):
    """The platform's envelope around the record."""

    data: Flat


class EnvelopeJob(FlatJob):
    """The same, of the platform's own events. Their headers are not looked at."""

    name: ClassVar[str] = "net-by-device-enveloped"
    record: ClassVar[Any] = Enveloped

    def rows(self, records: Sequence[Any]) -> list[tuple[str, int, int]]:
        return super().rows([r.data for r in records])


class UniqueJob(FlatJob):
    """The same, counting each number once."""

    name: ClassVar[str] = "net-by-device-unique"
    record: ClassVar[Any] = Numbered

    def ids(self, records: Sequence[Any]) -> Sequence[int] | None:
        return [r.id for r in records]
