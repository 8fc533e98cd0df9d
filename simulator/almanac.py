"""Days and hours of the city: public holidays, shifts, and how hard each kind of works runs in each hour.

All local times are those of Asia/Shanghai, UTC+8 without summer time since 1992.
"""

from datetime import UTC, date, datetime, timedelta

__all__ = [
    "DAY_MS",
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

HOLIDAYS: tuple[tuple[date, date], ...] = (
    (date(2025, 1, 1), date(2025, 1, 1)),
    (date(2025, 1, 28), date(2025, 2, 4)),
    (date(2025, 4, 4), date(2025, 4, 6)),
    (date(2025, 5, 1), date(2025, 5, 5)),
    (date(2025, 5, 31), date(2025, 6, 2)),
    (date(2025, 10, 1), date(2025, 10, 8)),
    (date(2026, 1, 1), date(2026, 1, 3)),
    (date(2026, 2, 15), date(2026, 2, 23)),
    (date(2026, 4, 4), date(2026, 4, 6)),
    (date(2026, 5, 1), date(2026, 5, 5)),
    (date(2026, 6, 19), date(2026, 6, 21)),
    (date(2026, 9, 25), date(2026, 9, 27)),
    (date(2026, 10, 1), date(2026, 10, 7)),
)
"""First and last day of each public holiday: 国务院办公厅关于2025年部分节假日安排的通知 (2024-11-12) and
国务院办公厅关于2026年部分节假日安排的通知 (2025-11-04). Years outside the table have none; no figure depends on it,
only how busy a day is."""

_HOLIDAY_DAYS = frozenset(
    (first + timedelta(days=n)).toordinal() for first, last in HOLIDAYS for n in range((last - first).days + 1)
)
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
_HOLIDAY_PERCENT = {"mine": 40, "washing": 50, "trader": 10, "other": 20}


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
        percent = percent * _HOLIDAY_PERCENT.get(kind, 100) // 100
    return percent
