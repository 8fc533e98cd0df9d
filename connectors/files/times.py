"""Times in files: a stamp as written, its zone, and what to do in the hours that a clock change repeats or leaves out.

A stamp in a zone with summer time names two instants in one hour of autumn and none in one hour of spring. The policies:

``ambiguous``
    ``earlier`` and ``later`` take that of the two; ``refuse`` takes none; ``cadence`` takes the one whose distance from the
    previous row of the same source is nearer to the cadence, and the earlier one for a source's first row. The last is for
    files in which both hours stand one after the other.
``nonexistent``
    ``shift`` reads the stamp by the offset from before the change (a clock that was not put forward); ``refuse``.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

__all__ = ["EPOCH", "Ambiguous", "Nonexistent", "TimeFault", "Zone", "read_stamp"]

EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 (naive UTC: arithmetic on it is several times faster)
_MS: Final = timedelta(milliseconds=1)

Ambiguous = Literal["earlier", "later", "refuse", "cadence"]
Nonexistent = Literal["shift", "refuse"]


class TimeFault(Exception):
    """A stamp that gives no instant. ``code``: ``time-form``, ``time-ambiguous``, ``time-nonexistent``."""

    def __init__(self, code: str, value: str) -> None:
        super().__init__(f"{code}: {value}")
        self.code = code
        self.value = value


def read_stamp(text: str, form: str) -> datetime | int:
    """A naive or aware datetime, or epoch milliseconds.

    Args:
        form: ``iso``, ``epoch-s``, ``epoch-ms`` or a pattern of ``datetime.strptime`` with digits only.

    Raises:
        TimeFault: the text is not of that form.
    """
    try:
        if form == "iso":
            return datetime.fromisoformat(text)
        if form == "epoch-ms":
            return int(text)
        if form == "epoch-s":
            whole, _, rest = text.partition(".")
            return int(whole) * 1000 + (int(rest[:3].ljust(3, "0")) if rest else 0)
        return datetime.strptime(text, form)  # noqa: DTZ007 (the zone is the mapping's)
    except ValueError as error:
        raise TimeFault("time-form", text) from error


@dataclass(slots=True)
class Zone:
    """Local stamps of one file to UTC milliseconds."""

    name: str
    ambiguous: Ambiguous = "refuse"
    nonexistent: Nonexistent = "refuse"
    cadence_ms: int = 0
    _zone: ZoneInfo = field(init=False)
    _offsets: dict[tuple[int, int], int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._zone = ZoneInfo(self.name)

    def local(self, ms: int) -> datetime:
        """The naive local time of an instant."""
        return (EPOCH.replace(tzinfo=UTC) + timedelta(milliseconds=ms)).astimezone(self._zone).replace(tzinfo=None)

    def to_ms(self, stamp: datetime | int, previous_ms: int | None = None) -> int:
        """Epoch ms of a stamp; an aware one says its offset itself, microseconds are cut.

        Args:
            previous_ms: the previous row of the same source, for ``cadence``.

        Raises:
            TimeFault: a policy refuses it.
        """
        if isinstance(stamp, int):
            return stamp
        if stamp.tzinfo is not None:
            return (stamp.astimezone(UTC).replace(tzinfo=None) - EPOCH) // _MS
        wall = (stamp - EPOCH) // _MS
        # Every zone's changes since 1970 fall on quarter hours.
        place = (stamp.toordinal(), stamp.hour * 4 + stamp.minute // 15)
        offset = self._offsets.get(place)
        if offset is not None:
            return wall - offset
        first, second = (self._offset(stamp.replace(fold=fold)) for fold in (0, 1))
        if first == second:
            if len(self._offsets) > 4096:
                self._offsets.clear()
            self._offsets[place] = first
            return wall - first
        if first < second:
            if self.nonexistent == "refuse":
                raise TimeFault("time-nonexistent", stamp.isoformat())
            return wall - first
        return self._of_two(wall - first, wall - second, previous_ms, stamp)

    def _of_two(self, early: int, late: int, previous_ms: int | None, stamp: datetime) -> int:
        if self.ambiguous == "refuse":
            raise TimeFault("time-ambiguous", stamp.isoformat())
        if self.ambiguous == "later":
            return late
        if self.ambiguous == "earlier" or previous_ms is None:
            return early
        expected = previous_ms + self.cadence_ms
        return late if abs(late - expected) < abs(early - expected) else early

    def _offset(self, stamp: datetime) -> int:
        offset = stamp.replace(tzinfo=self._zone).utcoffset()
        assert offset is not None, "a zone has an offset at every time"
        return offset // _MS
