"""The one list of event families, and the catalogue made from it.

A new family is a module under ``families`` and one line in ``FAMILIES``. A test or an extension may build its own
``Catalog`` with more families; nothing registers itself on import.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property

from hengliu.events import topics
from hengliu.events.families import flow, gate, late, load, metering, registry, shipment, survey, telemetry, warning, weighing
from hengliu.events.family import Family, Writer
from hengliu.ports.log import TopicKind, TopicSpec

__all__ = ["FAMILIES", "Catalog"]

FAMILIES: tuple[Family, ...] = (
    *weighing.FAMILIES,
    *shipment.FAMILIES,
    *gate.FAMILIES,
    *load.FAMILIES,
    *metering.FAMILIES,
    *telemetry.FAMILIES,
    *survey.FAMILIES,
    *flow.FAMILIES,
    *registry.FAMILIES,
    *warning.FAMILIES,
    *late.FAMILIES,
)


class Catalog:
    """Families by type, and the topics they need.

    Raises:
        ValueError: a type stands twice, a topic is not declared, or a field is marked personal (nothing encrypts it yet).
    """

    def __init__(self, families: Iterable[Family] = FAMILIES) -> None:
        self.families: Mapping[str, Family] = {}
        by_type: dict[str, Family] = {}
        for family in families:
            if family.type in by_type:
                raise ValueError(f"event type {family.type} is declared twice")
            for topic in (family.topic, *family.routes):
                if topic not in topics.TOPICS:
                    raise ValueError(f"{family.type}: topic {topic} is not declared in hengliu.events.topics")
            if any(
                isinstance(f.json_schema_extra, dict) and f.json_schema_extra.get("x-hengliu-personal")
                for f in family.data.model_fields.values()
            ):
                raise ValueError(f"{family.type}: a personal field would be stored in clear; encryption is not built yet")
            by_type[family.type] = family
        self.families = by_type

    def __getitem__(self, type_: str) -> Family:
        return self.families[type_]

    def __contains__(self, type_: object) -> bool:
        return type_ in self.families

    def extended(self, *more: Family) -> "Catalog":
        """This catalogue and more families."""
        return Catalog((*self.families.values(), *more))

    @cached_property
    def accepted(self) -> Mapping[str, Family]:
        """Families that come in from outside, by type."""
        return {t: f for t, f in self.families.items() if f.writer is not Writer.OPERATOR}

    def topic_specs(self, partitions: int) -> list[TopicSpec]:
        """Every declared topic with the common partition count."""
        return [TopicSpec(name, kind, partitions) for name, kind in topics.TOPICS.items()]

    @staticmethod
    def canonical_topics() -> tuple[str, ...]:
        """Topics that intake writes."""
        return tuple(t for t, k in topics.TOPICS.items() if k in (TopicKind.CANONICAL, TopicKind.BROADCAST))
