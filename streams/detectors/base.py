"""What a detector is, what it says of a sample, and when an episode begins and ends.

Every detector brings its evidence to one scale, the *deviation*: 1 is its limit. From the deviation follow

``score``
    0 to 1, 0.5 at the limit: deviation / (1 + deviation). It says how strongly this sample speaks for something *new*: of a
    sample that says no more than what was said not long ago, less than half of that.
``flagged``
    whether an episode is open. It opens at the limit and closes when the deviation has stayed below a share of the limit for
    some samples (hysteresis).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from hengliu.events.family import Text

__all__ = ["Alarm", "AlarmState", "Detector", "Limits", "Verdict", "Watch", "severity_of", "shown"]

NEWS: Final = 1.5
"""Factor by which a deviation must exceed what is remembered of a peak to be news."""
CLEAR: Final = 1.8
"""Deviation of a clear episode, in which learning rests."""
NOTED: Final = 12
"""Samples of an episode that are noted among what has happened before."""
ECHO: Final = 0.45
"""Factor of the score of a sample that adds nothing new: keeps it below one half."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a rule may set of any detector.

    Attributes:
        limit: evidence that makes a deviation of 1, in decades of improbability: 3 is one sample in 1,000 of the past. Of the
            detectors that compare values; the others have limits of their own.
        clear_percent: an episode ends below this share of the limit ...
        clear_samples: ... for so many samples in a row.
        rest_samples: how long the memory of a peak fades, in samples; a lower one in this time is an echo.
        accept_samples: an episode that lasts so many samples is the new normal: learning, which rests in an episode, goes on.
        warm_samples: samples that a statistic must have seen before it says anything.
        least_percent: what is off by less of its baseline does not count, however improbable; 0: all counts. Of the detectors
            that compare values.
        cadence_s: usual distance of samples; 0: taken from the data.
        sides: 2: a rise is as rare as rises of the past were, a fall as falls; 1: either counts as the other, so that a night
            at zero makes the day's double no surprise. Of the detectors that compare values.
        least_scales: what is off by less than so many robust scales does not count, however improbable; 0: all counts. Of the
            detectors that compare values.
    """

    limit: float = 2.75
    clear_percent: int = 60
    clear_samples: int = 3
    rest_samples: int = 576
    accept_samples: int = 288
    warm_samples: int = 200
    least_percent: int = 0
    cadence_s: int = 0
    sides: int = 1
    least_scales: float = 0.0


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What is said of one sample.

    Attributes:
        score: 0 to 1.
        flagged: whether an episode is open after this sample.
        change: ``raised``, ``updated`` (graver than before), ``cleared`` or empty.
        severity: ``low``, ``medium`` or ``high`` of the open or just closed episode, else empty.
        since: when the episode began, ms; 0 without one.
        code: which evidence was strongest, a key of ``hengliu.reference.codes.FINDING``; empty where nothing is explained.
        parameters: the explanation's numbers: what was observed, the baseline, and the deviation from it.
    """

    score: float = 0.0
    flagged: bool = False
    change: str = ""
    severity: str = ""
    since: int = 0
    code: str = ""
    parameters: Mapping[str, str] = {}


class Watch(Protocol):
    """A detector at work on one series."""

    def observe(self, time: int, value: float | None) -> Verdict:
        """Judge one sample.

        Args:
            time: ms; later than the one before. A sample that is not later is judged as if it came at the same time.
            value: None: a sample was due and holds no value. Missing is not zero.
        """
        ...

    def state(self) -> Any:
        """All that is remembered, frozen."""
        ...


class Detector(Protocol):
    """A way to judge a series; holds configuration only."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> Text: ...

    @property
    def state_bytes(self) -> int:
        """The most that one series' state takes, encoded as MessagePack."""
        ...

    @property
    def state_type(self) -> type[msgspec.Struct]: ...

    def open(self, state: Any = None) -> Watch:
        """Go on from a state, or begin."""
        ...


