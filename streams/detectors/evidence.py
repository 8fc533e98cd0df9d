"""Statistics of one series and how surprising each of them is by the series' own past.

| statistic | compares | with |
|---|---|---|
| ``extreme`` | the value | long-run median and scale |
| ``level-short``, ``level-long`` | mean of the last 6, 36 values | the same |
| ``spike`` | the value | median of the 12 before it; scale of such differences |
| ``season``, ``season-short``, ``season-long`` | mean residual of 1, 6, 36 from the seasonal baseline | past residuals |
| ``movement`` | mean step of the last 36 values (logarithm) | such means of the past: too restless, or too still |

Each becomes z, its distance in robust scales, and then by ``parts.Tail`` a surprise in decades. So no distribution is assumed:
a series that is always spiky has a heavy tail, and only what stands out of *that* is surprising. A gap of more than six usual
distances empties the short windows.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import exp, isfinite, log, log1p
from typing import Final, NamedTuple

import msgspec

from streams.detectors.base import Alarm, AlarmState, Limits, Verdict, shown
from streams.detectors.parts import (
    BIG,
    Cadence,
    CadenceState,
    Recent,
    Sample,
    SampleState,
    Season,
    SeasonState,
    Tail,
    TailState,
)

__all__ = ["EXPLAINS", "LONG", "SHORT", "STATE_BYTES", "STATISTICS", "Evidence", "EvidenceState", "Found", "StatisticWatch"]

SHORT: Final = 6
LONG: Final = 36
AROUND: Final = 12
STATISTICS: Final[tuple[str, ...]] = (
    "extreme", "level-short", "level-long", "spike", "season", "season-short", "season-long", "movement",
)  # fmt: skip
EXPLAINS: Final[Mapping[str, str]] = {
    "extreme": "extreme", "level-short": "level-shift", "level-long": "level-shift", "spike": "spike", "season": "off-season",
    "season-short": "off-season", "season-long": "off-season", "movement": "unrest",
}  # fmt: skip
"""Statistic to the code that explains it; ``movement`` below its past is ``stillness``."""

STATE_BYTES: Final = 8_704
"""Tails 2.9 kB, long-run samples 2 kB, hours of the week 2.9 kB, the rest: windows, names."""


class Found(NamedTuple):
    """One statistic of one sample. ``size`` is log(1 + |z|), what its tail learns."""

    statistic: str
    size: float
    surprise: float
    z: float
    observed: float
    baseline: float
    basis: str


class EvidenceState(msgspec.Struct, frozen=True, array_like=True):
    origin: float | None = None
    cadence: CadenceState = CadenceState()
    values: SampleState = SampleState()
    steps: SampleState = SampleState()
    residuals: SampleState = SampleState()
    moves: SampleState = SampleState()
    season: SeasonState | None = None
    recent: bytes = b""
    recent_residuals: bytes = b""
    tails: dict[str, TailState] = {}
    alarm: AlarmState = AlarmState()


class _Plan(NamedTuple):
    """What follows from the statistics that are wanted: they themselves in order, which means are taken of values and of
    residuals (statistic, count), and whether any other is asked for."""

    names: tuple[str, ...]
    levels: tuple[tuple[str, int], ...]
    seasons: tuple[tuple[str, int], ...]
    spike: bool
    movement: bool


@lru_cache(maxsize=16)
def _plan(wanted: tuple[str, ...]) -> _Plan:
    def those(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
        return tuple((name, count) for name, count in counts.items() if name in wanted)

    return _Plan(
        tuple(name for name in STATISTICS if name in wanted),
        those({"extreme": 1, "level-short": SHORT, "level-long": LONG}),
        those({"season": 1, "season-short": SHORT, "season-long": LONG}),
        "spike" in wanted,
        "movement" in wanted,
    )


class Evidence:
    """The statistics of one series, those that are wanted."""

    FIRST: Final = 30
    """Values before any statistic is made; then its tail begins to learn."""

    def __init__(self, wanted: Sequence[str], limits: Limits, state: EvidenceState) -> None:
        plan = self._plan = _plan(tuple(wanted))
        self._origin = state.origin
        self._cadence = Cadence(limits.cadence_s, state.cadence)
        self._values, self._steps = Sample(state.values), Sample(state.steps)
        self._residuals, self._moves = Sample(state.residuals), Sample(state.moves)
        self._season = Season(state.season or SeasonState()) if plan.seasons else None
        self._recent, self._recent_residuals = Recent(LONG, state.recent), Recent(LONG, state.recent_residuals)
        size = Tail.SIZE // limits.sides
        self._tails = {name: Tail(limits.warm_samples, state.tails.get(name, TailState()), size) for name in plan.names}
        self._falls = self._tails if limits.sides == 1 else {
            name: Tail(limits.warm_samples, state.tails.get(f"{name}-", TailState()), size) for name in plan.names
        }  # fmt: skip

    def observe(self, time: int, value: float, learn: bool, note: bool) -> list[Found]:
        """Statistics of a sample, then what it teaches.

        Args:
            learn: whether baselines learn from it.
            note: whether at least the tails do: that such a thing happens.
        """
        if self._origin is None:
            self._origin = value
        value = max(-BIG, min(BIG, value - self._origin))
        if self._cadence.gap(time) > 6:
            self._recent.clear()
            self._recent_residuals.clear()
        self._cadence.add(time)
        found = self._judge(time, value, learn)
        if learn:
            self._values.add(value)
            if self._season is not None:
                self._season.add(time, value)
        if note:
            rises, falls = self._tails, self._falls
            for one in found:
                (rises if one.z >= 0 else falls)[one.statistic].add(one.size)
            if rises is not falls:
                for one in found:
                    (falls if one.z >= 0 else rises)[one.statistic].skip()
        return found

    def _judge(self, time: int, value: float, learn: bool) -> list[Found]:
        plan = self._plan
        found: list[Found] = []
        recent = self._recent
        around = sorted(recent.values[-AROUND:]) if plan.spike and len(recent.values) >= AROUND else None
        recent.add(value)
        if self._values.seen < self.FIRST:
            return found
        median, scale = self._values.location()
        floor = max(self._values.resolution(), abs(self._origin or 0.0) * 1e-12)
        scale = max(scale, floor)
        for statistic, count in plan.levels:
            if len(recent.values) >= count:
                mean = recent.mean(count)
                found.append(self._found(statistic, mean, median, scale, "long-run"))
        if around is not None:
            middle = around[AROUND // 2]
            step = value - middle
            if self._steps.seen >= self.FIRST:
                found.append(self._found("spike", value, middle, max(self._steps.location()[1], floor), "around"))
            if learn:
                self._steps.add(step)
        if self._season is not None:
            found += self._seasonal(time, value, floor, learn)
        if plan.movement and recent.full:
            move = log(recent.travel() + scale * 0.01)
            if self._moves.seen >= 2 * self.FIRST:
                usual, spread = self._moves.location()
                found.append(self._found("movement", move, usual, max(spread, 0.05), "mean-step"))
            if learn:
                self._moves.add(move)
        return found

    def _seasonal(self, time: int, value: float, floor: float, learn: bool) -> list[Found]:
        assert self._season is not None, "asked by the caller"
        known = self._season.baseline(time)
        if known is None:
            return []
        baseline, basis = known
        residual = value - baseline
        recent = self._recent_residuals
        found: list[Found] = []
        recent.add(residual)
        if self._residuals.seen >= 2 * self.FIRST:
            median, scale = self._residuals.location()
            scale = max(scale, floor)
            for statistic, count in self._plan.seasons:
                if len(recent.values) >= count:
                    mean = recent.mean(count)
                    found.append(self._found(statistic, baseline + mean, baseline + median, scale, basis))
        if learn:
            self._residuals.add(residual)
        return found

    def _found(self, statistic: str, observed: float, baseline: float, scale: float, basis: str) -> Found:
        z = (observed - baseline) / scale
        size = log1p(abs(z))
        surprise = (self._tails if z >= 0 else self._falls)[statistic].surprise(size)
        return Found(statistic, size, surprise, z, observed, baseline, basis)

    def material(self, found: Sequence[Found], percent: int, scales: float) -> list[Found]:
        """Those that are off by at least so much of their baseline (movement: by so much of the long-run median), and by so
        many robust scales.

        What is improbable need not matter: a load that is always the same to a per cent is off by two; a mean of hours that
        never left half a scale is off by one.
        """
        origin, share = self._origin or 0.0, percent / 100
        kept = []
        for one in found:
            if abs(one.z) < scales:
                continue
            if one.statistic == "movement":
                off, level = abs(exp(one.observed) - exp(one.baseline)), self._values.location()[0]
            else:
                off, level = abs(one.observed - one.baseline), one.baseline
            if off >= share * abs(level + origin):
                kept.append(one)
        return kept

    def explain(self, found: Found) -> tuple[str, dict[str, str]]:
        """(code, parameters) of a statistic, in the series' own numbers."""
        code = EXPLAINS[found.statistic]
        origin = self._origin or 0.0
        observed, baseline = found.observed + origin, found.baseline + origin
        if found.statistic == "movement":
            code = "stillness" if found.z < 0 else code
            observed, baseline = exp(found.observed), exp(found.baseline)
        return code, {
            "statistic": found.statistic,
            "observed": shown(observed),
            "baseline": found.basis,
            "baseline_value": shown(baseline),
            "deviation": shown(found.z),
            "surprise": shown(found.surprise),
        }

    def state(self, alarm: AlarmState) -> EvidenceState:
        tails = {name: tail.state() for name, tail in self._tails.items()}
        if self._falls is not self._tails:
            tails |= {f"{name}-": tail.state() for name, tail in self._falls.items()}
        return EvidenceState(
            self._origin, self._cadence.state(), self._values.state(), self._steps.state(), self._residuals.state(),
            self._moves.state(), self._season.state() if self._season is not None else None, self._recent.state(),
            self._recent_residuals.state(), tails, alarm,
        )  # fmt: skip


