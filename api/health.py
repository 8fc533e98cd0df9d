"""Liveness, readiness, metrics and statistics, tied to committed progress and not to the loop turning.

``Monitor`` looks once a second at the end of every partition and at what each stage has committed. A stage is stalled when
some partition holds records that it has not committed and its position has not moved for ``stalled_s``; a stage that stops
telling its positions stands where it was last seen. Silent canonical topics still get a clock mark a second per partition
from intake, so a stuck stage is behind within seconds, and a partition without marks means that intake does not commit.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.deps import Stage
from hengliu.metrics import Meters
from hengliu.ports.log import EventLog, LogError, TopicPartition

__all__ = ["Health", "Monitor"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """What the last look found. ``reasons`` are codes with parameters; empty when ready."""

    ready: bool
    reasons: Sequence[Mapping[str, Any]]


class Monitor:
    """Watches committed progress. ``run`` is a task of ``hengliu.compose``.

    Args:
        log: asked for the end of each partition that some stage reads.
        stages: intake, exchange, operator groups and projectors.
        stalled_s: how long a stage may be behind without moving.
        every_s: time between looks; three missed looks make the process not ready too.
        monotonic: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        log: EventLog,
        stages: Sequence[Stage],
        meters: Meters,
        *,
        stalled_s: float = 15.0,
        every_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._stages = list(stages)
        self._meters = meters
        self._stalled_s = stalled_s
        self._every_s = every_s
        self._monotonic = monotonic
        self._looked_at: float | None = None
        self._log_fault = ""
        self._behind_since: dict[tuple[str, TopicPartition], tuple[int, float]] = {}
        self._ends: Mapping[TopicPartition, int] = {}
        self._known: dict[str, dict[TopicPartition, int]] = {}
        self._ticking: tuple[TopicPartition, ...] = ()
        self._moved: dict[TopicPartition, tuple[int, float]] = {}
        self._born = monotonic()
        self._stalls: dict[str, tuple[float, TopicPartition, int]] = {}

    @property
    def ends(self) -> Mapping[TopicPartition, int]:
        """End position of each watched partition at the last look."""
        return self._ends

    @property
    def stages(self) -> Sequence[Stage]:
        return self._stages

    def watch(self, stage: Stage) -> None:
        """One stage more."""
        self._stages.append(stage)

    def expect_ticks(self, partitions: Iterable[TopicPartition]) -> None:
        """Partitions whose end must move every second, since intake writes its clock into them."""
        self._ticking = tuple(partitions)

    async def look(self) -> None:
        """Compare ends and commits once."""
        for stage in self._stages:
            self._known.setdefault(stage.name, {}).update(stage.positions())
        committed = self._known
        watched = sorted({tp for positions in committed.values() for tp in positions} | set(self._ticking))
        try:
            # The ends are read after the commits, so a stage can only seem further behind than it is.
            ends = await asyncio.wait_for(self._log.end_positions(watched), timeout=max(1.0, self._every_s))
        except (LogError, TimeoutError) as error:
            self._log_fault = type(error).__name__
            logger.warning("end positions not read", exc_info=error)
            return
        self._log_fault = ""
        now = self._monotonic()
        self._ends = ends
        for tp, end in ends.items():
            self._meters.set("log_end_position", end, topic=tp.topic, partition=str(tp.partition))
        for tp in self._ticking:
            if tp not in self._moved or self._moved[tp][0] != ends[tp]:
                self._moved[tp] = (ends[tp], now)
        stalls: dict[str, tuple[float, TopicPartition, int]] = {}
        for name, positions in committed.items():
            longest = 0.0
            for tp, position in positions.items():
                self._meters.set("stage_position", position, stage=name, topic=tp.topic, partition=str(tp.partition))
                key = (name, tp)
                if position >= ends.get(tp, 0):
                    self._behind_since.pop(key, None)
                    continue
                seen = self._behind_since.get(key)
                if seen is None or seen[0] != position:
                    self._behind_since[key] = (position, now)
                    continue
                if now - seen[1] > self._stalled_s and not await self._anything(tp, position, ends[tp]):
                    self._behind_since.pop(key, None)
                    continue
                if now - seen[1] > longest:
                    longest = now - seen[1]
                    stalls[name] = (longest, tp, position)
            self._meters.set("stage_stalled_seconds", longest, stage=name)
        self._stalls = stalls
        self._looked_at = now

    async def _anything(self, tp: TopicPartition, position: int, end: int) -> bool:
        """Whether a record stands between: a position may rest before transaction markers, and they are not work."""
        try:
            return len(await self._log.read_range(tp, position, end if end - position < 1000 else position + 1000)) > 0
        except LogError:
            return True

    def health(self) -> Health:
        """Ready, or why not."""
        reasons: list[Mapping[str, Any]] = []
        now = self._monotonic()
        if self._log_fault:
            reasons.append({"code": "log-unavailable", "fault": self._log_fault})
        if self._looked_at is None:
            reasons.append({"code": "starting"})
        elif now - self._looked_at > 3 * self._every_s + 2.0:
            reasons.append({"code": "monitor-stalled", "seconds": round(now - self._looked_at, 1)})
        if now - self._born > self._stalled_s:
            reasons += [{"code": "stage-absent", "stage": name} for name, seen in self._known.items() if not seen]
        silent = [tp for tp, (_, at) in self._moved.items() if now - at > self._stalled_s]
        if silent:
            reasons.append({"code": "intake-stalled", "partitions": sorted(f"{tp.topic}/{tp.partition}" for tp in silent)})
        for name, (seconds, tp, position) in self._stalls.items():
            if seconds > self._stalled_s:
                reasons.append(
                    {
                        "code": "stage-stalled",
                        "stage": name,
                        "topic": tp.topic,
                        "partition": tp.partition,
                        "position": position,
                        "end": self._ends.get(tp, 0),
                        "seconds": round(seconds, 1),
                    }
                )
        self._meters.set("ready", 0 if reasons else 1)
        return Health(not reasons, reasons)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(self._every_s)
