"""Weighings: one crossing of a scale, and the ticket that two crossings make."""

from typing import Annotated, Literal

from pydantic import Field

from hengliu.events import topics
from hengliu.events.families.common import Commodity, Direction, Scoped, Use, UtcTime, labelled
from hengliu.events.family import EventData, Family, Text, Writer
from hengliu.events.quantities import DivisionCode, Identifier, Kilograms, Plate

Curve = Annotated[list[Annotated[int, Field(strict=True, ge=-10_000, le=1_000_000)]], Field(min_length=2, max_length=240)]
"""What an indicator showed while a vehicle drove on and stood, kilograms at equal intervals (``curve_interval_ms``): a minute
at four a second."""


class WeighingMeasured(EventData):
    """One vehicle, whole, standing still on one scale."""

    plate: Plate = labelled("车牌号", "Plate")
    trailer_plate: Plate | None = labelled("挂车车牌", "Trailer plate", None)
    mass_kg: Kilograms = labelled("重量（千克）", "Mass (kg)")
    axles: int | None = labelled("轴数", "Axles", None, ge=2, le=12)
    commodity: Commodity | None = labelled("煤种", "Commodity", None)
    use: Use | None = labelled("用途", "Use", None)
    origin: DivisionCode | None = labelled("起运地", "Origin division", None)
    destination: DivisionCode | None = labelled("到达地", "Destination division", None)
    waybill: Identifier | None = labelled("运单号", "Waybill", None)
    zero_kg: int | None = labelled("空秤示值（千克）", "Idle reading before (kg)", None, ge=-1000, le=1000)
    curve_kg: Curve | None = labelled("称重曲线（千克）", "Weight curve (kg)", None)
    curve_interval_ms: int | None = labelled("曲线采样间隔（毫秒）", "Interval of the curve (ms)", None, ge=10, le=10_000)


class WeighingRecorded(Scoped):
    """The ticket: gross and tare of one vehicle at one site, and what it carried."""

    plate: Plate = labelled("车牌号", "Plate")
    direction: Direction = labelled("方向", "Direction")
    gross_kg: Kilograms = labelled("毛重（千克）", "Gross (kg)")
    tare_kg: Kilograms = labelled("皮重（千克）", "Tare (kg)")
    net_kg: Kilograms = labelled("净重（千克）", "Net (kg)")
    gross_time: UtcTime = labelled("毛重时间", "Gross at")
    tare_time: UtcTime | None = labelled("皮重时间", "Tare at", None)
    tare_source: Literal["measured", "register"] = labelled("皮重来源", "Tare from")
    axles: int | None = labelled("轴数", "Axles", None)
    commodity: Commodity = labelled("煤种", "Commodity")
    commodity_assumed: bool = labelled("煤种为推定", "Commodity assumed", False)
    """Neither crossing said what it was."""
    use: Use = labelled("用途", "Use")
    origin: DivisionCode | None = labelled("起运地", "Origin division", None)
    destination: DivisionCode | None = labelled("到达地", "Destination division", None)
    waybill: Identifier | None = labelled("运单号", "Waybill", None)


class PlateCaptured(EventData):
    """A camera read a plate."""

    plate: Plate = labelled("车牌号", "Plate")
    lane: Identifier = labelled("车道", "Lane")
    direction: Direction | None = labelled("方向", "Direction", None)
    confidence_percent: int | None = labelled("置信度（%）", "Confidence (%)", None, ge=0, le=100)
    photo_digest: str | None = labelled("照片摘要", "Photo digest", None, pattern=r"^sha256:[0-9a-f]{64}$")
    photo_bytes: int | None = labelled("照片字节数", "Photo size (bytes)", None, ge=0)


FAMILIES = (
    Family(
        type="weighing.measured",
        title=Text("过磅", "Weighing"),
        data=WeighingMeasured,
        topic=topics.WEIGHING,
        routes={topics.BY_VEHICLE: "plate", topics.BY_DEVICE: "@source", topics.BY_SITE: "@site"},
        example_source="urn:dev:org:32473-wb-m01-1",
        example_data={"plate": "蒙C12345", "mass_kg": 48_920, "axles": 6, "commodity": "raw", "use": "power", "zero_kg": 0,
                      "curve_kg": [0, 6_940, 24_310, 48_700, 48_980, 48_900, 48_920, 48_920], "curve_interval_ms": 500},
    ),
    Family(
        type="weighing.recorded",
        title=Text("磅单", "Weighing ticket"),
        data=WeighingRecorded,
        topic=topics.TICKET,
        writer=Writer.OPERATOR,
        key="site",
        example_source="/streams/tickets",
        example_data={
            "enterprise": "m01", "site": "m01", "division": "150303", "plate": "蒙C12345", "direction": "out",
            "gross_kg": 48_920, "tare_kg": 15_300, "net_kg": 33_620, "gross_time": "2026-03-01T02:10:00Z",
            "tare_time": "2026-03-01T01:40:00Z", "tare_source": "measured", "axles": 6, "commodity": "raw", "use": "power",
        },
    ),
    Family(
        type="plate.captured",
        title=Text("车牌抓拍", "Plate capture"),
        data=PlateCaptured,
        topic=topics.WEIGHING,
        routes={topics.BY_VEHICLE: "plate", topics.BY_DEVICE: "@source", topics.BY_SITE: "@site"},
        example_source="urn:dev:org:32473-cam-m01-1",
        example_data={"plate": "蒙C12345", "lane": "in-1", "direction": "in", "confidence_percent": 98},
    ),
)  # fmt: skip
