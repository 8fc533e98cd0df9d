"""The job with every registered detector, at its defaults, on each final window: one operator, as the platform runs operators.

``WindowAnomalies`` is an operator: it takes window results as events, holds what a detector remembers of a device in tables of
frozen rows, and returns warnings and changes. ``DetectingTask`` steps it over the windows that a poll has closed and commits
its warnings and its changed rows with the windows and the positions, as ``OperatorTask`` does with those of a group.

A correction comes behind what has been judged and is left out, as rule ``anomaly`` does with late input.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from hengliu.events.envelope import derived_id, encode_event
from hengliu.ports.log import Headers, Record, TaskId, TaskState
from streams.detectors.base import Limits, Verdict
from streams.detectors.catalog import DETECTORS, detector
from streams.kernel.operator import Batch, Effects, Emit, Operator
from streams.kernel.partition import PartitionTask, PartitionTopology
from streams.kernel.state import State, StateStore
from streams.kernel.task import OpenReader, Outputs
from streams.kernel.windows import Result
from streams.operators.records import warning, warning_id

__all__ = ["WINDOW", "Change", "DetectingTask", "DetectingTopology", "WindowAnomalies", "recomputed"]

WINDOW: Final = "window.closed"
_LIFE: Final = "life"
_WHERE: Final = ("", "", "")

Change = tuple[str, str, str, int]
"""Device, detector, ``raised`` | ``updated`` | ``cleared``, end of the window."""


class Life(msgspec.Struct, frozen=True, array_like=True):
    """A device's warnings by one detector: how many there were, changes of the last one, since when, how grave."""

    episode: int = 0
    changes: int = 0
    since: int = 0


class _Closed(msgspec.Struct):
    device: str
    w: int
    sum: int


class WindowAnomalies:
    """``window.closed`` to warnings ``series-anomaly``, one life an episode of one device and detector."""

    name: Final = "window-anomalies"
    version: Final = 1
    inputs: Final = frozenset({WINDOW})
    emits: Final = frozenset({"warning.raised", "warning.updated", "warning.cleared"})

    def __init__(self, size_ms: int) -> None:
        self._size_ms = size_ms
        self._detectors = {name: detector(name, Limits()) for name in DETECTORS}
        self.tables: Mapping[str, type[msgspec.Struct]] = {
            **{name: one.state_type for name, one in self._detectors.items()}, _LIFE: Life,
        }  # fmt: skip
        self._decoders = {WINDOW: msgspec.json.Decoder(_Closed)}

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        by_device: dict[str, list[_Closed]] = {}
        for _, closed in batch.decode(self._decoders):
            by_device.setdefault(closed.device, []).append(closed)
        events: list[Emit] = []
        for name, one in self._detectors.items():
            for device, windows in by_device.items():
                watch = one.open(state.get(name, device))
                for closed in windows:
                    end = closed.w + self._size_ms
                    verdict = watch.observe(end, float(closed.sum))
                    if verdict.change:
                        key = f"{device}\x1f{name}"
                        life = _next(scratch.get(_LIFE, key) or Life(), verdict)
                        scratch.put(_LIFE, key, life)
                        events.append(self._emit(device, name, verdict, life, end, batch.clock))
                scratch.put(name, device, watch.state())
        return Effects(events, scratch.changes)

    def _emit(self, device: str, name: str, verdict: Verdict, life: Life, end: int, clock: int) -> Emit:
        return warning(
            verdict.change, warning_id(self.name, self.version, device, name, life.episode), "series-anomaly",
            severity=verdict.severity, subject=device, scope=_WHERE,
            parameters={**verdict.parameters, "detector": name, "finding": verdict.code, "score": f"{verdict.score:.3f}"},
            since=life.since, time=end, at=clock, known_at=clock, sequence=life.changes,
        )  # fmt: skip


def _next(life: Life, verdict: Verdict) -> Life:
    if verdict.change == "raised":
        return Life(life.episode + 1, 0, verdict.since)
    return Life(life.episode, life.changes + 1, life.since)


