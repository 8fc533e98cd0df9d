"""Decoding what operators read, and the pieces that several of them emit.

Intake has validated every record once; here only the members that an operator needs are decoded, straight from the bytes.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from hengliu.events.envelope import derived_id, iso_ms, ms_of
from streams.kernel.operator import Emit

__all__ = ["DAY_MS", "HOUR_MS", "Event", "Scope", "hour_of", "join_causes", "time_of", "warning", "warning_id"]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

Data = TypeVar("Data")
Scope = tuple[str, str, str]
"""Enterprise, site and division, as the record headers say."""


class Event(msgspec.Struct, Generic[Data], frozen=True):
    """A CloudEvent as an operator sees it. ``time`` is absent only where a sender left it out."""

    id: str
    source: str
    data: Data
    time: datetime | None = None


def time_of(event: Event[Data], received: int) -> int:
    """Event time in ms; an event without one happened when it was received."""
    return ms_of(event.time) if event.time is not None else received


def hour_of(time: int) -> int:
    """Start of the hour that holds ``time`` (ms). Hours of UTC and of Asia/Shanghai are the same ones."""
    return time // HOUR_MS * HOUR_MS


def join_causes(causes: tuple[str, ...]) -> str:
    """The ``cause`` attribute: up to eight causes, else the first and the last as a range."""
    return ",".join(causes) if len(causes) <= 8 else f"{causes[0]}..{causes[-1]}"


def warning_id(operator: str, version: int, *identity: str | int) -> str:
    """Id of a warning, the same from raised to cleared."""
    return derived_id(operator, version, "warning", *identity)


def warning(
    change: str,
    warning: str,
    code: str,
    *,
    severity: str,
    subject: str,
    scope: Scope,
    parameters: Mapping[str, str],
    since: int,
    time: int,
    at: int,
    known_at: int,
    cause: str = "",
    rule: str = "",
    rule_version: int = 0,
    sequence: int = 0,
) -> Emit:
    """One ``warning.raised``, ``.updated`` or ``.cleared``.

    Args:
        change: ``raised``, ``updated`` or ``cleared``.
        warning: id of the warning (``warning_id``).
        since: when its cause began, ms.
        time: event time of this change, ms.
        sequence: number of this change within the warning; with ``change`` it makes the event's identity.
    """
    return Emit(
        type=f"warning.{change}",
        identity=("warning", warning, change, sequence),
        time=time,
        at=at,
        known_at=known_at,
        data={
            "warning": warning,
            "code": code,
            "severity": severity,
            "subject": subject,
            "enterprise": scope[0],
            "site": scope[1],
            "division": scope[2],
            "parameters": dict(parameters),
            "rule": rule,
            "rule_version": rule_version,
            "since": iso_ms(since),
        },
        cause=cause,
        scope=scope,
    )
