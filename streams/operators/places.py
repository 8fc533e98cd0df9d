"""Places: on the map, in integers, so that every machine comes to the same verdict; and as divisions of GB/T 2260."""

from decimal import Decimal
from math import cos, isqrt, radians
from typing import NamedTuple

from hengliu.events.families.registry import SiteRegistered
from streams.kernel.reference import Reference

__all__ = ["Place", "distance_m", "inside", "lies_in", "place_at", "place_of"]

_E7 = 10_000_000
_DEGREE_M = 111_195
"""Metres in a degree of a great circle: mean earth radius 6,371,008.8 m (GRS 80, Moritz 2000)."""


class Place(NamedTuple):
    """Degrees times ten million, a centimetre."""

    latitude_e7: int
    longitude_e7: int


def place_at(latitude: Decimal, longitude: Decimal) -> Place:
    return Place(int(latitude * _E7), int(longitude * _E7))


def place_of(site: SiteRegistered | None) -> Place | None:
    """Where a site lies, if its registration says so."""
    if site is None or site.latitude is None or site.longitude is None:
        return None
    return place_at(site.latitude, site.longitude)


def distance_m(one: Place, other: Place) -> int:
    """Metres between two places, as the crow flies.

    On a plane at their mean latitude: right to a thousandth within 300 km at the latitudes of China, which is less than a
    position fix is wrong by. The cosine is rounded to six digits before it meets anything, so that libraries which differ in
    its last bit do not.
    """
    north = one.latitude_e7 - other.latitude_e7
    east = (one.longitude_e7 - other.longitude_e7 + 180 * _E7) % (360 * _E7) - 180 * _E7
    shrink = round(cos(radians((one.latitude_e7 + other.latitude_e7) / 2 / _E7)) * 1_000_000)
    return isqrt(north * north + (east * shrink // 1_000_000) ** 2) * _DEGREE_M // _E7


def lies_in(division: str, named: str | None) -> bool:
    """Whether a division is the named one or lies in it (GB/T 2260: 00 at the end stands for all below). None names none, and
    every place fits it."""
    if named is None or not division:
        return True
    return division.startswith(named[:2] if named.endswith("0000") else named[:4] if named.endswith("00") else named)


def inside(reference: Reference, division: str | None, time: int) -> bool | None:
    """Whether a division is registered as inside the city; None where nobody knows."""
    district = reference.district(division, time) if division is not None else None
    return None if district is None else district.inside
