"""Numbers in files: exact decimals, units, and rounding that has a name."""

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP, Context, Decimal, Inexact
from types import MappingProxyType
from typing import Final, Literal

__all__ = ["ROUNDINGS", "UNITS", "Rounding", "factor", "parse", "to_places"]

Rounding = Literal["half-even", "half-up", "down", "up", "floor", "ceiling"]

ROUNDINGS: Final[Mapping[str, str]] = MappingProxyType({
    "half-even": ROUND_HALF_EVEN, "half-up": ROUND_HALF_UP, "down": ROUND_DOWN, "up": ROUND_UP, "floor": ROUND_FLOOR,
    "ceiling": ROUND_CEILING,
})  # fmt: skip

UNITS: Final[Mapping[str, tuple[str, Decimal]]] = MappingProxyType({
    # International avoirdupois pound: 0.45359237 kg exactly (International yard and pound agreement, 1959; NIST SP 811 (2008),
    # B.6). Short ton: 2,000 lb; long ton: 2,240 lb (NIST Handbook 44, appendix C).
    "kg": ("mass", Decimal(1)), "g": ("mass", Decimal("0.001")), "t": ("mass", Decimal(1000)),
    "kt": ("mass", Decimal(1_000_000)), "lb": ("mass", Decimal("0.45359237")),
    "short-ton": ("mass", Decimal("907.18474")), "long-ton": ("mass", Decimal("1016.0469088")),
    # 1 L = 0.001 m3 (GB 3100-1993, table 3); US gallon = 231 in3 with 1 in = 25.4 mm (NIST Handbook 44, appendix C).
    "m3": ("volume", Decimal(1)), "L": ("volume", Decimal("0.001")), "us-gallon": ("volume", Decimal("0.003785411784")),
    # 1 kW h = 3.6 MJ (GB 3100-1993, tables 1 and 3).
    "kWh": ("energy", Decimal("3.6")), "Wh": ("energy", Decimal("0.0036")), "MWh": ("energy", Decimal(3600)),
    "MJ": ("energy", Decimal(1)), "GJ": ("energy", Decimal(1000)),
    # Speeds: 1 mile = 1,609.344 m exactly (NIST Handbook 44, appendix C), 1 knot = 1,852 m/h (GB 3100-1993, table 3).
    "km/h": ("speed", Decimal(1)), "mph": ("speed", Decimal("1.609344")), "knot": ("speed", Decimal("1.852")),
    "m/s": ("speed", Decimal("3.6")),
    # Money: 1 yuan = 100 fen.
    "fen/t": ("price", Decimal(1)), "CNY/t": ("price", Decimal(100)),
})  # fmt: skip
"""Unit to its kind and its size in the kind's first unit; exact by definition."""

_PLAIN: Final = frozenset("0123456789.-")
_EXPONENT: Final = frozenset("0123456789.-+eE")
_exact: Final = Context(prec=60, traps=[Inexact])
_wide: Final = Context(prec=60)


def factor(unit: str, to: str) -> tuple[Decimal, Decimal]:
    """(numerator, denominator) by which a value in ``unit`` becomes one in ``to``; both exact.

    Raises:
        KeyError: a unit is not known.
        ValueError: they measure different things.
    """
    (kind, size), (other, other_size) = UNITS[unit], UNITS[to]
    if kind != other:
        raise ValueError(f"{unit} is {kind}, {to} is {other}")
    return size, other_size


def parse(text: str, *, exponent: bool = False, decimal_mark: str = ".", group_mark: str = "") -> Decimal:
    """A cell as an exact decimal.

    Args:
        exponent: whether ``4e+05`` is a number. R writes 400000 so; a spreadsheet that lost digits does too, so a mapping has
            to say that it means the first.

    Raises:
        ValueError: it is no number of this form.
    """
    if group_mark:
        text = text.replace(group_mark, "")
    if decimal_mark != ".":
        text = text.replace(decimal_mark, ".")
    # Decimal() also takes NaN, Infinity, underscores and the digits of every script.
    if not text or not text.isascii() or not (_EXPONENT if exponent else _PLAIN).issuperset(text):
        raise ValueError(text)
    try:
        value = Decimal(text)
    except ArithmeticError as error:
        raise ValueError(text) from error
    if value.adjusted() > 30 or int(value.as_tuple().exponent) < -30:
        raise ValueError(text)
    return value


def to_places(value: Decimal, numerator: Decimal, denominator: Decimal, places: int, rounding: str | None) -> Decimal:
    """``value * numerator / denominator`` with at most ``places`` fractional digits, rounded once.

    Raises:
        ArithmeticError: it does not fit and no rounding is named.
    """
    product = _exact.multiply(value, numerator)
    quotient = product if denominator == 1 else _wide.divide(product, denominator)
    if int(quotient.as_tuple().exponent) >= -places:
        # 4E+5 stays a number, not a form: the wire has plain digits.
        return quotient.quantize(Decimal(1), context=_exact) if int(quotient.as_tuple().exponent) > 0 else quotient
    return quotient.quantize(
        Decimal(1).scaleb(-places), rounding=ROUNDINGS[rounding] if rounding else None, context=_wide if rounding else _exact
    )
