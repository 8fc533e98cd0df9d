"""What a transport of the stream framework needs of the platform: where a task that just got its partitions reads on.

Positions come from task state, never from a consumer group: the transport asks here after every assignment and seeks there.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from hengliu.ports.log import EventLog, TopicPartition

__all__ = ["PartitionHost"]


class PartitionHost(Protocol):
    """Runs the tasks behind a changing set of partitions."""

    @property
    def log(self) -> EventLog: ...

    @property
    def poll_records(self) -> int:
        """Records of all partitions that one poll may bring: a task takes a slice in one step, and everything else waits."""
        ...

    def committed(self, tp: TopicPartition) -> int | None:
        """The position of a partition that its task has committed, if it has one here: for whoever watches the lag."""
        ...

    async def assigned(self, tps: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """These partitions, and only these, are ours from now on. Opens the sessions of tasks that are new (which fences
        whoever had them), keeps those that stayed, ends the others; returns the position to read each partition from. One whose
        task cannot be opened is left out, and holds no other up: it is sought once its task is open.
        """
        ...

    async def revoked(self, tps: Collection[TopicPartition]) -> None:
        """These partitions are on their way to somebody else. Returns when no step on them is running any more."""
        ...
