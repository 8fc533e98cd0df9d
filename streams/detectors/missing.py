"""Missing data: samples that did not come, or came without a value."""

from math import isfinite
from typing import Final

import msgspec

from hengliu.events.family import Text
from streams.detectors.base import Alarm, AlarmState, Limits, Verdict, shown
from streams.detectors.parts import Cadence, CadenceState

__all__ = ["Missing", "MissingState"]


class MissingState(msgspec.Struct, frozen=True, array_like=True):
    cadence: CadenceState = CadenceState()
    alarm: AlarmState = AlarmState()


class Missing:
    """The time since the last value, in usual distances; the limit is three (two samples missing).

    A single pass over samples sees a gap when something comes again, or when a sample comes without its value.
    """

    name: Final = "missing"
    title: Final = Text("数据缺失", "missing data")
    state_bytes: Final = 512
    state_type: Final = MissingState

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    def open(self, state: MissingState | None = None) -> "_Watch":
        return _Watch(self.limits, state or MissingState())


class _Watch:
    LIMIT: Final = 3.0

    def __init__(self, limits: Limits, state: MissingState) -> None:
        self._cadence = Cadence(limits.cadence_s, state.cadence)
        self._alarm = Alarm(limits, state.alarm)

    def observe(self, time: int, value: float | None) -> Verdict:
        gap = self._cadence.gap(time)
        deviation = gap / self.LIMIT if gap > 1.5 else 0.0
        usual, last = self._cadence.usual(), self._cadence.last
        if value is not None and isfinite(value):
            self._cadence.add(time)
        if deviation < 0.4 and self._alarm.closed:
            return self._alarm.judge(time, deviation)
        return self._alarm.judge(time, deviation, "missing", {
            "statistic": "gap", "observed": str(max(0, time - last) // 1000), "baseline": "cadence",
            "baseline_value": str(usual // 1000), "deviation": shown(gap),
        })  # fmt: skip

    def state(self) -> MissingState:
        return MissingState(self._cadence.state(), self._alarm.state())
