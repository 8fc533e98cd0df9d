"""Events as bytes, fast: one device's part of the envelope is written once."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from hengliu.events.envelope import SPEC_VERSION, iso_ms

__all__ = ["Sent", "envelope", "event", "fast_iso"]

_encode = msgspec.json.Encoder().encode

_day = (-1, "")
# A cache of one entry; a stale read costs time, never truth.


class Sent(NamedTuple):
    """One event on its way.

    Attributes:
        at: when the device sends it, epoch ms of the city.
        order: breaks ties of ``at``; rises through the run.
        device: who sends it.
        lane: events of one lane are sent one after the other (a lane is a site, or a truck's own radio).
        type: event type, as counted in the ledger (of a malformed event, that of the event it garbles).
        expect: ``accepted``, ``duplicate`` or ``refused``.
        body: the CloudEvent; empty while the run skips what was sent before.
    """

    at: int
    order: int
    device: str
    lane: int
    type: str
    expect: str
    body: bytes


def fast_iso(ms: int) -> str:
    """``envelope.iso_ms``, with the date part kept for the events of one day."""
    global _day
    day, rest = divmod(ms, 86_400_000)
    known, text = _day
    if known != day:
        text = iso_ms(ms)[:11]
        _day = (day, text)
    seconds, milli = divmod(rest, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{text}{hour:02d}:{minute:02d}:{second:02d}.{milli:03d}Z"


def envelope(source: str, type_: str) -> tuple[str, str]:
    """What stands before the id, and between id and time, in an event of this source and type."""
    return (
        f'{{"specversion":"{SPEC_VERSION}","id":"',
        f'","source":"{source}","type":"{type_}","datacontenttype":"application/json","time":"',
    )


def event(head: tuple[str, str], id_: str, time_ms: int, data: Mapping[str, Any]) -> bytes:
    """One CloudEvent in structured JSON mode."""
    return f'{head[0]}{id_}{head[1]}{fast_iso(time_ms)}","data":'.encode() + _encode(data) + b"}"
