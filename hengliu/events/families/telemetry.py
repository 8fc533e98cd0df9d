"""What devices and vehicles say of themselves."""

from typing import Literal

from hengliu.events import topics
from hengliu.events.families.common import labelled
from hengliu.events.family import EventData, Family, Text
from hengliu.events.quantities import Plate, decimal_string


class DeviceReported(EventData):
    """A heartbeat, or a change of power or network (two supplies and two networks: 双网双电)."""

    kind: Literal["heartbeat", "power", "network"] = labelled("类别", "Kind")
    state: Literal["ok", "backup", "lost"] = labelled("状态", "State", "ok")
    uptime_s: int | None = labelled("运行时间（秒）", "Uptime (s)", None, ge=0)
    firmware: str | None = labelled("固件", "Firmware", None, max_length=64)


class VehicleLocated(EventData):
    """A position fix."""

    plate: Plate = labelled("车牌号", "Plate")
    latitude: decimal_string(10, 7, minimum="-90", maximum="90") = labelled("纬度", "Latitude")  # type: ignore[valid-type]
    longitude: decimal_string(10, 7, minimum="-180", maximum="180") = labelled("经度", "Longitude")  # type: ignore[valid-type]
    datum: Literal["wgs84", "gcj02", "bd09"] = labelled("坐标系", "Datum", "wgs84")
    speed_kmh: decimal_string(6, 2, minimum="0") | None = labelled("速度（km/h）", "Speed (km/h)", None)  # type: ignore[valid-type]
    heading_degrees: int | None = labelled("方向角", "Heading (°)", None, ge=0, le=360)
    laden: bool | None = labelled("重车", "Laden", None)


FAMILIES = (
    Family(
        type="device.reported",
        title=Text("设备状态", "Device report"),
        data=DeviceReported,
        topic=topics.TELEMETRY,
        routes={topics.BY_DEVICE: "@source", topics.BY_SITE: "@site"},
        example_source="urn:dev:org:32473-wb-m01-1",
        example_data={"kind": "heartbeat", "state": "ok", "uptime_s": 86_400},
    ),
    Family(
        type="vehicle.located",
        title=Text("车辆定位", "Vehicle position"),
        data=VehicleLocated,
        topic=topics.TELEMETRY,
        routes={topics.BY_VEHICLE: "plate"},
        example_source="urn:dev:org:32473-gps-0001",
        example_data={"plate": "蒙C12345", "latitude": "39.4123456", "longitude": "106.8123456", "speed_kmh": "42.50",
                      "heading_degrees": 185, "laden": True},
    ),
)  # fmt: skip
