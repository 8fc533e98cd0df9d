"""The sealing task: reads the log, publishes each of its partitions as a transparency log.

The numbered steps (docs/protocols/ledger.md says what a crash after each one leaves):

1. new tiles, bundles and checkpoints are made from the stored state and the records behind it
2. tiles and bundles are stored
3. the state, the checkpoints in it, and the positions are committed as one
4. the checkpoints are published, and partial files that nobody needs any more are removed
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from hengliu.ledger.faults import LedgerError
from hengliu.ledger.leaf import LoggedRecord
from hengliu.ledger.sealing import LedgerKeys, LogState, Sealed, SealedTree, check_start, log_name, seal
from hengliu.ports.faults import Faults, no_faults
from hengliu.ports.log import CLOCK_TYPE, EventLog, LogReader, LogUnavailable, Slice, TaskId, TaskSession, TopicPartition
from hengliu.ports.tiles import TileStore

__all__ = ["STEPS", "TASK", "Sealer", "SealingPolicy"]

logger = logging.getLogger(__name__)

TASK: Final = TaskId("ledger", 0)

STEPS: Final = ("1-made", "2-stored", "3-committed", "4-published")
"""Places where a test may stop the process: right after the step of that number."""

RETRY_S: Final = (0.1, 0.5, 2.0, 5.0)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(LogState)


@dataclass(frozen=True, slots=True)
class SealingPolicy:
    """When a log is sealed. Times in ms.

    Attributes:
        interval_ms: at most this long after a record came.
        quiet_ms: the same for marks of the clock, of which a silent partition has one a second: nobody waits for a proof of
            them, and each sealing is eight files.
        max_records: of all logs together; with more waiting, what is there is sealed at once.
    """

    interval_ms: int = 1_000
    quiet_ms: int = 60_000
    max_records: int = 20_000


@dataclass(slots=True)
class _Log:
    """One partition as it is published, and what waits to be sealed."""

    name: str
    tp: TopicPartition
    state: LogState
    position: int
    """Where what is not sealed begins."""
    waiting: list[Slice] = field(default_factory=list)
    marks_since: float | None = None
    records_since: float | None = None
    """Loop time of the first that waits."""

    @property
    def read(self) -> int:
        return self.waiting[-1].next_position if self.waiting else self.position


class Sealer:
    """Publishes partitions. One object, one run; a second one elsewhere fences it.

    A log whose files contradict its state, or that is shorter than what was signed, is *halted*: nothing more is signed for it
    until somebody has looked, and the others go on.
    """

    def __init__(
        self,
        log: EventLog,
        store: TileStore,
        keys: LedgerKeys,
        partitions: Sequence[TopicPartition],
        *,
        policy: SealingPolicy = SealingPolicy(),
        faults: Faults = no_faults,
    ) -> None:
        self._log = log
        self._store = store
        self._keys = keys
        self._tps = tuple(partitions)
        self._policy = policy
        self._faults = faults
        self._logs: dict[TopicPartition, _Log] = {}
        self._stopping = asyncio.Event()
        self.halted: dict[str, LedgerError] = {}
        """Log name to what does not fit."""
        self.sealed = 0
        """Records since the start of this object."""

    def progress(self) -> Mapping[TopicPartition, int]:
        """Up to where each partition is sealed; marks of the clock that wait for their time do not hold it back."""
        return {tp: one.position if one.records_since is not None else one.read for tp, one in self._logs.items()}

    async def stop(self) -> None:
        """Ask the loop to end; what is not sealed is sealed by the next."""
        self._stopping.set()

    async def run(self) -> None:
        """Seal until ``stop``.

        Raises:
            Fenced: another sealer was opened.
        """
        attempt = 0
        while not self._stopping.is_set():
            before = self.sealed
            try:
                await self._session()
            except (LogUnavailable, OSError) as error:
                # Of a log that did not answer nobody knows whether the last commit is visible, and a disk that is full has
                # stored an unknown part: what is in memory is thrown away, and step 1 begins anew.
                attempt = 0 if self.sealed > before else attempt
                logger.warning("ledger: %s: %s; opened anew", type(error).__name__, error)
                await self._pause(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not past ``stop``."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _session(self) -> None:
        session = await self._log.open_task(TASK)
        try:
            await self._restore(session)
            reader = await self._log.open_reader({tp: one.position for tp, one in self._logs.items()})
            try:
                await self._loop(session, reader)
            finally:
                await reader.close()
        finally:
            await session.close()

    async def _restore(self, session: TaskSession) -> None:
        state = await session.restore()
        ends = await self._log.end_positions(self._tps)
        self._logs, self.halted = {}, {}
        logs: dict[TopicPartition, _Log] = {}
        for tp in self._tps:
            name = log_name(*tp)
            stored = state.entries.get(name.encode())
            fresh = LogState(self._keys.origin(name), self._keys.suite.name)
            known = _decoder.decode(stored) if stored is not None else fresh
            one = logs[tp] = _Log(name, tp, known, state.positions.get(tp, 0))
            try:
                await asyncio.to_thread(self._check, one, ends[tp])
            except LedgerError as error:
                self._halt(one, error)
        self._logs = logs

    def _check(self, one: _Log, end: int) -> None:
        """Refuse to go on below what was signed; publish what a crash after step 3 left unpublished."""
        self._store.publish(check_start(self._keys, one.name, one.state, one.position, end, self._store.read))

    def _halt(self, one: _Log, error: LedgerError) -> None:
        logger.error("ledger: %s is not sealed any more: %s / %s", one.name, error.words.zh, error.words.en)
        self.halted[one.name] = error
        one.waiting, one.marks_since, one.records_since = [], None, None

    async def _loop(self, session: TaskSession, reader: LogReader) -> None:
        now = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            pieces = await self._poll(reader, self._timeout(now()))
            for piece in pieces:
                self._take(piece, now())
            due = self._due(now())
            if due:
                await self._seal(session, due)

    async def _poll(self, reader: LogReader, timeout_ms: int) -> Sequence[Slice]:
        """As the reader's; at once without anything when asked to stop."""
        polling = asyncio.ensure_future(reader.poll(self._policy.max_records, timeout_ms))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({polling, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return polling.result() if polling.done() else ()
        finally:
            for waiting in (polling, stopping):
                waiting.cancel()
            await asyncio.gather(polling, stopping, return_exceptions=True)

    def _take(self, piece: Slice, now: float) -> None:
        one = self._logs[piece.tp]
        if one.name in self.halted:
            return
        one.waiting.append(piece)
        marks = sum(headers.type == CLOCK_TYPE for headers in piece.headers)
        if marks < len(piece) and one.records_since is None:
            one.records_since = now
        if marks and one.marks_since is None:
            one.marks_since = now

    def _times(self, one: _Log) -> float:
        """When a log is due, in seconds of the loop."""
        policy = self._policy
        records = float("inf") if one.records_since is None else one.records_since + policy.interval_ms / 1_000
        marks = float("inf") if one.marks_since is None else one.marks_since + policy.quiet_ms / 1_000
        return min(records, marks)

    def _timeout(self, now: float) -> int:
        """How long to wait for more, in ms."""
        nearest = min((self._times(one) for one in self._logs.values()), default=float("inf"))
        return int(max(1.0, min(10_000.0, (nearest - now) * 1_000)))

    def _due(self, now: float) -> list[_Log]:
        logs = [one for one in self._logs.values() if one.waiting]
        if sum(len(piece) for one in logs for piece in one.waiting) >= self._policy.max_records:
            return logs
        return [one for one in logs if self._times(one) <= now]

    async def _seal(self, session: TaskSession, due: Sequence[_Log]) -> None:
        made: dict[TopicPartition, Sealed] = {}
        for one in due:
            try:
                made[one.tp] = await asyncio.to_thread(self._make, one)
            except LedgerError as error:
                self._halt(one, error)
        self._faults("1-made")
        if not made:
            return
        trees = {prefix: tree for one in made.values() for prefix, tree in one.trees.items()}
        files = {(prefix, path): data for prefix, tree in trees.items() for path, data in tree.files.items()}
        await asyncio.to_thread(self._store.write, files)
        self._faults("2-stored")
        entries = {self._logs[tp].name.encode(): _encoder.encode(one.state) for tp, one in made.items()}
        await session.commit([], entries, {tp: self._logs[tp].read for tp in made})
        self._faults("3-committed")
        await asyncio.to_thread(self._publish, trees)
        for tp, sealed in made.items():
            one = self._logs[tp]
            self.sealed += sealed.state.records.size - one.state.records.size
            one.position, one.state = one.read, sealed.state
            one.waiting, one.marks_since, one.records_since = [], None, None
        self._faults("4-published")

    def _make(self, one: _Log) -> Sealed:
        records: list[LoggedRecord] = []
        offsets: list[int] = []
        for piece in one.waiting:
            for key, value, headers in zip(piece.keys, piece.values, piece.headers, strict=True):
                records.append(LoggedRecord(piece.topic, piece.partition, key, value, headers))
            offsets += piece.offsets
        return seal(self._keys, one.name, one.state, records, offsets, self._store.read)

    def _publish(self, trees: Mapping[str, SealedTree]) -> None:
        # The index of a log's offsets before its records: whoever sees a record covered can look its offset up.
        self._store.publish({prefix: trees[prefix].state.checkpoint for prefix in reversed(list(trees))})
        for prefix, tree in trees.items():
            for path in tree.filled:
                self._store.drop_partials(prefix, path)
