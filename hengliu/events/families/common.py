"""Pieces that several families share."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from hengliu.events.envelope import RFC3339
from hengliu.events.family import EventData
from hengliu.events.quantities import DivisionCode, Identifier, decimal_string

__all__ = ["Commodity", "Degrees", "Direction", "Quantity", "Scoped", "Unit", "Use", "UtcTime", "labelled"]


def _from_rfc3339(value: object) -> object:
    # pydantic alone also takes "1772323200", a space for the T, and times without seconds; who decodes later does not.
    if not isinstance(value, str):
        return value
    if RFC3339.fullmatch(value) is None:
        raise PydanticCustomError("time-form", "not an RFC 3339 time with an offset")
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise PydanticCustomError("time-form", "not an RFC 3339 time with an offset") from error


def _utc(value: datetime) -> datetime:
    # The warehouse's DateTime64 wraps silently outside 1900 to 2299; year 1 and 9999 overflow in astimezone.
    if not 1900 <= value.year < 2200:
        raise PydanticCustomError("time-range", "a time lies between the years 1900 and 2199")
    return value.astimezone(UTC)


UtcTime = Annotated[AwareDatetime, BeforeValidator(_from_rfc3339), AfterValidator(_utc)]
"""An RFC 3339 time with an offset, from the years 1900 to 2199; kept in UTC."""

Commodity = Literal["raw", "cleaned", "middlings", "slime", "gangue", "coke", "anthracite", "lignite", "other"]
"""Coal as sold: 原煤 洗精煤 中煤 煤泥 矸石 焦炭 无烟煤 褐煤 其他 (names: ``hengliu.reference.codes``)."""

Use = Literal["power", "coking", "chemical", "heating", "washing", "trade", "building", "other"]
"""What the coal is for (用途)."""

Direction = Literal["in", "out"]
"""Seen from the site: ``out`` left it laden, ``in`` came to it laden."""

Quantity = Literal["electricity", "water", "gas", "heat", "steam"]
Unit = Literal["kWh", "m3", "L", "GJ", "MJ", "t", "kg"]


Degrees = decimal_string(10, 7)
"""A geographic coordinate; seven digits are a centimetre."""


def labelled(zh: str, en: str, default: Any = ..., **kwargs: Any) -> Any:
    """A field with its label in both languages."""
    extra = {"x-title-en": en, **kwargs.pop("extra", {})}
    if default is ...:
        return Field(title=zh, json_schema_extra=extra, **kwargs)
    return Field(default, title=zh, json_schema_extra=extra, **kwargs)


class Scoped(EventData):
    """Where something happened, copied from the causes' scope headers."""

    enterprise: Identifier = labelled("企业", "Enterprise")
    site: Identifier = labelled("场所", "Site")
    division: DivisionCode = labelled("行政区划", "Division")
