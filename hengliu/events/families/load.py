"""Loads of which only the net mass was handed on: no plate, no gross, no tare."""

from hengliu.events import topics
from hengliu.events.families.common import labelled
from hengliu.events.family import EventData, Family, Text
from hengliu.events.quantities import Identifier, Kilograms, decimal_string


class LoadDeclared(EventData):
    """The net mass of one load as a scale's operator states it.

    Not ``weighing.measured``, whose mass is what a scale showed of a named vehicle, nor ``weighing.recorded``, which the
    platform derives from two of those: a stated net mass must not pass for either, so no ticket and no stock is made of it.
    """

    place: Identifier = labelled("地点", "Place")
    net_kg: Kilograms = labelled("净重（千克）", "Net (kg)")
    material: str | None = labelled("物料", "Material", None, max_length=64)
    vehicle_class: str | None = labelled("车辆类别", "Vehicle class", None, max_length=64)
    fullness: decimal_string(8, 4, minimum="0") | None = labelled("装载率", "Fullness", None)  # type: ignore[valid-type]
    """Share of the body that was filled, as estimated: 1 is level full, heaped is more."""


FAMILIES = (
    Family(
        type="load.declared",
        title=Text("申报载荷", "Declared load"),
        data=LoadDeclared,
        topic=topics.WEIGHING,
        routes={topics.BY_DEVICE: "@source"},
        example_source="urn:dev:org:32473-wb-m01-1",
        example_data={"place": "m01", "net_kg": 907, "material": "raw", "vehicle_class": "tipper", "fullness": "0.9"},
    ),
)  # fmt: skip
