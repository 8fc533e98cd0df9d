"""The one place that makes an ``event.refused``: intake, the stream tasks and the projector differ in what they know, not in
the form in which it is kept."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from hengliu.events.envelope import encode_event
from hengliu.ports.log import Headers, Record

__all__ = ["KEPT_BYTES", "REFUSED", "Payload", "Refused", "refused_record"]

REFUSED = "event.refused"
KEPT_BYTES = 65_536
"""First bytes of a refused payload that quarantine keeps."""


@dataclass(frozen=True, slots=True)
class Payload:
    """A refused payload: its first bytes, and size and SHA-256 (hex) of the whole."""

    head: bytes
    size: int
    digest: str

    @classmethod
    def of(cls, value: bytes, keep: int = KEPT_BYTES) -> "Payload":
        return cls(value[:keep], len(value), sha256(value).hexdigest())


@dataclass(frozen=True, slots=True)
class Refused:
    """What was refused and why.

    Attributes:
        reason: a code, with its parameters; never a sentence.
        pointer: JSON pointer (RFC 6901) into the refused event, or empty.
        principal: who sent it.
        source, id, type: identity of the refused event, as far as it could be read.
        scope: enterprise, site and division of the refused event; empty where unknown.
        stage: ``intake`` before it was accepted, ``stream`` after.
    """

    reason: str
    payload: Payload
    principal: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    pointer: str = ""
    source: str | None = None
    id: str | None = None
    type: str | None = None
    scope: tuple[str, str, str] = ("", "", "")
    stage: Literal["intake", "stream"] = "stream"

    def data(self) -> dict[str, Any]:
        """Payload of ``hengliu.events.families.warning.EventRefused``; text is cut to what it allows."""
        identity = {"refused_source": (self.source, 512), "refused_id": (self.id, 512), "refused_type": (self.type, 256)}
        return {
            "reason": self.reason,
            "pointer": self.pointer[:512],
            "parameters": dict(self.parameters),
            "principal": self.principal,
            "digest": self.payload.digest,
            "size_bytes": self.payload.size,
            "payload_base64": b64encode(self.payload.head).decode("ascii"),
            "stage": self.stage,
        } | {name: text[:limit] for name, (text, limit) in identity.items() if text is not None}


def refused_record(
    refused: Refused,
    source: str,
    id_: str,
    time_ms: int,
    received: int,
    *,
    key: str = "",
    known_at: int = 0,
    upstream: str = "",
    **extensions: str | int,
) -> Record:
    """The record for the topic ``quarantine``.

    Args:
        source, id_, time_ms: identity and time (epoch ms) of the ``event.refused`` itself.
        received: its receive time, monotone in the partition that it goes to.
        key: the record's key; the source when empty.
        known_at, upstream: as ``Headers``.
        extensions: more CloudEvents attributes.
    """
    enterprise, site, division = refused.scope
    headers = Headers(
        received=received, type=REFUSED, principal=refused.principal, enterprise=enterprise, site=site, division=division,
        known_at=known_at, upstream=upstream,
    )  # fmt: skip
    return Record((key or source).encode(), encode_event(REFUSED, source, id_, time_ms, refused.data(), **extensions), headers)
