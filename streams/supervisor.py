"""Runs stream tasks bare, without Faust: one asyncio task each, rebuilt with back-off when it fails.

What Faust adds is membership: which of several workers runs which task. In one process all of them run here.
"""

import asyncio
import logging
from collections.abc import Sequence

from hengliu.ports.log import Fenced, TaskId
from streams.kernel.task import Progress, StreamTask
from streams.topology import Topology

__all__ = ["Supervisor"]

logger = logging.getLogger(__name__)

BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""A restart loop faster than the first commit makes no progress."""


class Supervisor:
    """Keeps a set of tasks running until stopped."""

    def __init__(self, topology: Topology, tasks: Sequence[TaskId]) -> None:
        self._topology = topology
        self._ids = tuple(tasks)
        self._running: dict[TaskId, StreamTask] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._stopping = False
        self.failures: dict[TaskId, str] = {}
        """The last failure of each task that is not running; empty when all is well."""

    async def start(self) -> None:
        self._loops = [asyncio.create_task(self._keep(task), name=str(task)) for task in self._ids]

    async def stop(self) -> None:
        """End every task after the step it is in, and wait for it."""
        self._stopping = True
        for task in self._running.values():
            task.stop()
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    def progress(self) -> dict[TaskId, Progress]:
        """What each running task has committed."""
        return {id_: task.progress for id_, task in self._running.items()}

    async def _keep(self, id_: TaskId) -> None:
        attempt = 0
        while not self._stopping:
            task = self._topology.build(id_)
            self._running[id_] = task
            try:
                await task.run()
            except asyncio.CancelledError:
                raise
            except Fenced:
                logger.warning("%s: fenced, another process runs it", id_)
                self.failures[id_] = "fenced"
            except Exception as error:
                logger.exception("%s failed; it is rebuilt from its last commit", id_)
                self.failures[id_] = f"{type(error).__name__}: {error}"
            else:
                return
            if task.progress.commits:
                attempt = 0
            await asyncio.sleep(BACK_OFF_S[min(attempt, len(BACK_OFF_S) - 1)])
            attempt += 1
            self.failures.pop(id_, None)
