"""Weight curve: a step while the truck stands still (遥控作弊).

A chip in the junction box or on a sensor's cable adds or takes away tonnes when somebody presses a button. The truck stands,
so the curve is flat before and flat after, and between them lies one sample or two. Nothing that happens to a truck looks like
this: an axle that drives on, a bucket that is tipped in or a truck that moves shakes the platform for seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Final, NamedTuple

import msgspec

from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import State
from streams.operators.records import Event, time_of, warning, warning_id
from streams.rules.policy import parameter, policy_of

__all__ = ["Step", "WeightCurve", "WeightCurvePolicy", "steps"]


@dataclass(frozen=True, slots=True)
class WeightCurvePolicy:
    """Parameters of rule ``weight-curve``: this platform's choice, for road scales with a verification interval of 20 kg.

    Standing is what unattended scales take for it: greatest less least of some seconds below a few intervals.
    """

    rule: ClassVar[str] = "weight-curve"
    RULE_VERSION: ClassVar[int] = 1

    flat_kg: int = parameter(60, unit="kg", zh="静止时示值波动", en="Spread of a standing truck", minimum=0)
    flat_ms: int = parameter(2_000, unit="ms", zh="静止的最短时间", en="Shortest standing", minimum=100)
    step_kg: int = parameter(200, unit="kg", zh="最小阶跃", en="Smallest step", minimum=1)
    step_percent: Decimal = parameter(Decimal(1), unit="%", zh="最小阶跃（占示值）", en="Smallest step, of the mass", minimum=0)
    step_ms: int = parameter(1_000, unit="ms", zh="阶跃的最长时间", en="Longest step", minimum=1)
    high_kg: int = parameter(1_000, unit="kg", zh="高级预警的阶跃", en="Step of high severity", minimum=1)


class Step(NamedTuple):
    """A sudden change between two standings: when its first flat part ended (ms into the curve), from and to, kg."""

    at_ms: int
    before_kg: int
    after_kg: int


def steps(curve_kg: Sequence[int], interval_ms: int, policy: WeightCurvePolicy) -> list[Step]:
    """The steps of one curve, in order. A curve sampled more slowly than a step may last gives none: it cannot tell."""
    if interval_ms > policy.step_ms:
        return []
    spans = -(-policy.flat_ms // interval_ms)
    flats = _flats(curve_kg, policy.flat_kg, spans)
    if not flats or max(flats.values()) - min(flats.values()) < policy.step_kg:
        return []
    jumps: list[tuple[int, int, int]] = []  # last sample before, first sample after, how far
    for before, low in flats.items():
        for first in range(before + spans + 1, before + spans + policy.step_ms // interval_ms + 1):
            after = flats.get(first)
            if after is None or abs(after - low) < policy.step_kg:
                continue
            if abs(after - low) >= policy.step_percent * max(low, after) / 100:
                jumps.append((before + spans, first, abs(after - low)))
    found: list[Step] = []
    while jumps:
        # Several pairs of flat stretches show the same step: it lies between those that are next to each other.
        end, first, _ = min((j for j in jumps if j[0] < jumps[0][1]), key=lambda j: (j[1] - j[0], -j[2], j[0]))
        found.append(Step(end * interval_ms, flats[end - spans], flats[first]))
        jumps = [j for j in jumps if j[0] >= first + spans]
    return found


def _flats(curve_kg: Sequence[int], spread: int, spans: int) -> dict[int, int]:
    """First sample to median, kg, of every stretch of ``spans`` intervals that varies by ``spread`` at most."""
    found: dict[int, int] = {}
    for first in range(len(curve_kg) - spans):
        samples = curve_kg[first : first + spans + 1]
        if max(samples) - min(samples) <= spread:
            found[first] = sorted(samples)[spans // 2]
    return found


class _Weighing(msgspec.Struct, frozen=True):
    plate: str
    mass_kg: int
    curve_kg: list[int] | None = None
    curve_interval_ms: int | None = None


class WeightCurve:
    """``weighing.measured`` with a step in its curve raises ``weight-curve-step``, one warning a weighing, about the scale.

    It names the greatest step and how many there were. A weighing without a curve says nothing.
    """

    name: Final = "weight-curve"
    version: Final = 1
    inputs: Final = frozenset({"weighing.measured"})
    emits: Final = frozenset({"warning.raised"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {}

    _decoders: Final = {"weighing.measured": msgspec.json.Decoder(Event[_Weighing])}

    def __init__(self, policy: WeightCurvePolicy = WeightCurvePolicy()) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        events: list[Emit] = []
        for row, event in batch.decode(self._decoders):
            data: _Weighing = event.data
            if not data.curve_kg or not data.curve_interval_ms:
                continue
            time = time_of(event, batch.received[row])
            in_force = policy_of(state, self._policy, time)
            if in_force is None:
                continue
            policy, version = in_force
            found = steps(data.curve_kg, data.curve_interval_ms, policy)
            if not found:
                continue
            worst = max(found, key=lambda s: abs(s.after_kg - s.before_kg))
            change = worst.after_kg - worst.before_kg
            events.append(
                warning(
                    "raised",
                    warning_id(self.name, self.version, event.source, event.id),
                    "weight-curve-step",
                    severity="high" if abs(change) >= policy.high_kg else "medium",
                    subject=event.source,
                    scope=batch.scopes[row],
                    parameters={
                        "step_kg": str(change),
                        "before_kg": str(worst.before_kg),
                        "after_kg": str(worst.after_kg),
                        "at_ms": str(worst.at_ms),
                        "steps": str(len(found)),
                        "mass_kg": str(data.mass_kg),
                        "plate": data.plate,
                    },
                    since=time,
                    time=time,
                    at=batch.received[row],
                    known_at=batch.known_at(row),
                    cause=batch.origins[row],
                    rule=policy.rule,
                    rule_version=version,
                )
            )
        return Effects(events, {})
