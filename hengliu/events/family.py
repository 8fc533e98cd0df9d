"""What one event family declares, and the text in two languages that everything shown to people is made of.

A family is one declaration in one explicit list (``hengliu.events.catalog.FAMILIES``). From it follow the JSON Schema, the
AsyncAPI channel, intake's validation, the exchange's routes, the raw table in the warehouse, ``GET /v1/events/{type}`` and
the generic page.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EventData", "Family", "Text", "Writer", "personal"]


class EventData(BaseModel):
    """Base of all payloads: frozen, strict about unknown members and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_timedelta="iso8601")


class Writer(StrEnum):
    """Who may write a family."""

    DEVICE = "device"
    """Anyone whose token covers the source, which must be a registered device."""
    PLATFORM = "platform"
    """Aggregates, through the outbox."""
    OPERATOR = "operator"
    """The platform's own stages (operators, and whoever refuses an event), through their commit; never taken from outside."""


Payload: TypeAlias = type[EventData]


@dataclass(frozen=True, slots=True)
class Text:
    """A label, or a message with ``{name}`` places, in both languages of the platform."""

    zh: str
    en: str

    def in_language(self, language: str) -> str:
        return self.en if language.startswith("en") else self.zh

    def filled(self, **parameters: object) -> "Text":
        """The message with its places filled. Raises KeyError when one is missing (``reference.problems.fill`` never does)."""
        return Text(self.zh.format(**parameters), self.en.format(**parameters))

    def both(self, between: str = " / ") -> str:
        """Chinese, then English: for a reader whose language is not known."""
        return f"{self.zh}{between}{self.en}"


def personal(**kwargs: Any) -> Any:
    """Mark a field as personal data. A catalogue refuses it until such fields are stored encrypted under a per-subject key."""
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
        example_source: source of the example, where devices write the family a device of the demo.
        example_data: a payload that the model accepts; with source, id and time it is a whole CloudEvent.
        version: of the payload. A published type may gain optional members only.
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
