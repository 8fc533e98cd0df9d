"""Robust seasonal baseline: what is usual at this hour of the week."""

from typing import Final

from hengliu.events.family import Text
from streams.detectors.base import Limits
from streams.detectors.evidence import EvidenceState, StatisticWatch

__all__ = ["Seasonal"]


class Seasonal:
    """The residual from the median of the last visits to the hour of the week, alone and as means of 6 and 36 samples.

    Says nothing in its first three days; judges by the hour of the day until an hour of the week was visited three times.
    """

    name: Final = "seasonal"
    title: Final = Text("季节基线（周内小时的中位数）", "seasonal baseline (median of the hour of the week)")
    state_bytes: Final = 6_144
    state_type: Final = EvidenceState

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    def open(self, state: EvidenceState | None = None) -> StatisticWatch:
        return StatisticWatch(("season", "season-short", "season-long"), self.limits, state)
