"""Receive times while the machine's clock is set back and forth."""

from hypothesis import given
from hypothesis import strategies as st

from hengliu.intake.received import ReceiveClock

HOUR = 3_600_000


def test_an_ordinary_clock_is_followed() -> None:
    clock = ReceiveClock(5)
    assert [clock.now(t) for t in (10, 10, 12, 900)] == [10, 10, 12, 900]
    assert clock.ahead_ms == 0


def test_set_back_it_runs_at_half_speed_until_the_wall_clock_has_caught_up() -> None:
    clock, back = ReceiveClock(), 60_000
    clock.now(HOUR)
    assert clock.now(HOUR - back) == HOUR
    assert clock.ahead_ms == back
    for second in range(1, 119):
        assert clock.now(HOUR - back + 1_000 * second) == HOUR + 500 * second
    assert clock.ahead_ms == 1_000
    assert clock.now(HOUR + back) == HOUR + back
    assert clock.ahead_ms == 0


def test_set_right_again_it_is_followed_at_once() -> None:
    clock = ReceiveClock()
    clock.now(HOUR)
    assert [clock.now(t) for t in (0, 1_000, HOUR + 2_000)] == [HOUR, HOUR + 500, HOUR + 2_000]


def test_set_half_right_the_step_is_not_taken_for_time() -> None:
    clock = ReceiveClock()
    clock.now(2 * HOUR)
    assert [clock.now(t) - 2 * HOUR for t in (0, HOUR, HOUR + 1_000)] == [0, 5_000, 5_500]


def test_a_restart_goes_on_from_the_stored_time() -> None:
    clock = ReceiveClock(2 * HOUR)
    assert clock.ahead_ms == 0
    assert [clock.now(t) - 2 * HOUR for t in (HOUR, HOUR + 10, HOUR + 11, HOUR + 12)] == [0, 5, 5, 6]


def test_set_back_twice() -> None:
    clock = ReceiveClock()
    clock.now(10_000)
    assert [clock.now(t) for t in (8_000, 8_400, 1_000, 1_600)] == [10_000, 10_200, 10_200, 10_500]


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=40), st.integers(0, 10_000))
def test_never_back_never_behind_the_wall_and_never_faster_than_it(walls: list[int], last: int) -> None:
    clock = ReceiveClock(last)
    before, read = last, None
    for wall in walls:
        now = clock.now(wall)
        assert now >= max(before, wall)
        if read is not None and wall >= read:
            assert now - before <= (wall - read + 1) // 2 or now == wall
        before, read = now, wall
