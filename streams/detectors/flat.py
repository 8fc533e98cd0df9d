"""Flat line: a value that stands still longer than it used to."""

from math import isfinite
from typing import Final

import msgspec

from hengliu.events.family import Text
from streams.detectors.base import Alarm, AlarmState, Limits, Verdict, shown

__all__ = ["FlatLine", "FlatState"]


class FlatState(msgspec.Struct, frozen=True, array_like=True):
    """``runs``: lengths of the longest ended runs, longest first."""

    value: float | None = None
    run: int = 0
    since: int = 0
    seen: int = 0
    runs: tuple[int, ...] = ()
    alarm: AlarmState = AlarmState()


class FlatLine:
    """The present run of equal values against the third longest run of the past; at least ``LEAST`` samples.

    The limit is three times that run: nights at zero are no flat line once three of them were seen, a meter that hangs is one.
    A series whose usual run is the whole series (a constant) is not flagged.
    """

    name: Final = "flat-line"
    title: Final = Text("数值停滞", "flat line")
    state_bytes: Final = 512
    state_type: Final = FlatState

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    def open(self, state: FlatState | None = None) -> "_Watch":
        return _Watch(self.limits, state or FlatState())


class _Watch:
    LEAST: Final = 12
    KEPT: Final = 8
    TIMES: Final = 3

    def __init__(self, limits: Limits, state: FlatState) -> None:
        self._value, self._run, self._since, self._seen = state.value, state.run, state.since, state.seen
        self._runs = state.runs
        self._limits = limits
        self._alarm = Alarm(limits, state.alarm)

    def observe(self, time: int, value: float | None) -> Verdict:
        if value is None or not isfinite(value):
            return self._alarm.pause()
        self._seen += 1
        if value == self._value:
            self._run += 1
        else:
            if self._run:
                self._runs = tuple(sorted((*self._runs, self._run), reverse=True)[: self.KEPT])
            self._value, self._run, self._since = value, 1, time
        usual = self._runs[min(2, len(self._runs) - 1)] if self._runs else 0
        limit = max(self.LEAST, self.TIMES * usual)
        # Before it has moved, a series that is constant cannot be told from one that hangs.
        known = self._seen - self._run >= min(self._limits.warm_samples, 4 * self.LEAST)
        deviation = self._run / limit if known else 0.0
        if deviation < 0.4 and self._alarm.closed:
            return self._alarm.judge(time, deviation)
        return self._alarm.judge(time, deviation, "flat-line", {
            "statistic": "run", "observed": str(self._run), "baseline": "third-run",
            "baseline_value": str(usual), "deviation": shown(deviation), "value": shown(value),
        })  # fmt: skip

    def state(self) -> FlatState:
        return FlatState(self._value, self._run, self._since, self._seen, self._runs, self._alarm.state())
