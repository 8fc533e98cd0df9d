"""Deterministic merge: many upstreams, one total order, the same in every run.

An *upstream* is one writer of one input partition: on a canonical or broadcast topic the partition itself (intake writes it
alone), on an exchange or derived topic each task of the writing group. Within an upstream receive times do not decrease. Its
*clock* is the greatest receive time heard from it, by a record or by a clock mark; everything it will still write has a
receive time of at least that.

The merge releases what was received strictly before the least clock of all upstreams, ordered by (receive time, rank of the
upstream, order within it). A log may interleave upstreams as it likes; the released sequence depends on their contents alone.
What is not released yet is not state: its offsets have not been passed, so a restart reads it again, and ``released_before``
(which *is* state) tells what of it has been released already.

A gap in a plain upstream's clock says that nobody received in between: intake writes the clock of a silent partition every
second while it runs. Where ``gap_ms`` asks for it, such a gap is released like a record, as of its start. It follows from the
contents of the log alone, so a replay finds the same gaps.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from hengliu.events.envelope import iso_ms
from hengliu.ports.log import CLOCK_TYPE, Headers, Slice, TopicPartition

__all__ = ["Arrival", "Merge", "MergeGuards", "MergeState", "Upstream"]


GAP_TYPE = "clock.resumed"
"""Type of the arrival that stands for a gap; it is in no log."""


class Upstream(NamedTuple):
    """One writer of one topic as seen by a reader. ``writer`` is the task for a clocked topic, the partition else."""

    topic: str
    writer: str


@dataclass(frozen=True, slots=True)
class MergeGuards:
    """What keeps the merge right. Each can be switched off in a test, which then sees the harm."""

    contiguous: bool = True
    """A slice must start where the last one ended. Off: a lost slice goes unnoticed."""
    ordered: bool = True
    """Release by receive time and upstream, behind every upstream's clock. Off: results depend on the interleaving."""
    once: bool = True
    """What was released before a restart is not released again. Off: it is processed twice."""


class Arrival(NamedTuple):
    """One record on its way through the merge."""

    received: int
    rank: int
    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Headers


class MergeState(msgspec.Struct, frozen=True):
    """What a checkpoint keeps of a merge."""

    released_before: int
    clocks: dict[str, int]


@dataclass(slots=True)
class _Lane:
    """An upstream's pending records, oldest first, and its clock."""

    rank: int
    tp: TopicPartition
    clock: int
    pending: deque[Arrival]
    before: deque[int]
    """Of a plain upstream whose gaps are watched: its clock before each pending arrival."""


