"""All topics, in one list.

Few topics, one common partition count: identity spans types, so intake task p owns partition p of each.
"""

from hengliu.ports.log import TopicKind

CANONICAL = TopicKind.CANONICAL
EXCHANGE = TopicKind.EXCHANGE
DERIVED = TopicKind.DERIVED

REGISTRY = "registry"
WEIGHING = "weighing"
METERING = "metering"
TELEMETRY = "telemetry"
SURVEY = "survey"

BY_VEHICLE = "by-vehicle"
BY_METER = "by-meter"
BY_DEVICE = "by-device"
BY_SITE = "by-site"
BY_COMMODITY = "by-commodity"

TICKET = "ticket"
SHIPMENT = "shipment"
FLOW = "flow"
LOAD = "load"
STOCK = "stock"
WARNING = "warning"
LATE = "late"
QUARANTINE = "quarantine"

TOPICS: dict[str, TopicKind] = {
    REGISTRY: TopicKind.BROADCAST,
    WEIGHING: CANONICAL,
    METERING: CANONICAL,
    TELEMETRY: CANONICAL,
    SURVEY: CANONICAL,
    BY_VEHICLE: EXCHANGE,
    BY_METER: EXCHANGE,
    BY_DEVICE: EXCHANGE,
    BY_SITE: EXCHANGE,
    BY_COMMODITY: EXCHANGE,
    TICKET: DERIVED,
    SHIPMENT: DERIVED,
    FLOW: DERIVED,
    LOAD: DERIVED,
    STOCK: DERIVED,
    WARNING: DERIVED,
    LATE: DERIVED,
    QUARANTINE: DERIVED,
}
"""Topic to kind. Adding a topic is one line here."""
