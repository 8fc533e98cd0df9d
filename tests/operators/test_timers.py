"""Timers over several steps: what was told is gone, what was only looked at is not written again."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kernel.reference import Reference
from streams.kernel.state import Changes, State, StateStore
from streams.operators.timers import TIMER_TABLE, TimerRow, Timers

MINUTE = 60_000


class Clockwork:
    """A state that lives through steps."""

    def __init__(self) -> None:
        self.store = StateStore({("op", TIMER_TABLE): TimerRow})

    def step(
        self, settings: Sequence[tuple[int, str]], until: int, first: bool = True
    ) -> tuple[list[tuple[int, str]], Changes]:
        """Set timers and fire what is due, in either order; returns what fired, and what the step wrote."""
        scratch = State("op", self.store, Reference({})).scratch()
        timers = Timers(scratch)
        fired: list[tuple[int, str]] = []
        for pending in (True, False) if first else (False, True):
            if pending:
                for due, subject in settings:
                    timers.set(due, subject)
            else:
                while (timer := timers.pop(until)) is not None:
                    fired.append(timer)
        timers.save()
        self.store.apply(scratch.changes)
        return fired, scratch.changes


def test_they_fire_once_in_order_and_leave_no_row() -> None:
    clockwork = Clockwork()
    clockwork.step([(5 * MINUTE, "b"), (5 * MINUTE, "a"), (9 * MINUTE, "c"), (5 * MINUTE, "a")], 0)
    assert clockwork.step([], 5 * MINUTE)[0] == [(5 * MINUTE, "a"), (5 * MINUTE, "b")]
    assert clockwork.step([], 8 * MINUTE)[0] == []
    assert clockwork.step([(9 * MINUTE - 1, "d")], 99 * MINUTE)[0] == [(9 * MINUTE - 1, "d"), (9 * MINUTE, "c")]
    assert not clockwork.store.table("op", TIMER_TABLE)


def test_looking_writes_nothing() -> None:
    """The minute has begun and nothing of it is due: its row is read, not written, and costs no checkpoint."""
    clockwork = Clockwork()
    clockwork.step([(5 * MINUTE + 30_000, "a"), (500 * MINUTE, "b")], 0)
    assert clockwork.step([], 5 * MINUTE + 1) == ([], {})
    assert clockwork.step([], 5 * MINUTE + 30_000)[0] == [(5 * MINUTE + 30_000, "a")]


def test_the_next_century_comes_after_this_one() -> None:
    """A minute of one digit more: keys are compared as text."""
    clockwork = Clockwork()
    clockwork.step([(100_000_000 * MINUTE, "far"), (99_999_999 * MINUTE, "near"), (7, "now")], 0)
    assert clockwork.step([], 99_999_999 * MINUTE)[0] == [(7, "now"), (99_999_999 * MINUTE, "near")]
    assert clockwork.step([], 100_000_000 * MINUTE)[0] == [(100_000_000 * MINUTE, "far")]


@given(st.lists(st.tuples(st.lists(st.tuples(st.integers(0, 6 * MINUTE), st.sampled_from("abc")), max_size=6), st.booleans()),
                max_size=8))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_they_are_a_sorted_list(steps: list[tuple[list[tuple[int, str]], bool]]) -> None:
    clockwork, waiting, now = Clockwork(), set[tuple[int, str]](), 0
    for settings_, first in steps:
        now += MINUTE
        late = [(now + due, subject) for due, subject in settings_]
        if first:
            waiting |= set(late)
        due = sorted(t for t in waiting if t[0] <= now)
        waiting -= set(due)
        waiting |= set(late) if not first else set()
        assert clockwork.step(late, now, first)[0] == due
