"""What one event family declares, and the topics it may go to.

A family is one declaration in one explicit list (``hengliu.events.catalog.FAMILIES``). From it follow the JSON Schema, the
AsyncAPI channel, intake's validation, the exchange's routes, the raw table in the warehouse, ``GET /v1/events/{type}`` and
the generic page.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EventData", "Family", "Text", "Writer", "personal"]


class EventData(BaseModel):
    """Base of all payloads: frozen, strict about unknown members and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_timedelta="iso8601")

    MAX_BYTES: ClassVar[int] = 65_536


class Writer(StrEnum):
    """Who may write a family."""

    DEVICE = "device"
    """Anyone whose token covers the source, which must be a registered device."""
    PLATFORM = "platform"
    """Aggregates, through the outbox."""
    OPERATOR = "operator"
    """Stream operators, through their commit; never through intake."""


Payload: TypeAlias = type[EventData]


@dataclass(frozen=True, slots=True)
class Text:
    """A label in both languages of the platform."""

    zh: str
    en: str

    def in_language(self, language: str) -> str:
        return self.en if language.startswith("en") else self.zh


def personal(**kwargs: Any) -> Any:
    """Mark a field as personal data: stored encrypted under a per-subject key. No family has one yet."""
    return Field(json_schema_extra={"x-hengliu-personal": True}, **kwargs)


@dataclass(frozen=True, slots=True)
class Family:
    """One event type.

    Attributes:
        type: CloudEvents type, ``noun.past-participle``.
        title: what it is, for people.
        data: frozen pydantic model of the CloudEvents ``data`` member. Field titles are labels: ``Field(title=...)`` is
            Chinese, ``json_schema_extra={"x-title-en": ...}`` English.
        topic: canonical, broadcast or derived topic that holds it.
        writer: who may write it.
        key: partition key of the record in ``topic``: ``@source`` or a member of ``data``. Accepted families are keyed by
            source (dedup, chain and gap are local to a partition); derived ones by what their reader groups by.
        routes: exchange topic to the record's new key there: ``@source``, ``@site`` (of the scope that intake stamped) or a
            member of ``data``. An empty text does not route.
        example: a whole CloudEvent (without id and time) whose source is a device of the demo.
        device_signed: whether devices sign it; never together with personal fields (a registry test refuses it).
    """

    type: str
    title: Text
    data: Payload
    topic: str
    writer: Writer = Writer.DEVICE
    key: str = "@source"
    routes: Mapping[str, str] = field(default_factory=dict)
    example_source: str = ""
    example_data: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    device_signed: bool = False
