"""Shipments: the weighings that belong to one load, from where it was put on a truck to where it was taken off."""

from typing import Literal

from hengliu.events import topics
from hengliu.events.families.common import Commodity, Scoped, UtcTime, labelled
from hengliu.events.family import Family, Text, Writer
from hengliu.events.quantities import DivisionCode, Identifier, Kilograms, Plate


class ShipmentWeighed(Scoped):
    """One weighing of a load, under the shipment that it belongs to.

    Derived from tickets so that loading and unloading meet, whatever plates they name. ``arrived`` is an unloading without a
    ticket: the truck was weighed laden, but never empty.
    """

    shipment: Identifier = labelled("运输编号", "Shipment")
    """The waybill; without one ``ticket:`` and the id of the loading ticket."""
    stage: Literal["loaded", "unloaded", "arrived"] = labelled("环节", "Stage")
    plate: Plate = labelled("车牌号", "Plate")
    waybill: Identifier | None = labelled("运单号", "Waybill", None)
    ticket: str = labelled("磅单编号", "Ticket", "", max_length=64)
    gross_kg: Kilograms = labelled("毛重（千克）", "Gross (kg)")
    net_kg: Kilograms | None = labelled("净重（千克）", "Net (kg)", None)
    gross_time: UtcTime = labelled("毛重时间", "Gross at")
    tare_source: Literal["measured", "register"] | None = labelled("皮重来源", "Tare from", None)
    commodity: Commodity | None = labelled("煤种", "Commodity", None)
    """None: neither crossing said what it was."""
    origin: DivisionCode | None = labelled("起运地", "Origin division", None)
    destination: DivisionCode | None = labelled("到达地", "Destination division", None)


FAMILIES = (
    Family(
        type="shipment.weighed",
        title=Text("运输过磅", "Shipment weighing"),
        data=ShipmentWeighed,
        topic=topics.SHIPMENT,
        writer=Writer.OPERATOR,
        key="shipment",
        example_source="/streams/legs",
        example_data={
            "enterprise": "m01", "site": "m01", "division": "150303", "shipment": "yd0000001", "stage": "loaded",
            "plate": "蒙C12345", "waybill": "yd0000001", "ticket": "0123456789abcdef0123456789abcdef", "gross_kg": 48_920,
            "net_kg": 33_620, "gross_time": "2026-03-01T02:10:00Z", "tare_source": "measured", "commodity": "raw",
            "destination": "150302",
        },
    ),
)  # fmt: skip
