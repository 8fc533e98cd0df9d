"""Registration commands: the way from a person's request to the moment intake has read it.

Owns waiting. The invariants are ``aggregates``'; publishing is the outbox's.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from aggregates.outbox import SOURCE, Outbox
from aggregates.registry import Registry
from hengliu.events import topics
from hengliu.events.families.registry import RulePublished
from hengliu.intake.directory import Directory
from hengliu.ports.log import CLOCK_TYPE, EventLog, LogError, LogReader, TopicPartition, partition_for
from hengliu.reference.rules import RuleChange
from hengliu.rights import Principal

__all__ = ["Receipt", "RegistryCommands"]

logger = logging.getLogger(__name__)

RETRY_S = 1.0


class _Id(msgspec.Struct):
    id: str
    source: str


class Receipt(msgspec.Struct, frozen=True):
    """Where the event of a command stands in the registry topic: the position after it."""

    topic: str
    partition: int
    position: int


class RegistryCommands:
    """Takes registrations and answers when intake stamps by them.

    It follows the registry topic itself, because the outbox may run in another process: a notification id seen there has
    been accepted.
    """

    def __init__(
        self, registry: Registry, log: EventLog, directory: Directory, partitions: int, outbox: Outbox | None = None
    ) -> None:
        self._registry = registry
        self._log = log
        self._directory = directory
        self._outbox = outbox
        self._tp = TopicPartition(topics.REGISTRY, partition_for(SOURCE.encode(), partitions))
        self._seen = 0
        self._position = 0
        self._advanced = asyncio.Condition()

    async def register(self, principal: Principal, type_: str, data: Mapping[str, Any]) -> Receipt:
        """Register one thing in the name of ``principal``.

        Raises:
            InvariantViolated, ValidationError: nothing is stored.
            TimeoutError: stored, but not published within ten seconds; it will be.
        """
        return await self.register_all(principal, [(type_, data)])

    async def change_rule(self, principal: Principal, rule: str, change: RuleChange) -> tuple[Receipt, RulePublished | None]:
        """Publish the next version of a rule; where it stands, and the version (None: it never had one, and changed nothing).

        Raises as ``register``.
        """
        notification, version = await asyncio.to_thread(self._registry.change_rule, rule, change, principal.name)
        return await self._published(notification, 10), version

    async def register_all(
        self, principal: Principal, registrations: Sequence[tuple[str, Mapping[str, Any]]], timeout_s: float = 10
    ) -> Receipt:
        """Register several things in one transaction."""
        notification = await asyncio.to_thread(self._registry.register, registrations, principal.name)
        return await self._published(notification, timeout_s)

    async def _published(self, notification: int, timeout_s: float) -> Receipt:
        """Wait until intake has read it."""
        if self._outbox is not None:
            self._outbox.wake()
        async with asyncio.timeout(timeout_s):
            async with self._advanced:
                await self._advanced.wait_for(lambda: self._seen >= notification)
                position = self._position
            await self._directory.wait_until_read(self._tp, position)
        return Receipt(self._tp.topic, self._tp.partition, position)

    async def run(self) -> None:
        """Follow the registry topic until cancelled; a log that does not answer is asked again."""
        decode = msgspec.json.Decoder(_Id).decode
        while True:
            try:
                reader = await self._log.open_reader({self._tp: self._position})
                try:
                    while True:
                        await self._follow(reader, decode)
                finally:
                    await reader.close()
            except LogError as error:
                logger.warning("the registry topic is not readable, trying again: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _follow(self, reader: LogReader, decode: Any) -> None:
        for piece in await reader.poll(1_000, 1_000):
            seen = self._seen
            for headers, value in zip(piece.headers, piece.values, strict=True):
                if headers.type != CLOCK_TYPE:
                    event = decode(value)
                    # The outbox numbers its events; whoever holds the platform's token may have posted others in its name.
                    if event.source == SOURCE and event.id.isascii() and event.id.isdigit():
                        seen = max(seen, int(event.id))
            async with self._advanced:
                self._seen = seen
                self._position = piece.next_position
                self._advanced.notify_all()
