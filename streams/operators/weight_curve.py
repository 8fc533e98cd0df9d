"""Weight curve: a step while the truck stands still (遥控作弊).

A chip in the junction box or on a sensor's cable adds or takes away tonnes when somebody presses a button. The truck stands,
so the curve is flat before and flat after, and between them lies one sample or two. Nothing that happens to a truck looks like
this: an axle that drives on, a bucket that is tipped in or a truck that moves shakes the platform for seconds.
"""

from collections.abc import Iterator, Mapping, Sequence
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
    found: list[Step] = []
    last: tuple[int, int, int] | None = None
    for first, end, level in _flats(curve_kg, policy.flat_kg, -(-policy.flat_ms // interval_ms)):
        if last is not None and (first - last[1]) * interval_ms <= policy.step_ms:
            least = max(Decimal(policy.step_kg), policy.step_percent * max(level, last[2]) / 100)
            if abs(level - last[2]) >= least:
                found.append(Step(last[1] * interval_ms, last[2], level))
        last = first, end, level
    return found


def _flats(curve_kg: Sequence[int], spread: int, least: int) -> Iterator[tuple[int, int, int]]:
    """(first sample, last sample, median kg) of each longest stretch that varies by ``spread`` at most and spans ``least``
    intervals or more; taken greedily from the left, each beginning after the one before."""
    first = 0
    while first + least < len(curve_kg):
        low = high = curve_kg[first]
        end = first
        while end + 1 < len(curve_kg):
            low, high = min(low, curve_kg[end + 1]), max(high, curve_kg[end + 1])
            if high - low > spread:
                break
            end += 1
        if end - first >= least:
            yield first, end, sorted(curve_kg[first : end + 1])[(end - first) // 2]
            first = end + 1
        else:
            first += 1


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
