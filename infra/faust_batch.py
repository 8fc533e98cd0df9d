"""Batch delivery for Faust: one message is one slice of consecutive records of a partition.

Stock Faust moves one record at a time through four asyncio tasks (17,000 records/s on a real broker); delivering what a fetch
brought as one message moves it 14 to 23 times faster. The base below is common to both transports and mends, for the topics
it carries, what stock Faust gets wrong:

* commit offsets: an own first-in first-out queue of accepted slices instead of runs of consecutive numbers, because offsets
  behind transactions have gaps (stock commits one gap per interval and keeps every number in memory);
* gaps are not recorded, for the same reason;
* the queue and the acknowledgements are dropped on seek and on revoke;
* partitions are resumed only when the flow is, which is after the seek: stock resumes first, and delivers records that the
  seek then delivers again.

Records come through the log's own bulk reader, never through a consumer of Faust's; what differs between the transports is
membership. Faust's commits stay advisory: positions come from the state of our tasks, through ``app.host``, and what is
committed to a consumer group is what those tasks have committed, for whoever watches its lag.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from faust.types import TP, ConsumerMessage

from hengliu.ports.log import LogReader, LogUnavailable, Slice, TopicPartition
from hengliu.ports.membership import PartitionHost

__all__ = ["MAX_OUTSTANDING_SLICES", "BatchConsumer"]

MAX_OUTSTANDING = 40_000
"""Records delivered and not acknowledged, above which nothing is read: Faust's own way of holding back takes a partition out of
what is read, which costs a new reader each time and forgets it when a queue is cleared."""
MAX_OUTSTANDING_SLICES = 32
"""Below the mark at which Faust would do so, four fifths of a channel's size (``streams.agents.CHANNEL_SLICES``)."""

ROOM_S = 0.002

LINGER_S = 0.025
LIGHT_RECORDS = 500
"""After a poll that brought fewer, the next waits for this long since: in live operation nearly every commit of any task would
otherwise be a walk of its own through Faust."""