class DetectingTask(PartitionTask):
    """``PartitionTask`` with operators over its final windows; without any it only says how much state it keeps."""

    def __init__(self, task: TaskId, topology: "DetectingTopology", open_reader: OpenReader | None = None) -> None:
        super().__init__(task, topology, open_reader)
        self._operators, self._warnings = topology.operators, topology.warnings
        self._store = StateStore({(op.name, name): row for op in self._operators for name, row in op.tables.items()})
        self.sizes: dict[bytes, int] = {}
        """Bytes of each state entry as last written."""

    def _emit(self, results: Sequence[Any], outputs: Outputs) -> None:
        records = [self._job.result(result) for result in results]
        for record in records:
            outputs.add(self._target, self._source.partition, record)
        first = [(one, record) for one, record in zip(results, records, strict=True) if _final(one)]
        if not first or not self._operators:
            return
        count, clock = len(first), self._table.clock
        keys = [one.key for one, _ in first]
        batch = Batch(
            clock, [WINDOW] * count, [clock] * count, keys, [record.value for _, record in first], [_WHERE] * count, keys
        )
        for operator in self._operators:
            effects = operator.step(State(operator.name, self._store, None, lane=self.task.partition), batch)
            self._store.apply(effects.changes)
            for emit in effects.events:
                outputs.add(self._warnings, self._source.partition, self._event(operator, emit))

    def _event(self, operator: Operator, emit: Emit) -> Record:
        id_ = derived_id(operator.name, operator.version, *emit.identity)
        source = f"/streams/{operator.name}"
        value = encode_event(
            emit.type, source, id_, emit.time, emit.data, operator=operator.name, operatorversion=operator.version
        )
        headers = Headers(received=emit.at, type=emit.type, known_at=emit.known_at, upstream=str(self.task))
        return Record(str(emit.data["subject"]).encode(), value, headers)

    def checkpoint(self) -> dict[bytes, bytes | None]:
        entries = {**super().checkpoint(), **self._store.checkpoint()}
        for name, blob in entries.items():
            if blob is None:
                self.sizes.pop(name, None)
            else:
                self.sizes[name] = len(blob)
        return entries

    def restore(self, state: TaskState) -> None:
        super().restore(state)
        self.sizes = {name: len(blob) for name, blob in state.entries.items()}
        mine = tuple(f"{operator.name}/".encode() for operator in self._operators)
        self._store.restore({name: blob for name, blob in state.entries.items() if name.startswith(mine)})


def _final(result: Any) -> bool:
    return isinstance(result, Result) and result.revision == 0


@dataclass(frozen=True)
class DetectingTopology(PartitionTopology):
    """The tasks of a job with operators over its windows. ``warnings``: topic that they write to."""

    operators: tuple[Operator, ...] = ()
    warnings: str = ""
    built: list[DetectingTask] = field(default_factory=list)
    """Every task made, a restarted one again."""

    def build(self, task: TaskId, open_reader: OpenReader | None = None) -> DetectingTask:
        made = DetectingTask(task, self, open_reader)
        self.built.append(made)
        return made

    def state_bytes(self) -> int:
        """Of the last task of each partition, as it lies in the log."""
        return sum(sum(task.sizes.values()) for task in {made.task: made for made in self.built}.values())


def recomputed(windows: Mapping[tuple[str, int], int], size_ms: int) -> Iterator[Change]:
    """What the detectors say of every device's sums, in order of time, without operator, state or log."""
    series: dict[str, list[tuple[int, int]]] = {}
    for (device, start), total in windows.items():
        series.setdefault(device, []).append((start, total))
    for device, sums in series.items():
        for name in DETECTORS:
            watch = detector(name, Limits()).open()
            for start, total in sorted(sums):
                verdict = watch.observe(start + size_ms, float(total))
                if verdict.change:
                    yield device, name, verdict.change, start + size_ms
