"""Days and hours of the city: public holidays, shifts, and how hard each kind of works runs in each hour.

All local times are those of Asia/Shanghai, UTC+8 without summer time since 1992.
"""

from datetime import UTC, date, datetime, timedelta

from hengliu.reference.holidays import HOLIDAYS

__all__ = [
    "DAY_MS",
    "HOLIDAY_PERCENT",
    "HOUR_MS",
    "MINUTE_MS",
    "WORK_HOURS",
    "day_start",
    "is_holiday",
    "local_date",
    "local_hour",
    "works_percent",
]

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
SHANGHAI_MS = 8 * HOUR_MS

_HOLIDAY_DAYS = frozenset(
    (first + timedelta(days=n)).toordinal() for first, last in HOLIDAYS for n in range((last - first).days + 1)
)
"""Days of the one table of public holidays; years outside it have none. How busy a day is follows from it, and no figure."""
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

WORK_HOURS = {"day": (7, 19), "night": (19, 7), "both": (0, 24)}
"""First and last local hour of a driver's duty; ``both``: two drivers share the truck."""

_HOURS: dict[str, tuple[int, ...]] = {
    # Percent of the mean rate by local hour. Mines: 08-14 is the maintenance shift (检修班) with one face in work.
    "mine": (115,) * 8 + (70,) * 6 + (115,) * 10,
    "washing": (85,) * 6 + (105,) * 18,
    "coking": (100,) * 24,
    "power": (85, 82, 80, 80, 82, 88, 95, 100, 103, 105, 105, 104, 102, 100, 100, 101, 104, 108, 115, 118, 115, 108, 98, 90),
    "chemical": (100,) * 24,
    "trader": (20,) * 7 + (120,) * 12 + (20,) * 5,
    "other": (30,) * 7 + (140,) * 12 + (30,) * 5,
}
HOLIDAY_PERCENT = {"mine": 40, "washing": 50, "trader": 10, "other": 20}
"""How hard works of a kind run on a public holiday, percent of another day; the rest run on."""


def local_date(ms: int) -> date:
    """Calendar day in Asia/Shanghai."""
    return datetime.fromtimestamp((ms + SHANGHAI_MS) // 1000, UTC).date()


def local_hour(ms: int) -> int:
    return (ms + SHANGHAI_MS) // HOUR_MS % 24


def day_start(ms: int) -> int:
    """Midnight in Asia/Shanghai at or before ``ms``."""
    return (ms + SHANGHAI_MS) // DAY_MS * DAY_MS - SHANGHAI_MS


def is_holiday(ms: int) -> bool:
    return _EPOCH_ORDINAL + (ms + SHANGHAI_MS) // DAY_MS in _HOLIDAY_DAYS


def works_percent(kind: str, ms: int) -> int:
    """How hard a works of this kind runs at ``ms``, percent of its mean rate."""
    percent = _HOURS[kind][local_hour(ms)]
    if is_holiday(ms):
        percent = percent * HOLIDAY_PERCENT.get(kind, 100) // 100
    return percent
