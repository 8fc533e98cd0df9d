"""Level shift: the recent mean against the long run."""

from typing import Final

from hengliu.events.family import Text
from streams.detectors.base import Limits
from streams.detectors.evidence import EvidenceState, StatisticWatch

__all__ = ["LevelShift"]


class LevelShift:
    """Two windows, two-sided: the mean of the last 6 and of the last 36 samples against the long-run median.

    Each is judged by its own tail, so samples that follow each other closely do not count as so many witnesses. A new level
    that lasts is accepted after ``accept_samples``.
    """

    name: Final = "level-shift"
    title: Final = Text("水平突变", "level shift")
    state_bytes: Final = 2_048
    state_type: Final = EvidenceState

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    def open(self, state: EvidenceState | None = None) -> StatisticWatch:
        return StatisticWatch(("level-short", "level-long"), self.limits, state)
