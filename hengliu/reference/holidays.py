"""Public holidays of the People's Republic of China, as the State Council's office arranges them year by year.

Sources: 国务院办公厅关于2025年部分节假日安排的通知 (12 November 2024) and
国务院办公厅关于2026年部分节假日安排的通知 (4 November 2025). Days that are worked in exchange (调休上班) are ordinary days
here. Years outside the table have none: a rule that asks takes further days as a parameter.
"""

from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from typing import Final

__all__ = ["HOLIDAYS", "SPANS", "is_holiday", "spans_of"]

HOLIDAYS: Final[tuple[tuple[date, date], ...]] = (
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
"""First and last day of each."""

SPANS: Final = r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}(?:/[0-9]{4}-[0-9]{2}-[0-9]{2})?(?:,|$))*"
"""Form of further days as a rule's parameter: ``2027-01-01/2027-01-03,2027-02-05``."""

_EPOCH: Final = date(1970, 1, 1).toordinal()


def _numbers(spans: Iterable[tuple[date, date]]) -> frozenset[int]:
    return frozenset(n - _EPOCH for first, last in spans for n in range(first.toordinal(), last.toordinal() + 1))


_DAYS: Final = _numbers(HOLIDAYS)


@lru_cache(maxsize=64)
def spans_of(text: str) -> frozenset[int]:
    """Days named by text of the form ``SPANS``; what is no date does not count."""
    found: list[tuple[date, date]] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("/")
        try:
            found.append((date.fromisoformat(first), date.fromisoformat(last or first)))
        except ValueError:
            continue
    return _numbers((a, b) for a, b in found if (b - a).days < 366)


def is_holiday(number: int, further: str = "") -> bool:
    """Whether the day with this number (1970-01-01 is 0) is one, of the table or of ``further``."""
    return number in _DAYS or number in spans_of(further)
