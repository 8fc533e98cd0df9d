"""What becomes of deviations: episodes with hysteresis, and a score that says news."""

import pytest

from streams.detectors.base import Alarm, AlarmState, Limits, Verdict

LIMITS = Limits(clear_percent=60, clear_samples=3, rest_samples=10, accept_samples=20)


def judged(*deviations: float) -> list[Verdict]:
    alarm = Alarm(LIMITS, AlarmState())
    return [alarm.judge(1_000 * (1 + at), d, "spike", {"observed": "1"}) for at, d in enumerate(deviations)]


def test_score_is_a_half_at_the_limit() -> None:
    (at_limit,) = judged(1.0)
    assert (at_limit.score, at_limit.flagged, at_limit.change) == (0.5, True, "raised")
    (below,) = judged(0.999)
    assert below.score < 0.5
    assert not below.flagged


def test_an_episode_ends_only_after_a_quiet_while() -> None:
    changes = [v.change for v in judged(0, 1, 0.5, 0.5, 0.7, 0.5, 0.5, 0.5, 0)]
    assert changes == ["", "raised", "", "", "", "", "", "cleared", ""]


def test_graver_is_told_milder_is_not() -> None:
    found = judged(1.0, 1.6, 1.2, 3.0, 1.0)
    assert [v.change for v in found] == ["raised", "updated", "", "updated", ""]
    assert [v.severity for v in found] == ["low", "medium", "medium", "high", "high"]


def test_an_echo_scores_below_a_half_and_more_than_before_is_news() -> None:
    found = judged(2.0, 2.0, 2.0, 4.0)
    assert [v.score >= 0.5 for v in found] == [True, False, False, True]
    assert [v.flagged for v in found] == [True] * 4


def test_a_second_episode_is_raised_although_its_score_is_an_echo() -> None:
    """The flag is the state, whatever was said before."""
    found = judged(2.0, 0, 0, 0, 1.7)
    assert [v.change for v in found] == ["raised", "", "", "cleared", "raised"]
    assert found[-1].score < 0.5


def test_the_memory_of_a_peak_fades() -> None:
    # Ten samples later nothing of it is left.
    assert judged(2.0, *[0.0] * 9, 2.0)[-1].score == pytest.approx(2 / 3)
    # After five half of it is, and 2.0 is a third more than half of two and the margin.
    assert judged(2.0, *[0.0] * 4, 2.0)[-1].score == pytest.approx(2 / 3)
    assert judged(2.0, *[0.0] * 1, 2.0)[-1].score < 0.5


def test_learning_rests_in_a_clear_episode_until_it_is_accepted() -> None:
    alarm = Alarm(LIMITS, AlarmState())
    learns = []
    for at, deviation in enumerate([1.2, *[3.0] * 21]):
        alarm.judge(1 + at, deviation)
        learns.append((alarm.learning, alarm.noting))
    assert learns[0] == (True, True), "a doubtful episode is learnt from"
    assert learns[1] == (False, True)
    assert learns[13:20] == [(False, False)] * 7
    assert learns[21] == (True, True), "it has lasted: it is the new normal"


def test_without_a_value_an_episode_stays_as_it_is() -> None:
    alarm = Alarm(LIMITS, AlarmState())
    alarm.judge(1, 2.0)
    assert [alarm.pause().flagged for _ in range(9)] == [True] * 9
    assert alarm.judge(11, 0.0).change == ""