def severity_of(deviation: float) -> str:
    """``low`` up to one and a half times the limit, ``high`` from two and a half."""
    return "low" if deviation < 1.5 else "medium" if deviation < 2.5 else "high"


_GRAVE: Final = {"": 0, "low": 1, "medium": 2, "high": 3}


def shown(value: float) -> str:
    """A number for people: six significant digits, an exponent only where it saves a line of zeros."""
    text = f"{value:.6g}"
    if "e" in text and 1e-9 <= abs(value) < 1e15:
        text = f"{value:.9f}".rstrip("0").rstrip(".") if abs(value) < 1 else f"{value:.0f}"
    return text


class AlarmState(msgspec.Struct, frozen=True, array_like=True):
    """``seen`` samples; the open episode, in which learning rests since sample ``held`` (0: it does not); the fading peak."""

    seen: int = 0
    since: int = 0
    held: int = 0
    below: int = 0
    severity: str = ""
    peak: float = 0.0
    peak_at: int = 0


class Alarm:
    """Turns deviations into scores and episodes."""

    def __init__(self, limits: Limits, state: AlarmState) -> None:
        self._limits = limits
        self._seen, self._since, self._held, self._below = state.seen, state.since, state.held, state.below
        self._severity, self._peak, self._peak_at = state.severity, state.peak, state.peak_at

    @property
    def learning(self) -> bool:
        """False in a clear episode until it is accepted: a baseline must not learn what it is to be compared with."""
        return not self._held or self._seen - self._held >= self._limits.accept_samples

    @property
    def noting(self) -> bool:
        """Also at the beginning of an episode: that such a thing happens is learnt, not that it lasts."""
        return self.learning or self._seen - self._held < NOTED

    @property
    def closed(self) -> bool:
        """Whether no episode is open."""
        return not self._since

    def pause(self) -> Verdict:
        """Of a sample without a value: nothing is known, and an episode stays as it is."""
        return Verdict(0.0, bool(self._since), "", self._severity, self._since)

    def judge(self, time: int, deviation: float, code: str = "", parameters: Mapping[str, str] | None = None) -> Verdict:
        """The verdict on one sample. An explanation is kept only where there is something to explain."""
        limits = self._limits
        self._seen += 1
        age = self._seen - self._peak_at
        fading = 1 - age / limits.rest_samples
        bar = self._peak * fading if fading > 0 else 0.0
        new = deviation > bar * NEWS
        score = deviation / (1 + deviation) * (1.0 if new else ECHO)
        if new:
            self._peak, self._peak_at = deviation, self._seen
        elif self._since and deviation >= limits.clear_percent / 100:
            self._peak_at = self._seen  # while it lasts, its memory does not fade
        change = self._episode(time, deviation)
        open_ = bool(self._since)
        explained = (open_ or change or score >= 0.4) and parameters is not None
        verdict = Verdict(
            score, open_ and change != "cleared", change, self._severity, self._since, code if explained else "",
            parameters or {} if explained else {},
        )  # fmt: skip
        if change == "cleared":
            self._since, self._held, self._severity = 0, 0, ""
        return verdict

    def _episode(self, time: int, deviation: float) -> str:
        if not self._since:
            if deviation < 1:
                return ""
            self._since, self._below = time, 0
            self._held = self._seen if deviation >= CLEAR else 0
            self._severity = severity_of(deviation)
            return "raised"
        if not self._held and deviation >= CLEAR:
            self._held = self._seen
        if deviation < self._limits.clear_percent / 100:
            self._below += 1
            return "cleared" if self._below >= self._limits.clear_samples else ""
        self._below = 0
        graver = severity_of(deviation)
        if _GRAVE[graver] <= _GRAVE[self._severity]:
            return ""
        self._severity = graver
        return "updated"

    def state(self) -> AlarmState:
        return AlarmState(self._seen, self._since, self._held, self._below, self._severity, self._peak, self._peak_at)
