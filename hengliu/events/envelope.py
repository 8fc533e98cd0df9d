"""CloudEvents 1.0, structured JSON mode: writing one, and the times inside.

Reading what strangers sent is ``hengliu.intake.parse``; decoding what intake accepted is msgspec, straight into columns.
"""

import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec

__all__ = ["RFC3339", "SPEC_VERSION", "derived_id", "encode_event", "iso_ms", "ms_of"]

SPEC_VERSION = "1.0"

RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})")
"""The form in which every decoder of this platform reads a time alike: no space for the T, seconds, an offset."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encoder = msgspec.json.Encoder(decimal_format="string", order=None)


def iso_ms(ms: int) -> str:
    """Epoch milliseconds as RFC 3339 in UTC, with milliseconds: ``2026-03-01T02:10:00.000Z``."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms_of(time: datetime) -> int:
    """Epoch milliseconds of an aware datetime, exactly (no float on the way); microseconds are cut."""
    delta = time - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def encode_event(
    type_: str,
    source: str,
    id_: str,
    time_ms: int,
    data: Any,
    **extensions: str | int,
) -> bytes:
    """One CloudEvent as JSON bytes. ``data`` is a mapping or a msgspec Struct; Decimals become strings."""
    return _encoder.encode(
        {
            "specversion": SPEC_VERSION,
            "id": id_,
            "source": source,
            "type": type_,
            "time": iso_ms(time_ms),
            "datacontenttype": "application/json",
            **extensions,
            "data": data,
        }
    )


def derived_id(operator: str, version: int, *parts: str | int) -> str:
    """Identity of a derived event: what made it and for which key, window and pane. 128 bits of SHA-256, hex.

    Parts are length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = sha256()
    for part in (operator, version, *parts):
        text = str(part).encode()
        digest.update(len(text).to_bytes(4, "big"))
        digest.update(text)
    return digest.hexdigest()[:32]
