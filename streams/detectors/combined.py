"""All statistics together: what several of them see is believed before what one sees alone."""

from collections.abc import Sequence
from typing import Final

from hengliu.events.family import Text
from streams.detectors.base import Limits
from streams.detectors.evidence import STATE_BYTES, STATISTICS, EvidenceState, Found, StatisticWatch

__all__ = ["Combined"]

WEIGHTS: Final = (1.0, 0.5, 0.25)
"""Of the three greatest surprises. They share data, so they are not added up as independent ones would be."""

WHOLE: Final = 1.5
"""What one statistic alone is divided by: a little less than all weights."""


def fused(found: Sequence[Found]) -> float:
    greatest = [one.surprise for one in found if one.surprise]
    if not greatest:
        return 0.0
    greatest.sort(reverse=True)
    return sum(weight * surprise for weight, surprise in zip(WEIGHTS, greatest, strict=False)) / WHOLE


class Combined:
    """The weighted mean of the three greatest surprises among all statistics of ``evidence``."""

    name: Final = "combined"
    title: Final = Text("综合：季节、水平、尖峰、波动", "combined: season, level, spike, movement")
    state_bytes: Final = STATE_BYTES
    state_type: Final = EvidenceState

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    def open(self, state: EvidenceState | None = None) -> StatisticWatch:
        return StatisticWatch(STATISTICS, self.limits, state, fused)
