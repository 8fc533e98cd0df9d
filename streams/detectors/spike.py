"""Spikes and drops: one value that does not go with those around it."""

from typing import Final

from hengliu.events.family import Text
from streams.detectors.base import Limits
from streams.detectors.evidence import EvidenceState, StatisticWatch

__all__ = ["Spike"]


class Spike:
    """The value against the median of the 12 before it, and against the long run."""

    name: Final = "spike"
    title: Final = Text("尖峰与骤降", "spike or drop")
    state_bytes: Final = 2_560
    state_type: Final = EvidenceState

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    def open(self, state: EvidenceState | None = None) -> StatisticWatch:
        return StatisticWatch(("spike", "extreme"), self.limits, state)
