"""Units of what meters count, and their exact conversion to the base unit of each quantity.

Base units: electricity kWh, water and gas m3, heat GJ, steam t. All factors are exact by definition:

- 1 kW·h = 3.6 MJ = 0.0036 GJ (the hour is 3,600 s; GB 3100-1993, tables 1 and 3: units used with the SI);
- 1 L = 1 dm3 = 0.001 m3 (GB 3100-1993, table 3; 12th CGPM 1964, resolution 6);
- 1 t = 1,000 kg (GB 3100-1993, table 3);
- 1 GJ = 1,000 MJ (SI prefixes, GB 3100-1993, table 4).
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from hengliu.events.quantities import to_scale

__all__ = ["BASE_UNITS", "FACTORS", "SCALE", "to_base"]

BASE_UNITS: Final[Mapping[str, str]] = {"electricity": "kWh", "water": "m3", "gas": "m3", "heat": "GJ", "steam": "t"}

FACTORS: Final[Mapping[tuple[str, str], Decimal]] = {
    ("kWh", "kWh"): Decimal(1),
    ("m3", "m3"): Decimal(1),
    ("GJ", "GJ"): Decimal(1),
    ("t", "t"): Decimal(1),
    ("L", "m3"): Decimal("0.001"),
    ("kg", "t"): Decimal("0.001"),
    ("MJ", "GJ"): Decimal("0.001"),
    ("kWh", "GJ"): Decimal("0.0036"),
}
"""(from, to) to the factor by which a value is multiplied."""

SCALE: Final = 6
"""Fractional digits of a converted value, as of ``consumption.recorded``."""


def to_base(value: Decimal, unit: str, quantity: str) -> tuple[Decimal, str]:
    """(value in the base unit of ``quantity``, that unit), rounded to ``SCALE`` digits, half to even (GB/T 8170-2008).

    A register is converted before neighbours are subtracted, so that the differences add up to the whole exactly.

    Raises:
        KeyError: ``quantity`` is not measured in ``unit``.
    """
    base = BASE_UNITS[quantity]
    return to_scale(value * FACTORS[unit, base], SCALE), base