class BatchConsumer:
    """Mixed in before a Faust ``Consumer``. Every topic of the app carries slices: it has no tables, replies or leader."""

    app: Any
    callback: Any
    _committed_offset: MutableMapping[TP, int | None]
    _acked: MutableMapping[TP, list[int]]
    _acked_index: MutableMapping[TP, set[int]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._accepted: dict[TP, deque[int]] = {}
        self._outstanding: dict[tuple[TP, int], int] = {}
        self._stashed: set[TP] = set()
        self._assigned: set[TP] = set()
        self._positions_now: dict[TP, int] = {}
        self._asked = 0
        """How often positions have been asked for."""
        self._reader: LogReader | None = None
        self._reading: frozenset[TP] = frozenset()
        self._rest_until = 0.0
        deliver = self.callback

        async def accept(message: ConsumerMessage) -> Any:
            # Filled where the message is accepted: one that the conductor drops would never be acknowledged.
            self._accepted.setdefault(message.tp, deque()).append(message.offset)
            self._outstanding[message.tp, message.offset] = len(message.value)
            return await deliver(message)

        self.callback = accept

    @property
    def host(self) -> PartitionHost:
        host: PartitionHost = self.app.host
        return host

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        piece: Slice = record
        key = TP(piece.topic, piece.partition)
        return ConsumerMessage(
            piece.topic, piece.partition, piece.next_position - 1, 0.0, 0, None, None, piece,
            None, 0, 0, key, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Gaps are normal behind transactions and mean nothing."""

    def _new_offset(self, tp: TP) -> int | None:
        accepted = self._accepted.get(tp)
        while accepted and self._done(tp, accepted[0]):
            last = accepted.popleft()
            self._outstanding.pop((tp, last), None)
            if last in self._acked_index[tp]:
                self._acked_index[tp].discard(last)
                self._acked[tp].remove(last)
        return self.host.committed(TopicPartition(tp.topic, tp.partition))

    def _done(self, tp: TP, offset: int) -> bool:
        """Whether a slice is acknowledged. (Streams compiled by Cython write to the index themselves, past ``ack``.)"""
        return offset in self._acked_index[tp] or offset < (self._committed_offset[tp] or 0)

    async def _wait_for_room(self, seconds: float) -> bool:
        """Wait until few enough slices are with the agent; False when the time was not enough."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            self._outstanding = {one: n for one, n in self._outstanding.items() if not self._done(*one)}
            if len(self._outstanding) < MAX_OUTSTANDING_SLICES and sum(self._outstanding.values()) < MAX_OUTSTANDING:
                return True
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(ROOM_S)

    def _forget(self, tps: Iterable[TP]) -> None:
        for tp in tps:
            self._accepted.pop(tp, None)
            self._acked[tp].clear()
            self._acked_index[tp].clear()
        self._forget_outstanding()

    def _forget_outstanding(self) -> None:
        """What was delivered before a seek or a cleared queue may never be acknowledged."""
        self._outstanding.clear()

    async def _positions(self, assignment: Iterable[TP]) -> Mapping[TP, int]:
        """Ask the tasks where to read on."""
        found = await self.host.assigned([TopicPartition(tp.topic, tp.partition) for tp in assignment])
        return {TP(tp.topic, tp.partition): position for tp, position in found.items()}

    async def perform_seek(self) -> None:
        self._forget(list(self._accepted))
        await super().perform_seek()  # type: ignore[misc]

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self.host.revoked([TopicPartition(tp.topic, tp.partition) for tp in revoked])
        await super().on_partitions_revoked(revoked)  # type: ignore[misc]
        self._assigned -= revoked
        for tp in revoked:
            self._accepted.pop(tp, None)
        self._forget_outstanding()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._assigned = set(assigned)
        if not assigned:
            # Faust asks for no positions then; tasks that stayed would fence whoever has their partitions now.
            await self.host.assigned([])
        await super().on_partitions_assigned(assigned, generation_id)  # type: ignore[misc]

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        self._stashed |= {TP(tp.topic, tp.partition) for tp in tps}

    def resume_flow(self) -> None:
        super().resume_flow()  # type: ignore[misc]
        self._forget_outstanding()
        stashed, self._stashed = self._stashed, set()
        # What a rebalance that was overtaken has stashed may be somebody else's by now.
        super().resume_partitions(stashed & self._assigned)  # type: ignore[misc]

    # ---- reading

    async def seek_to_committed(self) -> Mapping[TP, int]:
        self._asked += 1
        asked = self._asked
        await self._drop_reader()
        found = await self._positions(self.assignment())
        if asked == self._asked:  # else another assignment has come meanwhile, and its answer holds
            self._positions_now = dict(found)
        return dict(self._positions_now)

    async def _drop_reader(self) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            await reader.close()

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, list[Any]]:
        active = frozenset(TP(tp.topic, tp.partition) for tp in (active_partitions or self.assignment()))
        active &= self._positions_now.keys()  # before its position is known, a partition is not read at all
        if not active:
            await asyncio.sleep(min(timeout, 0.1))
            return {}
        if self._reader is None or active != self._reading:
            await self._drop_reader()
            self._reader = await self.host.log.open_reader(
                {TopicPartition(tp.topic, tp.partition): self._positions_now[tp] for tp in active}, bulk=True
            )
            self._reading = active
        found: dict[TP, list[Any]] = {}
        reader = self._reader
        timeout = min(timeout, 1.0)
        if not await self._wait_for_room(timeout):
            return {}
        now = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._rest_until - now()))
        try:
            pieces = await reader.poll(self.host.poll_records, int(timeout * 1000))
        except LogUnavailable:
            if reader is self._reader:
                raise
            return {}
        if reader is not self._reader:
            return {}  # a seek came in between: what was read is from before it, and must not move the positions
        if sum(map(len, pieces)) < LIGHT_RECORDS:
            self._rest_until = now() + LINGER_S
        for piece in pieces:
            tp = TP(piece.topic, piece.partition)
            self._positions_now[tp] = piece.next_position
            found.setdefault(tp, []).append(piece)
        return found

    async def _seek(self, partition: TP, offset: int) -> None:
        self._forget_outstanding()
        self._positions_now[TP(partition.topic, partition.partition)] = offset
        await self._drop_reader()

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        for tp, offset in partitions.items():
            await self._seek(tp, offset)

    async def position(self, tp: TP) -> int | None:
        return self._positions_now.get(tp)

    def assignment(self) -> set[TP]:
        return set(self._assigned)

    def highwater(self, tp: TP) -> int:
        return self._positions_now.get(tp, 0)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        return {tp: self.highwater(tp) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        return dict.fromkeys(partitions, 0)

    def topic_partitions(self, topic: str) -> int | None:
        return sum(1 for tp in self._assigned if tp.topic == topic) or None

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        return partition

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        """Topics are created by composition."""

    def close(self) -> None:
        """The reader is closed by ``on_stop``."""

    async def on_stop(self) -> None:
        await super().on_stop()  # type: ignore[misc]
        await self._drop_reader()
