"""Quantities as they stand on the wire and in sums: integers and exact decimals, never floats.

Mass is integer kilograms and money integer fen. Everything else is a JSON string holding a decimal of a declared scale,
because a JSON number has been through a float in most clients that wrote it.
"""

import re
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

__all__ = ["DivisionCode", "Identifier", "Kilograms", "Plate", "decimal_string", "to_scale"]

_PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def decimal_string(digits: int, scale: int, *, minimum: str | None = None, maximum: str | None = None) -> Any:
    """An annotated Decimal whose JSON form is a string with at most ``scale`` fractional digits.

    Args:
        digits: total significant digits, 38 at most (ClickHouse Decimal128).
        scale: fractional digits; also the scale of the warehouse column.
        minimum: smallest allowed value, as a decimal string.
        maximum: largest allowed value, as a decimal string.
    """

    def only_strings(value: object) -> object:
        if isinstance(value, Decimal):
            return value
        if not isinstance(value, str):
            raise PydanticCustomError("decimal-not-string", 'a decimal is a JSON string, such as "12.345"')
        # Decimal() also takes exponents, underscores, "1.", ".5", NaN and the digits of every script; the columns do not.
        if len(value) > 64 or _PLAIN.fullmatch(value) is None:
            raise PydanticCustomError("decimal-form", 'a decimal is written plainly, such as "-12.345"')
        return Decimal(value)

    whole = digits - scale
    pattern = rf"^-?[0-9]{{1,{whole}}}(\.[0-9]{{1,{scale}}})?$" if scale else rf"^-?[0-9]{{1,{whole}}}$"
    return Annotated[
        Decimal,
        BeforeValidator(only_strings),
        Field(
            max_digits=digits,
            decimal_places=scale,
            allow_inf_nan=False,
            ge=Decimal(minimum) if minimum is not None else None,
            le=Decimal(maximum) if maximum is not None else None,
        ),
        PlainSerializer(lambda d: format(d, "f"), return_type=str),
        WithJsonSchema({"type": "string", "pattern": pattern, "format": "decimal"}),
    ]


def to_scale(value: Decimal, scale: int) -> Decimal:
    """Round to ``scale`` fractional digits, half to even (GB/T 8170-2008, 3.2, rounding rule for values)."""
    return value.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_EVEN)


Kilograms = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
"""A mass on a road scale, integer kilograms. The bound is ten times the largest scale class in use (GB/T 7723-2017: 100 t
and above are special), so it only stops unit errors."""

Plate = Annotated[str, StringConstraints(min_length=1, max_length=16, strip_whitespace=False)]
"""A number plate as read. Not refused for its form: cameras misread, and foreign and temporary plates exist; the
operators judge."""

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:\-]*$")]
"""An identifier given by this platform or a register: letters, digits and ``. _ : -``."""

DivisionCode = Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")]
"""Administrative division code, six digits, GB/T 2260-2007."""
