"""The outbox: publishes the registry's events through intake, in order, each once.

The steps, and what a death after each leaves behind (``docs/protocols/outbox.md``):

1. read notifications after the last position
2. hand them to intake as CloudEvents; id = notification id, source = ``/aggregates/registry``
3. when intake has answered for all of them, commit the position

A crash after 2 hands the same ids over again, and intake's dedup over (source, id) drops them: so 1 to 3 may repeat at will,
and the event store needs no second transaction with the log.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import msgspec

from aggregates.registry import Notification, Registry
from hengliu.events.envelope import encode_event, ms_of
from hengliu.events.families.registry import REGISTRAR
from hengliu.ports.log import EventLog, TaskId

__all__ = ["SOURCE", "Outbox", "OutboxBlocked", "Submit"]

logger = logging.getLogger(__name__)

SOURCE = "/aggregates/registry"

Submit = Callable[[Sequence[bytes]], Awaitable[Sequence[str]]]
"""Hands CloudEvents to intake; answers each one's status (accepted, duplicate, refused) when it is durable."""

_POSITION = b"notification"


class OutboxBlocked(Exception):
    """Intake refused an event of the registry. Publishing stops there: order matters more than progress."""


class Outbox:
    """One task that tails the registry.

    Args:
        registry: the event store's application.
        log: keeps the position, as the state of task ``outbox-0``.
        submit: the way to intake.
    """

    def __init__(self, registry: Registry, log: EventLog, submit: Submit, poll_s: float = 0.5) -> None:
        self._registry = registry
        self._log = log
        self._submit = submit
        self._poll_s = poll_s
        self._wake = asyncio.Event()
        self._published = 0

    def wake(self) -> None:
        """Something was registered in this process: do not wait for the next poll."""
        self._wake.set()

    def _next_batch(self) -> list[Notification]:
        return list(self._registry.notifications(self._published))

    async def run(self) -> None:
        """Publish until cancelled.

        Raises:
            OutboxBlocked: intake refused an event; it stays first in line.
            Fenced: another outbox has taken over.
        """
        session = await self._log.open_task(TaskId("outbox", 0))
        try:
            state = await session.restore()
            self._published = msgspec.msgpack.decode(state.entries.get(_POSITION, b"\x00"), type=int)
            while True:
                batch = await asyncio.to_thread(self._next_batch)
                if not batch:
                    self._wake.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), self._poll_s)
                    continue
                statuses = await self._submit([_event_of(notification) for notification in batch])
                for notification, status in zip(batch, statuses, strict=True):
                    if status == "refused":
                        raise OutboxBlocked(f"intake refused notification {notification.id} ({notification.event_type})")
                await session.commit([], {_POSITION: msgspec.msgpack.encode(batch[-1].id)}, {})
                self._published = batch[-1].id
        finally:
            await session.close()


def _event_of(notification: Notification) -> bytes:
    named = {REGISTRAR: notification.principal} if notification.principal else {}
    payload = msgspec.Raw(notification.payload.encode())
    return encode_event(notification.event_type, SOURCE, str(notification.id), ms_of(notification.time), payload, **named)
