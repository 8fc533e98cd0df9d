"""Plates: what is known of who was weighed and who was seen, and how far a camera is believed.

Rows and rules of thumb of ``plate_match``, apart from its joins.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

import msgspec

from streams.operators.records import DAY_MS, Scope
from streams.rules.policy import parameter

__all__ = [
    "OPEN",
    "SKEW_MS",
    "Capture",
    "Clock",
    "Inside",
    "Mismatch",
    "Passed",
    "PlateMatchPolicy",
    "Weighed",
    "Witness",
    "differing",
]

OPEN: Final = 64
"""Open warnings held of one witness; each for a day at most."""
SKEW_MS: Final = 60_000
"""How far the clocks of a camera and a scale may be apart, and one may go back when it is set."""
CROSSINGS: Final = 2
"""Weighings of a visit, laden and empty."""
_HEARD = 64
"""Verdicts of a witness that its reliability is counted over."""


@dataclass(frozen=True, slots=True)
class PlateMatchPolicy:
    """Parameters of rule ``plate-match``: this platform's choice.

    ``gate_within_s`` covers the usual way between gate and scale, ``inside_s`` a queue behind a scale that nobody is weighed on
    for hours. Cameras misread: one character, taken for one like it by a camera
    that is not sure, is the same plate; any other single character by such a camera is of low severity.
    """

    rule: ClassVar[str] = "plate-match"
    RULE_VERSION: ClassVar[int] = 1

    gate_within_s: int = parameter(
        1_200, unit="s", zh="与出入口抓拍的最长间隔", en="Longest time to a capture at the gate", minimum=1, maximum=14_400
    )
    inside_s: int = parameter(
        28_800,
        unit="s",
        zh="进厂后视为仍在厂内的最长时间",
        en="Longest stay of who was seen driving in",
        minimum=0,
        maximum=86_400,
    )
    scale_within_s: int = parameter(
        90, unit="s", zh="与磅上抓拍的最长间隔", en="Longest time to a capture at the scale", minimum=1, maximum=3_600
    )
    sure_percent: int = parameter(
        85, unit="%", zh="可信的识别置信度", en="Confidence of a sure reading", minimum=0, maximum=100
    )
    alike: str = parameter(
        "0D 0O 0Q 06 08 09 1I 1L 1T 17 27 2Z 38 4A 5S 56 68 6G 89 8B CG DQ EF HN MN PR UV VY XY KX",
        zh="易混字符对",
        en="Pairs of characters that are alike",
    )
    again_kg: int = parameter(
        100, unit="kg", zh="视为同一次过磅的差值", en="Difference of one vehicle weighed again", minimum=0
    )
    heard: int = parameter(8, zh="判定前的过磅数", en="Weighings before a witness is heard", minimum=1, maximum=_HEARD)
    heard_percent: int = parameter(
        70, unit="%", zh="判定所需的相符比例", en="Share of weighings that a witness agrees with", minimum=0, maximum=100
    )


class Capture(msgspec.Struct, frozen=True):
    """A plate that a camera read, at event time ``time``, ms."""

    plate: str
    time: int
    camera: str
    origin: str
    direction: str | None = None
    confidence: int | None = None


class Weighed(msgspec.Struct, frozen=True):
    """A plate that a weighing named, at event time ``time``, ms."""

    plate: str
    time: int
    origin: str
    scope: Scope


class Mismatch(msgspec.Struct, frozen=True):
    """An open warning: who was weighed and who was seen, and the times (ms) of the weighings and captures it is about."""

    warning: str
    plate: str
    seen: str
    severity: str
    scope: Scope
    weighed_at: tuple[int, ...]
    seen_at: tuple[int, ...]
    rule_version: int
    received: int
    changes: int = 0


class Witness(msgspec.Struct, frozen=True):
    """The last verdicts of a witness, newest lowest bit (1: a weighing met its capture), and its open warnings; of gates, when
    they last saw anybody leave (ms)."""

    agreed: int = 0
    verdicts: int = 0
    open: tuple[Mismatch, ...] = ()
    left: int = 0

    def heard(self, policy: PlateMatchPolicy) -> bool:
        """Whether it agreed with enough weighings of late to be believed where it does not."""
        return self.verdicts >= policy.heard and self.agreed.bit_count() * 100 >= policy.heard_percent * self.verdicts

    def with_verdict(self, agreed: bool) -> "Witness":
        bits = (self.agreed << 1 | agreed) & ((1 << _HEARD) - 1)
        return msgspec.structs.replace(self, agreed=bits, verdicts=min(self.verdicts + 1, _HEARD))


class Passed(msgspec.Struct, frozen=True):
    """Weighings of one plate at one site since the gate last saw it, as (ms, kg), and until when they are held (recorded time,
    ms)."""

    known: tuple[tuple[int, int], ...]
    until: int


class Inside(msgspec.Struct, frozen=True):
    """When a site's gates last saw one plate drive in (True) and out, when it was weighed (event times, ms), and until when
    that is held (recorded time, ms)."""

    passages: tuple[tuple[int, bool], ...]
    weighed: tuple[int, ...]
    until: int

    def at(self, time: int, within_ms: int) -> bool:
        """Whether it had driven in, and not out again, when it was weighed at ``time``; nor been weighed twice already, as a
        vehicle is that has done what it came for and that a camera missed on its way out."""
        entered = max((t for t, inwards in self.passages if inwards and t <= time + SKEW_MS), default=None)
        if entered is None or time - entered > within_ms:
            return False
        left = any(entered < t < time - SKEW_MS for t, inwards in self.passages if not inwards)
        return not left and sum(entered - SKEW_MS <= t < time for t in self.weighed) < CROSSINGS


class Clock(msgspec.Struct, frozen=True):
    """Time of a camera's last capture, and the last stretches (ms) that its clock went back over.

    A device sends in its own order; so what it stamped before its clock went back, and later than where it went to, was
    stamped by a clock that ran ahead. Old days that are loaded beside new ones go back further than a clock does.
    """

    last: int
    wrong: tuple[tuple[int, int], ...] = ()

    def read(self, time: int) -> "Clock":
        """The clock after one more capture."""
        back = self.last - time
        return Clock(time, (*self.wrong, (time, self.last))[-4:] if SKEW_MS < back <= 2 * DAY_MS else self.wrong)

    def was_right(self, time: int) -> bool:
        return not any(start <= time <= end for start, end in self.wrong)


def differing(plate: str, other: str, alike: str = "") -> int:
    """How many characters differ, position by position; pairs that are alike count nothing. Other lengths: all of them."""
    if len(plate) != len(other):
        return max(len(plate), len(other))
    pairs = _pairs(alike)
    return sum(a != b and frozenset((a, b)) not in pairs for a, b in zip(plate, other, strict=True))


@lru_cache(maxsize=16)
def _pairs(alike: str) -> frozenset[frozenset[str]]:
    return frozenset(frozenset(pair) for pair in alike.split())