def strongest(found: Sequence[Found]) -> float:
    """The greatest surprise."""
    return max((one.surprise for one in found), default=0.0)


class StatisticWatch:
    """Some statistics, one alarm."""

    def __init__(
        self,
        wanted: Sequence[str],
        limits: Limits,
        state: EvidenceState | None,
        fuse: Callable[[Sequence[Found]], float] = strongest,
    ) -> None:
        state = state or EvidenceState()
        self._limits, self._fuse = limits, fuse
        self._evidence = Evidence(wanted, limits, state)
        self._alarm = Alarm(limits, state.alarm)

    def observe(self, time: int, value: float | None) -> Verdict:
        if value is None or not isfinite(value):
            return self._alarm.pause()
        found = self._evidence.observe(time, value, self._alarm.learning, self._alarm.noting)
        if self._limits.least_percent or self._limits.least_scales:
            found = self._evidence.material(found, self._limits.least_percent, self._limits.least_scales)
        deviation = self._fuse(found) / self._limits.limit
        if deviation < 0.4 and self._alarm.closed:
            return self._alarm.judge(time, deviation)
        if not found:
            return self._alarm.judge(time, deviation)
        return self._alarm.judge(time, deviation, *self._evidence.explain(max(found, key=lambda one: one.surprise)))

    def state(self) -> EvidenceState:
        return self._evidence.state(self._alarm.state())
