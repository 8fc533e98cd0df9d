"""A device, known by its event source."""

from aggregates.registration import InvariantViolated, Kind
from hengliu.events.families.registry import DeviceRegistered


def _name_is_fixed(latest: DeviceRegistered, data: DeviceRegistered) -> None:
    if data.device != latest.device:
        raise InvariantViolated("device-name-fixed", source=latest.source, device=latest.device)


DEVICE = Kind("device.registered", DeviceRegistered, "source", ("site", "site.registered"), _name_is_fixed)
