"""Sales: what an enterprise sold on a day against what it usually sells.

The baseline is the enterprise's own and robust: the median of the same weekday in the last eight weeks, or where there are too
few of them, of the last 28 days; the spread is 1.4826 times the median absolute deviation (which makes it comparable with a
standard deviation, Rousseeuw and Croux 1993), but at least a share of the median, and at least what chance alone makes of the
number of loads (the median over the root of the tickets of a median day, as of a Poisson count): who sells ten loads a day
sells six or fifteen on another. So one odd day moves neither.

On a public holiday little is not abnormal, much is; holidays are not learned from.

A day is of Asia/Shanghai and is judged once, when it is over and settled: `settle_s` after its end, and an hour after its last
ticket came. What comes after that changes the baseline, not the verdict. More than 14 days open at once (old files are being
loaded): the oldest is judged at once. A day without a ticket is not judged, because missing is not zero: that devices fell
silent is another warning. Nor is the first day that was ever seen, which may have begun in its middle.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isqrt
from typing import ClassVar, Final, NamedTuple

import msgspec

from hengliu.events.envelope import iso_ms, ms_of
from hengliu.reference import holidays
from hengliu.reference.holidays import is_holiday
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import Scratch, State
from streams.operators.records import DAY_MS, HOUR_MS, Event, warning, warning_id
from streams.operators.timers import TIMER_TABLE, TimerRow, Timers
from streams.rules.policy import parameter, policy_of

__all__ = ["Day", "Sales", "SalesPolicy", "Seller"]

_SELLERS = "sellers"
_SHANGHAI_MS = 8 * HOUR_MS
_HELD_DAYS = 70
_OPEN_DAYS = 14
_WEEKDAY_SPAN = 56
_RECENT_SPAN = 28


@dataclass(frozen=True, slots=True)
class SalesPolicy:
    """Parameters of rule ``sales-volume``. Scores are in tenths of a spread."""

    rule: ClassVar[str] = "sales-volume"
    RULE_VERSION: ClassVar[int] = 1

    raise_score: int = parameter(
        35,
        unit="1/10",
        zh="发布阈值（离散度的十分之一）",
        en="Score that raises, in tenths of a spread",
        minimum=1,
        maximum=10_000,
    )
    clear_score: int = parameter(
        20, unit="1/10", zh="解除阈值（离散度的十分之一）", en="Score below which it is cleared", minimum=0, maximum=10_000
    )
    high_percent: int = parameter(
        50, unit="%", zh="至少高出基线", en="Least excess over the baseline", minimum=0, maximum=10_000
    )
    low_percent: int = parameter(50, unit="%", zh="至少低于基线", en="Least shortfall below it", minimum=0, maximum=100)
    spread_percent: int = parameter(
        10, unit="%", zh="离散度下限占基线", en="Least spread, as a share of the baseline", minimum=1, maximum=100
    )
    min_baseline_t: int = parameter(
        100, unit="t", zh="基线低于此值不判", en="Least baseline that is judged", minimum=0, maximum=10_000_000
    )
    same_weekdays: int = parameter(
        4, zh="同星期几至少样本数", en="Days of the same weekday that make a baseline", minimum=2, maximum=8
    )
    recent_days: int = parameter(5, zh="否则至少样本天数", en="Otherwise days of any weekday", minimum=3, maximum=28)
    free_days: str = parameter(
        "",
        zh="其他放假日（日期或起/止，逗号分隔）",
        en="Further free days (date, or first/last; comma-separated)",
        pattern=holidays.SPANS,
    )
    settle_s: int = parameter(
        21_600, unit="s", zh="日终后等待时限", en="How long after its end a day is judged", minimum=0, maximum=604_800
    )


class _Pane(msgspec.Struct, frozen=True):
    enterprise: str
    division: str
    start: datetime
    direction: str
    net_kg: int
    tickets: int


class Day(msgspec.Struct, frozen=True):
    """What one day sold. ``settled``: recorded time (ms), an hour after its last pane. ``first``, ``last``: ids of panes."""

    number: int
    kg: int
    settled: int
    first: str
    last: str
    tickets: int


class Seller(msgspec.Struct, frozen=True):
    """One enterprise: its days, ascending and at most 70 (about 8 KB), and the warning that stands.

    ``began`` is the earliest day seen, which is not held; ``judged`` the last day judged; ``raised`` the day that began the
    standing warning (0: none), ``sign`` +1 for too much and -1 for too little.
    """

    days: tuple[Day, ...]
    began: int
    judged: int
    division: str
    raised: int = 0
    sign: int = 0
    severity: str = ""


class _Baseline(NamedTuple):
    kg: int
    spread_kg: int
    days: int
    of: str


def _number(time: int) -> int:
    """Number of the Asia/Shanghai day that holds ``time``; 1970-01-01 is 0, a Thursday."""
    return (time + _SHANGHAI_MS) // DAY_MS


def _start(number: int) -> int:
    return number * DAY_MS - _SHANGHAI_MS


def _median(values: list[int]) -> int:
    """Of at least one value; of an even number the mean of the middle two, rounded down."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2


