"""Anomalies of loads: what a meter counted in an interval, as a rate per hour, judged by a detector that the rule chooses.

Detectors need time order, and readings come late. A channel's intervals are put in order of their ends and judged once the
channel's newest is ``horizon_s`` ahead: its own time, so a meter that falls silent, or one whose clock runs ahead, moves no
other. What lies behind what has been judged is beyond the horizon: it is told by ``input.late`` and counted there, and stays in
every sum. Corrections replace what still waits; of what has been judged they are late input.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final

import msgspec

from hengliu.events.envelope import iso_ms, ms_of
from streams.detectors.base import Detector, Limits, Verdict, Watch
from streams.detectors.catalog import DETECTORS, detector
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import Scratch, State
from streams.operators.records import HOUR_MS, Scope, warning, warning_id
from streams.rules.policy import parameter, policy_of

__all__ = ["WAITING_MOST", "Anomalies", "AnomalyPolicy", "Series", "Waiting"]

_SERIES = "series"
WAITING_MOST: Final = 96
"""Intervals held of one channel; of more the oldest is judged, whatever the horizon."""


@dataclass(frozen=True, slots=True)
class AnomalyPolicy:
    """Parameters of rule ``anomaly``: this platform's choice, as measured in docs/detection.md."""

    rule: ClassVar[str] = "anomaly"
    RULE_VERSION: ClassVar[int] = 1

    detector: str = parameter("combined", zh="检测器", en="Detector", choices=tuple(DETECTORS))
    limit: Decimal = parameter(
        Decimal("3.5"), zh="阈值（小概率的十进位数）", en="Limit, in decades of improbability", minimum=1, maximum=12
    )
    clear_percent: int = parameter(
        60, unit="%", zh="解除比例", en="Cleared below this share of the limit", minimum=0, maximum=100
    )
    clear_samples: int = parameter(3, zh="解除所需连续点数", en="Samples in a row that clear", minimum=1, maximum=1_000)
    rest_samples: int = parameter(
        576, zh="峰值记忆点数", en="Samples for which a peak is remembered", minimum=1, maximum=100_000
    )
    accept_samples: int = parameter(
        288, zh="视为新常态的点数", en="Samples after which it is normal", minimum=1, maximum=100_000
    )
    warm_samples: int = parameter(200, zh="学习点数", en="Samples before judging", minimum=20, maximum=4_000)
    least_percent: int = parameter(30, unit="%", zh="至少偏离基线", en="Off its baseline by", minimum=0, maximum=10_000)
    cadence_s: int = parameter(
        0, unit="s", zh="采样间隔（0 为由数据得出）", en="Cadence (0: from the data)", minimum=0, maximum=86_400
    )
    sides: int = parameter(
        2, zh="上升与下降分别统计（2）或合并（1）", en="Rises and falls apart (2) or together (1)", minimum=1, maximum=2
    )
    least_scales: Decimal = parameter(
        Decimal(2), zh="至少偏离的稳健尺度数", en="Off its baseline by so many robust scales", minimum=0, maximum=1_000
    )
    horizon_s: int = parameter(3_600, unit="s", zh="迟到时限", en="Lateness that is waited for", minimum=0, maximum=30 * 86_400)

    @property
    def limits(self) -> Limits:
        return Limits(
            float(self.limit), self.clear_percent, self.clear_samples, self.rest_samples, self.accept_samples,
            self.warm_samples, self.least_percent, self.cadence_s, self.sides, float(self.least_scales),
        )  # fmt: skip


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """An interval that waits for its turn: ends first, so that a sorted list is in order of judgement."""

    end: int
    start: int
    id: str
    rate: float | None
    known_at: int


class Series(msgspec.Struct, frozen=True):
    """What is held of one channel. ``state`` is the detector's, as MessagePack; ``judged``: end of the last interval judged."""

    detector: str
    state: bytes
    judged: int = 0
    newest: int = 0
    waiting: tuple[Waiting, ...] = ()
    episode: int = 0
    changes: int = 0
    severity: str = ""
    since: int = 0


class _Consumption(msgspec.Struct, frozen=True):
    site: str
    meter: str
    quantity: str
    flow: str
    start: datetime
    end: datetime
    amount: Decimal
    unit: str
    quality: str = "measured"


class _Event(msgspec.Struct, frozen=True):
    id: str
    data: _Consumption
    corrects: str = ""


class _Watched:
    """One channel in one step: thawed once, frozen once."""

    def __init__(self, one: Detector, series: Series) -> None:
        self.series = series
        self.watch: Watch = one.open(msgspec.msgpack.decode(series.state, type=one.state_type) if series.state else None)
        self.judged, self.newest = series.judged, series.newest
        self.waiting = list(series.waiting)
        self.episode, self.changes = series.episode, series.changes
        self.severity, self.since = series.severity, series.since

    def frozen(self) -> Series:
        return Series(
            self.series.detector, msgspec.msgpack.encode(self.watch.state()), self.judged, self.newest, tuple(self.waiting),
            self.episode, self.changes, self.severity, self.since,
        )  # fmt: skip


