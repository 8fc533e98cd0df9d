"""Meters and belt scales: interval and register readings, and the consumption derived from them."""

from typing import Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from hengliu.events import topics
from hengliu.events.families.common import Commodity, Quantity, Scoped, Unit, UtcTime, labelled
from hengliu.events.family import EventData, Family, Text, Writer
from hengliu.events.quantities import Identifier, decimal_string

Reading = decimal_string(24, 6)
Consumption = decimal_string(24, 6)

UNITS: dict[str, frozenset[str]] = {
    "electricity": frozenset({"kWh"}),
    "water": frozenset({"m3", "L"}),
    "gas": frozenset({"m3"}),
    "heat": frozenset({"GJ", "MJ", "kWh"}),
    "steam": frozenset({"t", "kg"}),
}
"""Units that a quantity may be sent in; ``hengliu.reference.units`` converts each to the base unit."""


class MeterRead(EventData):
    """One reading of one channel of a meter.

    ``interval``: ``value`` was consumed between ``start`` and ``end`` (both given).
    ``register``: ``value`` is what the totaliser shows at the event's ``time``; ``start`` and ``end`` are absent.
    """

    meter: Identifier = labelled("计量点", "Meter")
    quantity: Quantity = labelled("介质", "Quantity")
    reading: Literal["interval", "register"] = labelled("读数类型", "Reading kind")
    value: Reading = labelled("读数", "Value")  # type: ignore[valid-type]
    unit: Unit = labelled("单位", "Unit")
    start: UtcTime | None = labelled("区间开始", "Interval start", None)
    end: UtcTime | None = labelled("区间结束", "Interval end", None)
    flow: Literal["import", "export"] = labelled("流向", "Flow", "import")
    quality: Literal["measured", "estimated"] = labelled("质量", "Quality", "measured")

    @model_validator(mode="after")
    def _coherent(self) -> "MeterRead":
        if self.unit not in UNITS[self.quantity]:
            raise PydanticCustomError(
                "unit-mismatch", "{quantity} is not measured in {unit}", {"quantity": self.quantity, "unit": self.unit}
            )
        if self.reading == "interval":
            if self.start is None or self.end is None:
                raise PydanticCustomError("interval-incomplete", "an interval reading has start and end")
            if self.start >= self.end:
                raise PydanticCustomError("interval-order", "an interval ends after it starts")
        elif self.start is not None or self.end is not None:
            raise PydanticCustomError("register-with-interval", "a register reading has neither start nor end")
        return self


class ConsumptionRecorded(Scoped):
    """What one meter channel counted in one interval; a correction is a negative one that names what it corrects."""

    meter: Identifier = labelled("计量点", "Meter")
    quantity: Quantity = labelled("介质", "Quantity")
    flow: Literal["import", "export"] = labelled("流向", "Flow", "import")
    start: UtcTime = labelled("区间开始", "Interval start")
    end: UtcTime = labelled("区间结束", "Interval end")
    amount: Consumption = labelled("用量", "Amount")  # type: ignore[valid-type]
    unit: Literal["kWh", "m3", "GJ", "t"] = labelled("单位", "Unit")
    reading: Literal["interval", "register"] = labelled("读数类型", "Reading kind")
    quality: Literal["measured", "estimated"] = labelled("质量", "Quality", "measured")


class BeltMetered(EventData):
    """Totaliser of a belt scale: kilograms carried since it was last set to zero."""

    belt: Identifier = labelled("皮带秤", "Belt scale")
    total_kg: int = labelled("累计（千克）", "Total (kg)", ge=0, le=10**15)
    rate_kg_per_h: int | None = labelled("瞬时流量（千克/小时）", "Rate (kg/h)", None, ge=0, le=10**9)
    commodity: Commodity = labelled("煤种", "Commodity", "raw")


FAMILIES = (
    Family(
        type="meter.read",
        title=Text("抄表", "Meter reading"),
        data=MeterRead,
        topic=topics.METERING,
        routes={topics.BY_METER: "meter", topics.BY_DEVICE: "@source"},
        example_source="urn:dev:org:32473-em-m01-1",
        example_data={"meter": "em-m01-1", "quantity": "electricity", "reading": "register", "value": "120345.75",
                      "unit": "kWh"},
    ),
    Family(
        type="belt.metered",
        title=Text("皮带秤", "Belt scale"),
        data=BeltMetered,
        topic=topics.METERING,
        routes={topics.BY_SITE: "@site", topics.BY_DEVICE: "@source"},
        example_source="urn:dev:org:32473-belt-m01-1",
        example_data={"belt": "belt-m01-1", "total_kg": 12_845_300, "rate_kg_per_h": 420_000, "commodity": "raw"},
    ),
    Family(
        type="consumption.recorded",
        title=Text("用量", "Consumption"),
        data=ConsumptionRecorded,
        topic=topics.LOAD,
        writer=Writer.OPERATOR,
        key="meter",
        example_source="/streams/meters",
        example_data={"enterprise": "m01", "site": "m01", "division": "150303", "meter": "em-m01-1",
                      "quantity": "electricity", "start": "2026-03-01T00:00:00Z", "end": "2026-03-01T00:15:00Z",
                      "amount": "103.25", "unit": "kWh", "reading": "register"},
    ),
)  # fmt: skip
