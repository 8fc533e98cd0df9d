"""Drift: a level that moves slowly, a little each week."""

from math import isfinite
from typing import Final

import msgspec

from hengliu.events.family import Text
from streams.detectors.base import Alarm, AlarmState, Limits, Verdict, shown
from streams.detectors.parts import BIG, Sample, SampleState

__all__ = ["Drift", "DriftState"]


class DriftState(msgspec.Struct, frozen=True, array_like=True):
    origin: float | None = None
    values: SampleState = SampleState()
    deviation: float = 0.0
    old: float = 0.0
    new: float = 0.0
    alarm: AlarmState = AlarmState()


class Drift:
    """Medians of the oldest and the newest third of the long-run sample, in robust scales of what lies within the thirds.

    The sample spans up to 4,096 values, so that days and weeks weigh the same in both thirds; half a scale per unit of
    deviation is 2: the limit is one and a half scales.
    """

    name: Final = "drift"
    title: Final = Text("缓慢漂移", "drift")
    state_bytes: Final = 1_024
    state_type: Final = DriftState

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    def open(self, state: DriftState | None = None) -> "_Watch":
        return _Watch(self.limits, state or DriftState())


class _Watch:
    LIMIT: Final = 1.5

    def __init__(self, limits: Limits, state: DriftState) -> None:
        self._origin, self._deviation, self._old, self._new = state.origin, state.deviation, state.old, state.new
        self._values = Sample(state.values)
        self._alarm = Alarm(limits, state.alarm)

    def observe(self, time: int, value: float | None) -> Verdict:
        if value is None or not isfinite(value):
            return self._alarm.pause()
        if self._origin is None:
            self._origin = value
        if self._values.add(max(-BIG, min(BIG, value - self._origin))) and self._values.full:
            self._compare()
        if self._deviation < 0.4 and self._alarm.closed:
            return self._alarm.judge(time, self._deviation)
        origin = self._origin
        return self._alarm.judge(time, self._deviation, "drift", {
            "statistic": "thirds", "observed": shown(self._new + origin), "baseline": "oldest-third",
            "baseline_value": shown(self._old + origin), "deviation": shown(self._deviation * self.LIMIT),
        })  # fmt: skip

    def _compare(self) -> None:
        values = self._values.values
        third = len(values) // 3
        old, new = sorted(values[:third]), sorted(values[-third:])
        self._old, self._new = old[third // 2], new[third // 2]
        within = (old[third * 3 // 4] - old[third // 4] + new[third * 3 // 4] - new[third // 4]) / 2 / 1.349
        self._deviation = abs(self._new - self._old) / max(within, self._values.resolution()) / self.LIMIT

    def state(self) -> DriftState:
        return DriftState(self._origin, self._values.state(), self._deviation, self._old, self._new, self._alarm.state())