class Anomalies:
    """``consumption.recorded`` to warnings ``series-anomaly``, one life an episode of one channel, and to ``input.late``.

    An estimated interval holds no value: missing is not zero. Another detector in the rule's next version begins anew, and so
    does a rule that was retired; an open episode is then cleared.
    """

    name: Final = "anomaly"
    version: Final = 2
    inputs: Final = frozenset({"consumption.recorded"})
    emits: Final = frozenset({"warning.raised", "warning.updated", "warning.cleared", "input.late"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_SERIES: Series}

    _decoders: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {"consumption.recorded": msgspec.json.Decoder(_Event)}

    def __init__(self, policy: AnomalyPolicy = AnomalyPolicy()) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        open_: dict[str, tuple[AnomalyPolicy, _Watched]] = {}
        events: list[Emit] = []
        for row, event in batch.decode(self._decoders):
            events += self._take(scratch, open_, state, batch, row, event)
        for channel, (_, watched) in open_.items():
            scratch.put(_SERIES, channel, watched.frozen())
        return Effects(events, scratch.changes)

    def _take(
        self, scratch: Scratch, open_: dict[str, tuple[AnomalyPolicy, _Watched]], state: State, batch: Batch, row: int,
        event: _Event,
    ) -> Iterator[Emit]:  # fmt: skip
        data = event.data
        start, end = ms_of(data.start), min(ms_of(data.end), batch.received[row])
        channel = "\x1f".join((data.site, data.meter, data.quantity, data.flow))
        policy, version = policy_of(state, self._policy, end) or (None, 0)
        held = open_.get(channel)
        if held is not None and held[0] != policy:
            scratch.put(_SERIES, channel, held[1].frozen())
            del open_[channel]
            held = None
        if held is None:
            series: Series | None = scratch.get(_SERIES, channel)
            if series is not None and (policy is None or series.detector != policy.detector):
                if series.severity:
                    yield self._change("cleared", series, channel, data, version, batch, row, event.id, {}, end)
                # What was judged stays judged, and episodes go on counting: identities are not used twice.
                waiting = series.waiting if policy is not None else ()
                series = Series("", b"", series.judged, series.newest, waiting, series.episode, series.changes)
                scratch.put(_SERIES, channel, series)
            if policy is None:
                return
            one = detector(policy.detector, policy.limits)
            if series is None or not series.detector:
                series = msgspec.structs.replace(series or Series("", b""), detector=policy.detector)
            held = open_[channel] = policy, _Watched(one, series)
        assert policy is not None, "a retired rule has no open series"
        watched = held[1]
        if event.corrects:
            watched.waiting = [w for w in watched.waiting if w.id != event.corrects]
            return
        if end <= watched.judged:
            yield self._late(data, end, watched.judged, batch, row, event.id)
            return
        hours = (end - start) / HOUR_MS
        rate = float(data.amount) / hours if data.quality == "measured" and hours > 0 else None
        watched.waiting.append(Waiting(end, start, event.id, rate, batch.known_at(row)))
        watched.waiting.sort(key=lambda w: (w.end, w.start, w.id))
        watched.newest = max(watched.newest, end)
        due = watched.newest - policy.horizon_s * 1000
        while watched.waiting and (watched.waiting[0].end <= due or len(watched.waiting) > WAITING_MOST):
            yield from self._judge(watched, watched.waiting.pop(0), channel, data, policy, version, batch, row)

    def _judge(
        self, watched: _Watched, sample: Waiting, channel: str, data: _Consumption, policy: AnomalyPolicy, version: int,
        batch: Batch, row: int,
    ) -> Iterator[Emit]:  # fmt: skip
        verdict = watched.watch.observe(sample.end, sample.rate)
        watched.judged = max(watched.judged, sample.end)
        if not verdict.change:
            return
        watched.severity = verdict.severity
        if verdict.change == "raised":
            watched.episode, watched.changes, watched.since = watched.episode + 1, 0, verdict.since
        else:
            watched.changes += 1
        parameters = self._explained(verdict, data, policy)
        yield self._change(
            verdict.change, watched, channel, data, version, batch, row, sample.id, parameters, sample.end, sample.known_at
        )
        if verdict.change == "cleared":
            watched.severity = ""

    @staticmethod
    def _explained(verdict: Verdict, data: _Consumption, policy: AnomalyPolicy) -> dict[str, str]:
        if verdict.change == "cleared":
            return {"detector": policy.detector, "quantity": data.quantity}
        loads = () if verdict.parameters.get("statistic") in ("run", "gap") else (("unit", f"{data.unit}/h"),)
        return {
            **verdict.parameters,
            **dict(loads),
            "detector": policy.detector,
            "finding": verdict.code,
            "score": f"{verdict.score:.3f}",
            "quantity": data.quantity,
            "flow": data.flow,
        }

    def _change(
        self, change: str, life: Series | _Watched, channel: str, data: _Consumption, version: int, batch: Batch, row: int,
        cause: str, parameters: Mapping[str, str], time: int, known_at: int = 0,
    ) -> Emit:  # fmt: skip
        return warning(
            change,
            warning_id(self.name, self.version, channel, life.episode),
            "series-anomaly",
            severity=life.severity,
            subject=data.meter,
            scope=batch.scopes[row],
            parameters=parameters,
            since=life.since,
            time=time,
            at=batch.received[row],
            known_at=max(known_at, batch.known_at(row)),
            cause=cause,
            rule=self._policy.rule,
            rule_version=version,
            sequence=life.changes,
        )

    def _late(self, data: _Consumption, end: int, judged: int, batch: Batch, row: int, id_: str) -> Emit:
        scope: Scope = batch.scopes[row]
        return Emit(
            type="input.late",
            identity=("late", id_),
            time=end,
            at=batch.received[row],
            known_at=batch.known_at(row),
            data={
                "enterprise": scope[0],
                "site": scope[1],
                "division": scope[2],
                "operator": self.name,
                "subject": data.meter,
                "event": id_,
                "event_type": "consumption.recorded",
                "event_time": iso_ms(end),
                "judged_until": iso_ms(judged),
                "behind_s": (judged - end) // 1000,
            },
            cause=id_,
            scope=scope,
        )
