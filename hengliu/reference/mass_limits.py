"""Gross-mass limits of goods vehicles on public roads.

Source: 《超限运输车辆行驶公路管理规定》 (Order 62 of the Ministry of Transport, 2016), Article 3, first paragraph items 4 to 8
(limits by axles) and second paragraph (how they are applied):

- item 4: rigid vehicles of two axles, 18,000 kg;
- item 5: of three axles, rigid 25,000 kg and combination 27,000 kg;
- item 6: of four axles, rigid 31,000 kg and combination 36,000 kg;
- item 7: combinations of five axles, 43,000 kg;
- item 8: combinations of six and more axles, 49,000 kg, of which with a single drive axle 46,000 kg;
- single tyres on non-driving axles lower the limit by 3,000 kg. The text does not say whether once or per axle; once is used,
  which accuses the fewest;
- vehicles with air suspension that conform to GB 1589 are not overloaded vehicles.

The limits are data: a ``rule.published`` of rule ``overload`` with the parameter names below replaces them from its
valid-from on. Tables that quote 20, 30, 40, 50 and 55 t are the withdrawn scheme of 2004.
"""

from collections.abc import Mapping
from typing import Final, Literal

__all__ = ["CITATION", "LIMITS", "RULE", "VERSION", "gross_limit_kg"]

RULE: Final = "overload"
VERSION: Final = 1
CITATION: Final = "交通运输部令2016年第62号 第三条"

LIMITS: Final[Mapping[str, str]] = {
    "rigid-2": "18000",
    "rigid-3": "25000",
    "combination-3": "27000",
    "rigid-4": "31000",
    "combination-4": "36000",
    "combination-5": "43000",
    "combination-6": "49000",
    "combination-6-single-drive": "46000",
    "single-tyre-deduction": "3000",
}
"""Parameter name to kilograms, as text like every rule parameter. ``combination-6`` is for six and more axles."""

Kind = Literal["rigid", "combination", "unknown"]


def gross_limit_kg(
    parameters: Mapping[str, str],
    axles: int | None,
    kind: Kind,
    *,
    single_drive_axle: bool = False,
    single_tyre: bool = False,
    air_suspension: bool = False,
    licence_mass_kg: int | None = None,
) -> int | None:
    """The limit in kilograms, or None where the table gives no verdict and a person has to look.

    ``kind="unknown"`` (an unregistered vehicle whose axles were counted) takes the higher limit of the two kinds: what
    exceeds that is certain. With air suspension the licensed mass decides where it is higher, and without one there is no
    verdict, because conformity with GB 1589 is not known here.

    Args:
        parameters: of the rule version in force, as ``LIMITS``.
        axles: counted as the regulation counts them; None when unknown.
    """
    if axles is None or axles < 2:
        return None
    counted = min(axles, 6)
    kinds = ("rigid", "combination") if kind == "unknown" else (kind,)
    limits = [int(parameters[name]) for k in kinds if (name := f"{k}-{counted}") in parameters]
    if not limits:
        return None
    limit = max(limits)
    if counted == 6 and single_drive_axle:
        limit = min(limit, int(parameters.get("combination-6-single-drive", limit)))
    if single_tyre:
        limit -= int(parameters.get("single-tyre-deduction", 0))
    if air_suspension:
        return max(limit, licence_mass_kg) if licence_mass_kg is not None else None
    return limit
