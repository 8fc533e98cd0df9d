"""Generated documents: the JSON Schema of each event type, AsyncAPI 3.0 and the parts that OpenAPI shares with them.

All of them follow from the catalogue of families; nothing is written by hand per type. ``hengliu`` commits the generated
files under ``docs/generated`` and a test fails when they are stale.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Final

from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.events.envelope import SPEC_VERSION, iso_ms
from hengliu.events.family import Family, Writer

__all__ = ["EXAMPLE_MS", "asyncapi_document", "component_name", "data_schemas", "event_schema", "example_event", "schema_list"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

EXAMPLE_MS: Final = 1_772_331_000_000
"""Time of the examples in committed documents: 2026-03-01T02:10:00Z, so that generating twice gives the same bytes."""

ENVELOPE: Final[Mapping[str, Any]] = {
    "specversion": {"const": SPEC_VERSION},
    "id": {
        "type": "string",
        "minLength": 1,
        "maxLength": 256,
        "title": "编号",
        "x-title-en": "Id",
        "description": "The device's own sequence number or the row's natural key. (source, id) is the identity for ever.",
    },
    "source": {
        "type": "string",
        "minLength": 1,
        "maxLength": 256,
        "format": "uri-reference",
        "title": "来源",
        "x-title-en": "Source",
        "description": "The registered device.",
    },
    "time": {"type": "string", "format": "date-time", "title": "时间", "x-title-en": "Time"},
    "datacontenttype": {"const": "application/json"},
    "dataschema": {"type": "string", "format": "uri-reference"},
    "subject": {"type": "string", "minLength": 1},
}
"""Context attributes of CloudEvents 1.0.2, 3.1, as this platform takes them."""


def example_event(family: Family, now_ms: int, id_: str) -> dict[str, Any]:
    """A whole CloudEvent of this family with a given time and id; from the demo's own device where devices send it."""
    return {
        "specversion": SPEC_VERSION,
        "id": id_,
        "source": family.example_source,
        "type": family.type,
        "time": iso_ms(now_ms),
        "datacontenttype": "application/json",
        "data": dict(family.example_data),
    }


def _data_schema(family: Family, ref_template: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Schema of ``data`` and the definitions it refers to."""
    schema = family.data.model_json_schema(ref_template=ref_template)
    definitions = schema.pop("$defs", {})
    return schema, definitions


def event_schema(family: Family, example: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """JSON Schema (2020-12) of the whole CloudEvent of one family.

    ``examples`` stands only in schemas of families that devices send, so that every example under it is one that
    ``POST /v1/events`` takes; what the platform itself writes shows its example as ``x-hengliu-example``.
    """
    data, definitions = _data_schema(family, "#/$defs/{model}")
    document: dict[str, Any] = {
        "$schema": DIALECT,
        "$id": f"/v1/schemas/{family.type}",
        "title": family.title.zh,
        "x-title-en": family.title.en,
        "x-hengliu-version": family.version,
        "x-hengliu-topic": family.topic,
        "x-hengliu-writer": family.writer.value,
        "type": "object",
        "required": ["specversion", "id", "source", "type", "time", "data"],
        "properties": {
            **copy.deepcopy(dict(ENVELOPE)),
            "type": {"const": family.type},
            "data": data,
        },
        "propertyNames": {"pattern": "^[a-z0-9_]+$"},
        "additionalProperties": {"type": ["string", "integer", "boolean"]},
    }
    if definitions:
        document["$defs"] = definitions
    if example is not None:
        document["examples" if family.writer is Writer.DEVICE else "x-hengliu-example"] = (
            [dict(example)] if family.writer is Writer.DEVICE else dict(example)
        )
    return document


def schema_list(catalog: Catalog) -> list[dict[str, Any]]:
    """What ``GET /v1/schemas`` lists."""
    return [
        {
            "type": family.type,
            "title": family.title.zh,
            "title_en": family.title.en,
            "version": family.version,
            "topic": family.topic,
            "writer": family.writer.value,
            "schema": f"/v1/schemas/{family.type}",
            "events": f"/v1/events/{family.type}",
        }
        for family in catalog.families.values()
    ]


def component_name(type_: str) -> str:
    """``weighing.measured`` -> ``WeighingMeasured``, its name among the components of a document."""
    return "".join(part.capitalize() for part in type_.split("."))


def data_schemas(families: Iterable[Family]) -> dict[str, Any]:
    """Schemas of all ``data`` members and whole events as components, with references between them."""
    schemas: dict[str, Any] = {}
    for family in families:
        data, definitions = _data_schema(family, "#/components/schemas/{model}")
        name = component_name(family.type)
        schemas.update(definitions)
        schemas[f"{name}Data"] = data
        schemas[name] = {
            "title": family.title.zh,
            "x-title-en": family.title.en,
            "type": "object",
            "required": ["specversion", "id", "source", "type", "time", "data"],
            "properties": {
                **copy.deepcopy(dict(ENVELOPE)),
                "type": {"const": family.type},
                "data": {"$ref": f"#/components/schemas/{name}Data"},
            },
        }
    return schemas


HEADERS_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["received", "type"],
    "properties": {
        "received": {"type": "integer", "description": "Receive time, ms since 1970-01-01T00:00:00Z, monotone in a partition"},
        "type": {"type": "string", "description": "CloudEvents type, or clock.ticked for a record without a value"},
        "principal": {"type": "string", "description": "Who sent it"},
        "enterprise": {"type": "string", "description": "Scope, stamped from the device's registration"},
        "site": {"type": "string"},
        "division": {"type": "string", "description": "GB/T 2260-2007 code"},
        "known_at": {"type": "integer", "description": "Derived records: greatest receive time among the causes, ms"},
        "upstream": {"type": "string", "description": "Writing task of exchange records and clock marks"},
        "origin": {"type": "string", "description": "Exchange records: topic/partition/offset of the canonical record"},
        "raw": {"type": "string", "description": "Digest of the raw wire frame"},
    },
}
"""Record headers (``hengliu.ports.log.Headers``); on Kafka each is a header of the same name."""


def asyncapi_document(catalog: Catalog, version: str) -> dict[str, Any]:
    """AsyncAPI 3.0.0: a channel per topic, a message per event type, who writes and reads it."""
    families = list(catalog.families.values())
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for family in families:
        name = component_name(family.type)
        messages[name] = {
            "name": family.type,
            "title": family.title.zh,
            "summary": family.title.en,
            "contentType": "application/cloudevents+json",
            "headers": {"$ref": "#/components/schemas/RecordHeaders"},
            "payload": {"$ref": f"#/components/schemas/{name}"},
            "x-hengliu-writer": family.writer.value,
            "x-hengliu-key": family.key,
            "examples": [
                {
                    "headers": {"received": EXAMPLE_MS, "type": family.type},
                    "payload": example_event(family, EXAMPLE_MS, "example-1"),
                }
            ],
        }
    for topic, kind in topics.TOPICS.items():
        held = [f for f in families if f.topic == topic or topic in f.routes]
        channels[topic] = {
            "address": topic,
            "title": topic,
            "description": f"{kind.value} topic",
            "messages": {component_name(f.type): {"$ref": f"#/components/messages/{component_name(f.type)}"} for f in held},
        }
        if held:
            operations[f"read-{topic}"] = {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{topic}"},
                "summary": f"Read committed records of {topic}",
            }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Hengliu 衡流",
            "version": version,
            "description": "Topics of the event log. A record's value is one CloudEvent, as its sender wrote it.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": {"RecordHeaders": copy.deepcopy(dict(HEADERS_SCHEMA)), **data_schemas(families)},
        },
    }
