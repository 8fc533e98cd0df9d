"""Receive times of one intake task: the wall clock, as long as it does not go back.

Receive times must not decrease, or a record would stand behind a tick that said it could not. Standing still until a clock that
was set back has caught up would keep them in order too, but every stream clock would stand with them: nothing received since
would be released to an operator for as long as the clock was set back. So they run on at half the wall clock's speed, which
keeps the streams moving, and meet the wall clock after twice the time that it was set back, or when it is set right.

Only readings of the wall clock are used, so a replay of the readings gives the same times.
"""

__all__ = ["ReceiveClock"]

LONGEST_MS = 10_000
"""Intake reads the clock every second. Readings farther apart than this are a clock set forward, not time that passed."""


class ReceiveClock:
    """Receive times in epoch ms, never decreasing.

    Args:
        last: the greatest receive time given out so far, by this task or its predecessors.
    """

    def __init__(self, last: int = 0) -> None:
        self._last = last
        self._read: int | None = None
        self._odd = 0

    @property
    def ahead_ms(self) -> int:
        """How far receive times were ahead of the wall clock at the last reading; 0 in ordinary life."""
        return 0 if self._read is None else self._last - self._read

    def now(self, wall_ms: int) -> int:
        """The receive time at a reading of the wall clock."""
        passed = 0 if self._read is None else wall_ms - self._read
        self._read = wall_ms
        if wall_ms >= self._last:
            self._last, self._odd = wall_ms, 0
        elif passed > 0:
            half, self._odd = divmod(min(passed, LONGEST_MS) + self._odd, 2)
            self._last += half
        return self._last
