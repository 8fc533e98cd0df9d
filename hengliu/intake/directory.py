"""Which device stands where: the registry as intake needs it, to stamp scope.

Fed from every partition of the registry topic, and at once from what this process itself commits there. Applying a record
twice changes nothing, so both ways may bring the same one. Joins are by valid-from at the event's time, never by arrival.

Sites and devices are held for ever (a few hundred bytes each); an event of 2013 needs the device as it stood in 2013.
"""

import asyncio
import contextlib
import logging
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from hengliu.events import topics
from hengliu.events.envelope import iso_ms, ms_of
from hengliu.ports.log import EventLog, Headers, LogError, LogReader, TopicPartition

__all__ = ["Directory", "Scope", "Unscoped"]

logger = logging.getLogger(__name__)

_ALWAYS = -(2**62)
DEVICE = "device.registered"
SITE = "site.registered"


@dataclass(frozen=True, slots=True)
class Scope:
    """What intake stamps into the headers, and whether the device chains its events."""

    enterprise: str = ""
    site: str = ""
    division: str = ""
    chained: bool = False


@dataclass(frozen=True, slots=True)
class Unscoped:
    """No scope: code and parameters of the refusal."""

    code: str
    parameters: Mapping[str, str]


class _DeviceData(msgspec.Struct):
    source: str
    site: str
    chained: bool = False
    valid_from: datetime | None = None


class _SiteData(msgspec.Struct):
    site: str
    enterprise: str
    division: str
    valid_from: datetime | None = None


class _DeviceEvent(msgspec.Struct):
    id: str
    source: str
    data: _DeviceData


class _SiteEvent(msgspec.Struct):
    id: str
    source: str
    data: _SiteData


T = TypeVar("T")


class _History(Generic[T]):
    """Versions of one thing by valid-from. Of two with the same valid-from the one received later holds, then the greater
    identity, so that the order in which they are read does not matter."""

    __slots__ = ("_marks", "_values")

    def __init__(self) -> None:
        self._marks: list[tuple[int, int, str]] = []
        self._values: list[T] = []

    def put(self, valid_from: int, received: int, identity: str, value: T) -> None:
        mark = (valid_from, received, identity)
        at = bisect_right(self._marks, mark)
        if at and self._marks[at - 1] == mark:
            return
        self._marks.insert(at, mark)
        self._values.insert(at, value)

    def at(self, time_ms: int) -> T | None:
        found = bisect_right(self._marks, time_ms, key=_valid_from)
        return self._values[found - 1] if found else None

    def last(self) -> T:
        return self._values[-1]


def _valid_from(mark: tuple[int, int, str]) -> int:
    return mark[0]


class Directory:
    """Devices and sites by time, read from the log.

    Args:
        log: where the registry topic lies.
        partitions: the common partition count.
    """

    def __init__(self, log: EventLog, partitions: int) -> None:
        self._log = log
        self._tps = [TopicPartition(topics.REGISTRY, p) for p in range(partitions)]
        self._devices: dict[str, _History[tuple[str, bool]]] = {}
        self._sites: dict[str, _History[tuple[str, str]]] = {}
        self._read: dict[TopicPartition, int] = dict.fromkeys(self._tps, 0)
        self._advanced = asyncio.Condition()
        self._device = msgspec.json.Decoder(_DeviceEvent)
        self._site = msgspec.json.Decoder(_SiteEvent)
        self._task: asyncio.Task[None] | None = None
        self.unreadable = 0
        """Registry records passed over because they could not be decoded."""

    async def start(self) -> None:
        """Read everything there is, then follow. Returns when what was there at the call has been read."""
        if self._task is not None:
            return
        ends = await self._log.end_positions(self._tps)
        self._task = asyncio.create_task(self._follow(), name="intake-directory")
        try:
            for tp, end in ends.items():
                await self.wait_until_read(tp, end)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def wait_until_read(self, tp: TopicPartition, position: int) -> None:
        """Return when every record of ``tp`` before ``position`` stamps scope.

        Raises:
            LogUnavailable: following has ended with an error and would never get there.
        """
        async with self._advanced:
            while self._read[tp] < position:
                if self._task is not None and self._task.done() and not self._task.cancelled():
                    self._task.result()
                await self._advanced.wait()

    async def _follow(self) -> None:
        delay_s = 0.1
        while True:
            reader: LogReader | None = None
            try:
                reader = await self._log.open_reader(dict(self._read))
                while True:
                    slices = await reader.poll(10_000, 100)
                    for part in slices:
                        for headers, value in zip(part.headers, part.values, strict=True):
                            self._apply_safely(headers, value)
                    async with self._advanced:
                        for tp in self._tps:
                            self._read[tp] = max(self._read[tp], reader.position(tp))
                        self._advanced.notify_all()
                    delay_s = 0.1
            except LogError:
                logger.warning("the registry cannot be read; next try in %.1f s", delay_s, exc_info=True)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, 5.0)
            finally:
                if reader is not None:
                    with contextlib.suppress(LogError):
                        await reader.close()

    def _apply_safely(self, headers: Headers, value: bytes) -> None:
        # Intake validated what stands there; a foreign writer did not. One bad record must not blind intake to the rest.
        try:
            self.apply(headers, value)
        except msgspec.MsgspecError:
            self.unreadable += 1
            logger.exception("a %s record of the registry cannot be read; passed over", headers.type)

    def apply(self, headers: Headers, value: bytes) -> None:
        """Take one record of the registry topic; types that do not matter here are passed over."""
        if headers.type == DEVICE:
            device = self._device.decode(value)
            valid_from = _ALWAYS if device.data.valid_from is None else ms_of(device.data.valid_from)
            self._devices.setdefault(device.data.source, _History()).put(
                valid_from, headers.received, f"{device.source}\0{device.id}", (device.data.site, device.data.chained)
            )
        elif headers.type == SITE:
            site = self._site.decode(value)
            valid_from = _ALWAYS if site.data.valid_from is None else ms_of(site.data.valid_from)
            self._sites.setdefault(site.data.site, _History()).put(
                valid_from, headers.received, f"{site.source}\0{site.id}", (site.data.enterprise, site.data.division)
            )

    def scope_of(self, source: str, time_ms: int) -> Scope | Unscoped:
        """Where the device of a source stood at a time."""
        history = self._devices.get(source)
        if history is None:
            return Unscoped("device-unknown", {"source": source})
        device = history.at(time_ms)
        if device is None:
            return Unscoped("device-not-valid", {"source": source, "time": iso_ms(time_ms)})
        site, chained = device
        places = self._sites.get(site)
        place = places.at(time_ms) if places is not None else None
        if place is None:
            return Unscoped("site-unknown", {"site": site, "time": iso_ms(time_ms)})
        return Scope(place[0], site, place[1], chained)

    def scope_of_registration(self, data: Mapping[str, object]) -> Scope:
        """Scope of a registry event, from what it registers: its own members, and its site as last registered."""
        site = data.get("site")
        enterprise = data.get("enterprise")
        division = data.get("division")
        if isinstance(site, str) and not isinstance(enterprise, str) and site in self._sites:
            enterprise, division = self._sites[site].last()
        return Scope(_text(enterprise), _text(site), _text(division))

    def __len__(self) -> int:
        """Devices known."""
        return len(self._devices)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