class Sales:
    """``flow.summed`` of direction ``out`` to ``warning.raised``, ``.updated`` and ``.cleared``, code ``sales-abnormal``."""

    name: Final = "sales"
    version: Final = 1
    inputs: Final = frozenset({"flow.summed"})
    emits: Final = frozenset({"warning.raised", "warning.updated", "warning.cleared"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_SELLERS: Seller, TIMER_TABLE: TimerRow}

    _decoders: Final = {"flow.summed": msgspec.json.Decoder(Event[_Pane])}

    def __init__(self, policy: SalesPolicy = SalesPolicy()) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        timers = Timers(scratch)
        events: list[Emit] = []
        for row, pane in batch.decode(self._decoders):
            events += self._fire(scratch, timers, state, batch.received[row])
            if pane.data.direction == "out":
                events += self._add(scratch, timers, state, batch, row, pane)
        events += self._fire(scratch, timers, state, batch.clock)
        timers.save()
        return Effects(events, scratch.changes)

    def _add(
        self, scratch: Scratch, timers: Timers, state: State, batch: Batch, row: int, pane: Event[_Pane]
    ) -> Iterator[Emit]:
        data, received = pane.data, batch.received[row]
        number = _number(ms_of(data.start))
        seller: Seller = scratch.get(_SELLERS, data.enterprise) or Seller((), number, number, data.division)
        if number <= seller.began:
            scratch.put(_SELLERS, data.enterprise, msgspec.structs.replace(seller, began=number))
            return
        days = {d.number: d for d in seller.days}
        settled = (received // HOUR_MS + 2) * HOUR_MS
        if (known := days.get(number)) is None:
            days[number] = Day(number, data.net_kg, settled, pane.id, pane.id, data.tickets)
        else:
            days[number] = msgspec.structs.replace(
                known, kg=known.kg + data.net_kg, settled=settled, last=pane.id, tickets=known.tickets + data.tickets
            )
        held = tuple(sorted(days.values(), key=lambda d: d.number)[-_HELD_DAYS:])
        seller = msgspec.structs.replace(seller, days=held, division=data.division)
        if number > seller.judged:
            timers.set(self._due(state, days[number]), data.enterprise)
        open_ = [d for d in held if d.number > seller.judged]
        if len(open_) > _OPEN_DAYS:
            emits, seller = self._judge(state, data.enterprise, seller, open_[0], received, batch.known_at(row))
            yield from emits
        scratch.put(_SELLERS, data.enterprise, seller)

    def _due(self, state: State, day: Day) -> int:
        end = _start(day.number + 1)
        policy, _ = policy_of(state, self._policy, end) or (self._policy, 0)
        return max(end + policy.settle_s * 1000, day.settled)

    def _fire(self, scratch: Scratch, timers: Timers, state: State, until: int) -> Iterator[Emit]:
        while (timer := timers.pop(until)) is not None:
            due, enterprise = timer
            seller: Seller | None = scratch.get(_SELLERS, enterprise)
            if seller is None:
                continue
            for day in seller.days:
                if day.number <= seller.judged:
                    continue
                if (waits := self._due(state, day)) > due:
                    timers.set(waits, enterprise)
                    break
                emits, seller = self._judge(state, enterprise, seller, day, due, due)
                yield from emits
            scratch.put(_SELLERS, enterprise, seller)

    def _judge(
        self, state: State, enterprise: str, seller: Seller, day: Day, at: int, known_at: int
    ) -> tuple[list[Emit], Seller]:
        """The verdict on one day, and the seller after it."""
        before, seller = seller, msgspec.structs.replace(seller, judged=day.number)
        found = policy_of(state, self._policy, _start(day.number + 1))
        policy, version = found or (self._policy, self._policy.RULE_VERSION)
        baseline = _baseline(before.days, day, policy) if found is not None else None
        if baseline is None and found is not None:
            return [], seller  # nothing to compare with: what stands goes on standing
        score = 0
        parameters = {"day": iso_ms(_start(day.number) + _SHANGHAI_MS)[:10], "sold_kg": str(day.kg)}
        if baseline is not None:
            over = day.kg - baseline.kg
            score = abs(over) * 10 // baseline.spread_kg * (1 if over > 0 else -1)
            parameters |= {
                "baseline_kg": str(baseline.kg),
                "spread_kg": str(baseline.spread_kg),
                "baseline_days": str(baseline.days),
                "baseline_of": baseline.of,
                "deviation_percent": str(over * 100 // baseline.kg),
                "score": f"{'-' if score < 0 else ''}{abs(score) // 10}.{abs(score) % 10}",
            }
        sign = _sign(score, day.kg, baseline, policy)
        if score < 0 and is_holiday(day.number, policy.free_days):
            return [], seller
        severity = "high" if abs(score) >= 2 * policy.raise_score else "medium"

        def change(what: str, of: Seller) -> Emit:
            return warning(
                what, warning_id(self.name, self.version, enterprise, of.raised, of.sign), "sales-abnormal",
                severity=of.severity, subject=enterprise, scope=(enterprise, "", seller.division),
                parameters={**parameters, "deviation": "high" if of.sign > 0 else "low"},
                since=_start(of.raised), time=_start(day.number + 1), at=at, known_at=known_at,
                cause=day.first if day.first == day.last else f"{day.first}..{day.last}",
                rule=policy.rule, rule_version=version, sequence=day.number,
            )  # fmt: skip

        emits: list[Emit] = []
        if seller.raised and (
            sign == seller.sign or (sign == 0 and abs(score) >= policy.clear_score and score * seller.sign > 0)
        ):
            seller = msgspec.structs.replace(seller, severity=severity)
            return [change("updated", seller)], seller
        if seller.raised:
            emits.append(change("cleared", seller))
            seller = msgspec.structs.replace(seller, raised=0, sign=0, severity="")
        if sign:
            seller = msgspec.structs.replace(seller, raised=day.number, sign=sign, severity=severity)
            emits.append(change("raised", seller))
        return emits, seller


def _baseline(days: tuple[Day, ...], day: Day, policy: SalesPolicy) -> _Baseline | None:
    """From the days before ``day``, whatever was said of them: a median bears that. None: too few, or too little."""
    ages = {d: day.number - d.number for d in days if not is_holiday(d.number, policy.free_days)}
    weekday = [d for d, age in ages.items() if 0 < age <= _WEEKDAY_SPAN and age % 7 == 0]
    recent = [d for d, age in ages.items() if 0 < age <= _RECENT_SPAN]
    if len(weekday) >= policy.same_weekdays:
        found, of = weekday, "weekday"
    elif len(recent) >= policy.recent_days:
        found, of = recent, "recent"
    else:
        return None
    median = _median([d.kg for d in found])
    if median < max(policy.min_baseline_t * 1_000, 1):
        return None
    mad = _median([abs(d.kg - median) for d in found])
    chance = isqrt(median * median // max(_median([d.tickets for d in found]), 1))
    spread = max(mad * 14_826 // 10_000, median * policy.spread_percent // 100, chance, 1)
    return _Baseline(median, spread, len(found), of)


def _sign(score: int, kg: int, baseline: _Baseline | None, policy: SalesPolicy) -> int:
    """+1: abnormally much, -1: abnormally little, 0: neither."""
    if baseline is None or abs(score) < policy.raise_score:
        return 0
    if score > 0:
        return 1 if kg * 100 >= baseline.kg * (100 + policy.high_percent) else 0
    return -1 if kg * 100 <= baseline.kg * (100 - policy.low_percent) else 0
