"""All detectors, in one list. A new one is a module and a line here; nothing registers itself."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from hengliu.events.family import Text
from streams.detectors.base import Detector, Limits
from streams.detectors.combined import Combined
from streams.detectors.drift import Drift
from streams.detectors.flat import FlatLine
from streams.detectors.level import LevelShift
from streams.detectors.missing import Missing
from streams.detectors.seasonal import Seasonal
from streams.detectors.spike import Spike

__all__ = ["CODES", "DETECTORS", "detector"]

DETECTORS: Final[Mapping[str, Callable[[Limits], Detector]]] = MappingProxyType({
    Combined.name: Combined, Seasonal.name: Seasonal, LevelShift.name: LevelShift, Spike.name: Spike, FlatLine.name: FlatLine,
    Drift.name: Drift, Missing.name: Missing,
})  # fmt: skip
"""Name to what makes it."""

CODES: Final[Mapping[str, Text]] = MappingProxyType({
    "extreme": Text("超出历史范围", "outside the range of the past"),
    "level-shift": Text("水平突变", "another level"),
    "spike": Text("尖峰或骤降", "spike or drop"),
    "off-season": Text("偏离同时段基线", "off the baseline of this hour"),
    "unrest": Text("波动异常增大", "unusually restless"),
    "stillness": Text("波动异常减小", "unusually still"),
    "flat-line": Text("数值停滞", "stands still"),
    "drift": Text("缓慢漂移", "drifts"),
    "missing": Text("数据缺失", "no data"),
})  # fmt: skip
"""What a verdict's code says."""


def detector(name: str, limits: Limits | None = None) -> Detector:
    """A detector by name.

    Raises:
        KeyError: there is none.
    """
    return DETECTORS[name](limits or Limits())
