"""All detectors, in one list. A new one is a module and a line here; nothing registers itself."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from streams.detectors.base import Detector, Limits
from streams.detectors.combined import Combined
from streams.detectors.drift import Drift
from streams.detectors.flat import FlatLine
from streams.detectors.level import LevelShift
from streams.detectors.missing import Missing
from streams.detectors.seasonal import Seasonal
from streams.detectors.spike import Spike

__all__ = ["DETECTORS", "detector"]

DETECTORS: Final[Mapping[str, Callable[[Limits], Detector]]] = MappingProxyType({
    Combined.name: Combined, Seasonal.name: Seasonal, LevelShift.name: LevelShift, Spike.name: Spike, FlatLine.name: FlatLine,
    Drift.name: Drift, Missing.name: Missing,
})  # fmt: skip
"""Name to what makes it."""


def detector(name: str, limits: Limits | None = None) -> Detector:
    """A detector by name.

    Raises:
        KeyError: there is none.
    """
    return DETECTORS[name](limits or Limits())