class Merge:
    """Orders the records of several partitions.

    Args:
        clocked: input topics whose records name their writer, and the writers that must be heard of each.
        plain: input topics whose partitions are written by one task each.
        partitions: which partitions of each topic this task reads.
        gap_ms: a plain upstream's clock that stood longer than this is released as an arrival of type ``GAP_TYPE``; None: not.
    """

    def __init__(
        self,
        clocked: Mapping[str, Sequence[str]],
        plain: Iterable[str],
        partitions: Mapping[str, Sequence[int]],
        guards: MergeGuards = MergeGuards(),
        gap_ms: int | None = None,
    ) -> None:
        self._guards = guards
        self._gap_ms = gap_ms
        self._lanes: dict[Upstream, _Lane] = {}
        self._clocked = frozenset(clocked)
        self._next: dict[TopicPartition, int] = {}
        names: list[tuple[Upstream, TopicPartition]] = []
        for topic in sorted(plain):  # plain topics rank first: a registration comes before data of the same millisecond
            names += [(Upstream(topic, str(p)), TopicPartition(topic, p)) for p in sorted(partitions[topic])]
        for topic in sorted(clocked):
            for p in sorted(partitions[topic]):
                names += [(Upstream(topic, writer), TopicPartition(topic, p)) for writer in clocked[topic]]
        for rank, (upstream, tp) in enumerate(names):
            if upstream in self._lanes:
                raise ValueError(f"{upstream} is read twice: a task reads one partition of a clocked topic")
            self._lanes[upstream] = _Lane(rank, tp, 0, deque(), deque())
            self._next[tp] = 0
        self._released_before = 0

    @property
    def clock(self) -> int:
        """Least clock of all upstreams: what was received before it has arrived."""
        return min(lane.clock for lane in self._lanes.values())

    @property
    def waiting_for(self) -> Upstream:
        """The upstream that holds the clock back."""
        return min(self._lanes, key=lambda u: self._lanes[u].clock)

    @property
    def pending(self) -> int:
        return sum(len(lane.pending) for lane in self._lanes.values())

    def state(self) -> MergeState:
        return MergeState(
            self._released_before, {f"{u.topic}/{u.writer}": _restart_clock(lane) for u, lane in self._lanes.items()}
        )

    def restore(self, state: MergeState, positions: Mapping[TopicPartition, int]) -> None:
        self._released_before = state.released_before
        for upstream, lane in self._lanes.items():
            lane.clock = state.clocks.get(f"{upstream.topic}/{upstream.writer}", 0)
        for tp in self._next:
            self._next[tp] = positions.get(tp, 0)

    def positions(self) -> dict[TopicPartition, int]:
        """Where a restart must read on: at the oldest record not released, or after all that was read."""
        found = dict(self._next)
        for lane in self._lanes.values():
            if lane.pending:
                found[lane.tp] = min(found[lane.tp], lane.pending[0].offset)
        return found

    def offer(self, piece: Slice) -> None:
        """Take in consecutive records of one partition.

        Raises:
            ValueError: the slice does not start where the last one ended, or holds a record of a writer that was not
                declared (the topology differs from the log's contents).
        """
        topic, partition = piece.topic, piece.partition
        if self._guards.contiguous and piece.position != self._next[piece.tp]:
            raise ValueError(f"{topic}/{partition}: read from {piece.position}, expected {self._next[piece.tp]}")
        clocked = topic in self._clocked
        gap_ms = None if clocked else self._gap_ms
        released = self._released_before if self._guards.once else 0
        lane = None if clocked else self._lanes[Upstream(topic, str(partition))]
        for offset, key, value, headers in zip(piece.offsets, piece.keys, piece.values, piece.headers, strict=True):
            if clocked:
                found = self._lanes.get(Upstream(topic, headers.upstream))
                if found is None:
                    raise ValueError(f"{topic}/{partition}/{offset}: written by {headers.upstream!r}, which is not an upstream")
                lane = found
            assert lane is not None
            received = headers.received
            before = lane.clock
            if received > before:
                lane.clock = received
            if gap_ms is not None and 0 < before < received - gap_ms and before >= released:
                lane.pending.append(_gap(before, received, lane.rank, topic, partition, offset))
                lane.before.append(before)
            # Released before the restart that made us read it again.
            if headers.type != CLOCK_TYPE and received >= released:
                lane.pending.append(Arrival(received, lane.rank, topic, partition, offset, key, value, headers))
                if gap_ms is not None:
                    lane.before.append(before)
        self._next[piece.tp] = piece.next_position

    def release(self) -> tuple[list[Arrival], int]:
        """(records received before the clock, in order; the clock). Both advance together: a caller commits them as one."""
        if not self._guards.ordered:
            return self._release_unordered()
        clock = max(self.clock, self._released_before)
        out: list[Arrival] = []
        for lane in self._lanes.values():
            pending = lane.pending
            while pending and pending[0].received < clock:
                out.append(pending.popleft())
                if lane.before:
                    lane.before.popleft()
        # Stable, and each lane was appended in its own order: so ties fall to rank, then to order within the upstream.
        out.sort(key=lambda a: (a.received, a.rank))
        self._released_before = clock
        return out, clock

    def _release_unordered(self) -> tuple[list[Arrival], int]:
        """The guard ``ordered`` switched off: whatever is here, in the order it came."""
        out = sorted((a for lane in self._lanes.values() for a in lane.pending), key=lambda a: (a.topic, a.partition, a.offset))
        for lane in self._lanes.values():
            lane.pending.clear()
            lane.before.clear()
        self._released_before = max(self._released_before, self.clock)
        return out, self._released_before


def _restart_clock(lane: _Lane) -> int:
    """The clock of an upstream at the position that a restart reads from.

    Not the clock it has now: what is pending is read again, and until then a restarted merge must not believe that it has
    arrived. (Believing it, one that read another input first would release past it, and drop it when it came.)
    """
    if lane.before:
        return lane.before[0]
    return lane.pending[0].received if lane.pending else lane.clock


def _gap(start: int, end: int, rank: int, topic: str, partition: int, offset: int) -> Arrival:
    """A gap as a reference event (``streams.kernel.reference``), received when it began."""
    data = {"partition": f"{topic}/{partition}", "valid_from": iso_ms(start), "until": iso_ms(end)}
    value = msgspec.json.encode({"data": data})
    return Arrival(start, rank, topic, partition, offset, b"", value, Headers(received=start, type=GAP_TYPE))
