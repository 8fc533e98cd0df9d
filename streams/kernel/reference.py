"""Reference data inside a task: devices, sites, vehicles, districts and rules, by valid-from at the event's time.

A version list per key, ordered by ``valid_from`` (ms; 0: since always). The kernel cuts batches at reference events, so a
record sees exactly the registrations that were received before it.
"""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import msgspec

from hengliu.events.envelope import ms_of
from hengliu.events.families.common import UtcTime
from hengliu.events.families.registry import (
    DeviceRegistered,
    DistrictRegistered,
    EnterpriseRegistered,
    RulePublished,
    SiteRegistered,
    VehicleRegistered,
)
from hengliu.events.family import EventData
from streams.kernel.merge import GAP_TYPE

__all__ = ["GAP_MS", "REFERENCE_TABLES", "ClockResumed", "Reference", "Versions", "read_reference"]

GAP_MS = 10_000
"""A clock that stood this long was not running: intake writes it every second (``IntakePolicy.tick_after_ms``)."""


class ClockResumed(EventData):
    """Nobody received anything on a partition between two times; ``streams.kernel.merge`` finds it in the log."""

    partition: str
    valid_from: UtcTime
    until: UtcTime


KEYS: Mapping[str, tuple[str, type[EventData], str]] = {
    "district.registered": ("districts", DistrictRegistered, "division"),
    "enterprise.registered": ("enterprises", EnterpriseRegistered, "enterprise"),
    "site.registered": ("sites", SiteRegistered, "site"),
    "device.registered": ("devices", DeviceRegistered, "source"),
    "vehicle.registered": ("vehicles", VehicleRegistered, "plate"),
    "rule.published": ("rules", RulePublished, "rule"),
    GAP_TYPE: ("gaps", ClockResumed, "partition"),
}
"""Reference type to (table, payload model, member that is the key). One line a type."""


class Versions(msgspec.Struct, frozen=True):
    """All versions of one key: valid-from in ms, ascending, and the payload JSON of each."""

    since: list[int]
    payloads: list[bytes]

    def with_version(self, since: int, payload: bytes) -> "Versions":
        """This and one more; the same valid-from replaces."""
        at = bisect_right(self.since, since)
        if at and self.since[at - 1] == since:
            return Versions(self.since, [*self.payloads[: at - 1], payload, *self.payloads[at:]])
        return Versions([*self.since[:at], since, *self.since[at:]], [*self.payloads[:at], payload, *self.payloads[at:]])

    def as_of(self, time: int) -> bytes | None:
        """Payload valid at ``time`` (ms), or None."""
        at = bisect_right(self.since, time)
        return self.payloads[at - 1] if at else None


REFERENCE_TABLES: Mapping[str, type[msgspec.Struct]] = {table: Versions for table, _, _ in KEYS.values()}


class _Event(msgspec.Struct):
    data: msgspec.Raw


_event = msgspec.json.Decoder(_Event)


def read_reference(type_: str, value: bytes) -> tuple[str, str, int, bytes]:
    """(table, key, valid-from in ms, payload JSON) of one reference event that intake accepted."""
    table, model, key = KEYS[type_]
    payload = bytes(_event.decode(value).data)
    data = model.model_validate_json(payload)
    valid_from = getattr(data, "valid_from", None)
    return table, str(getattr(data, key)), 0 if valid_from is None else ms_of(valid_from), payload


class Reference:
    """Look-ups by key and event time. Parsed payloads are cached; they are immutable."""

    def __init__(self, tables: Mapping[str, Mapping[str, Versions]]) -> None:
        self._tables = tables
        self._parsed: dict[bytes, Any] = {}

    def _find(self, table: str, model: type[EventData], key: str, time: int) -> Any:
        versions = self._tables[table].get(key)
        payload = versions.as_of(time) if versions is not None else None
        if payload is None:
            return None
        parsed = self._parsed.get(payload)
        if parsed is None:
            parsed = self._parsed[payload] = model.model_validate_json(payload)
        return parsed

    def device(self, source: str, time: int) -> DeviceRegistered | None:
        return self._find("devices", DeviceRegistered, source, time)  # type: ignore[no-any-return]

    def site(self, site: str, time: int) -> SiteRegistered | None:
        return self._find("sites", SiteRegistered, site, time)  # type: ignore[no-any-return]

    def enterprise(self, enterprise: str, time: int) -> EnterpriseRegistered | None:
        return self._find("enterprises", EnterpriseRegistered, enterprise, time)  # type: ignore[no-any-return]

    def vehicle(self, plate: str, time: int) -> VehicleRegistered | None:
        return self._find("vehicles", VehicleRegistered, plate, time)  # type: ignore[no-any-return]

    def district(self, division: str, time: int) -> DistrictRegistered | None:
        return self._find("districts", DistrictRegistered, division, time)  # type: ignore[no-any-return]

    def rule(self, rule: str, time: int) -> RulePublished | None:
        return self._find("rules", RulePublished, rule, time)  # type: ignore[no-any-return]

    def unheard_ms(self, since: int, until: int) -> int:
        """How much of a time (ms, recorded time) nobody received: the union of the gaps of all partitions."""
        gaps: list[tuple[int, int]] = []
        for versions in self._tables.get("gaps", {}).values():
            # A partition's gaps do not overlap: all but the last that began before ``since`` have ended before it, too.
            first = max(bisect_right(versions.since, since) - 1, 0)
            for start, payload in zip(versions.since[first:], versions.payloads[first:], strict=True):
                if start >= until:
                    break
                gaps.append((start, ms_of(ClockResumed.model_validate_json(payload).until)))
        total, reached = 0, since
        for start, end in sorted(gaps):
            total += max(0, min(end, until) - max(start, reached))
            reached = max(reached, min(end, until))
        return total
