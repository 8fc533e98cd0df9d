"""What each detector sees, and what it leaves alone."""

from collections.abc import Callable
from dataclasses import replace
from math import sin
from random import Random

import pytest

from hengliu.reference.codes import BASELINE, FINDING
from streams.detectors.base import Limits, Verdict, severity_of, shown
from streams.detectors.catalog import DETECTORS, detector

HOUR = 3_600_000
QUARTER = 900_000
BASE = 1_772_323_200_000
"""2026-03-01T00:00:00Z, a Sunday."""
LIMITS = Limits(limit=4.0, rest_samples=96)

Course = Callable[[int], float]
_random = Random(7)
NOISE = [_random.uniform(-1, 1) for _ in range(6_000)]


def noise(at: int) -> float:
    """-1 to 1, the same in every run."""
    return NOISE[at]


def daily(at: int, step: int = QUARTER) -> float:
    """A load with a daily course, quieter on Sundays."""
    hour = at * step / HOUR
    quiet = 0.5 if int(hour // 24) % 7 == 0 else 1.0
    return 100 + 60 * quiet * max(0.0, sin((hour % 24 - 6) / 12 * 3.1416)) + 4 * noise(at)


def level(at: int) -> float:
    return 50 + 2 * noise(at)


def watched(name: str, course: Course, count: int, step: int = QUARTER, limits: Limits = LIMITS) -> list[Verdict]:
    watch = detector(name, limits).open()
    return [watch.observe(BASE + at * step, course(at)) for at in range(count)]


def raised(verdicts: list[Verdict]) -> list[tuple[int, str]]:
    return [(at, v.code) for at, v in enumerate(verdicts) if v.change == "raised"]


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("course", [daily, level], ids=["daily", "level"])
def test_a_usual_month_raises_next_to_nothing(name: str, course: Course) -> None:
    """A limit of four decades is one sample in 10,000 by each of several statistics: 2,880 samples may raise one."""
    assert len(raised(watched(name, course, 30 * 96))) <= 1


def test_a_spike() -> None:
    found = watched("spike", lambda at: level(at) + (40 if at == 1_000 else 0), 1_100)
    ((at, code),) = raised(found)
    assert (at, code in ("spike", "extreme")) == (1_000, True)
    verdict = found[1_000]
    assert verdict.severity == "high"
    assert float(verdict.parameters["observed"]) > 85
    assert 45 < float(verdict.parameters["baseline_value"]) < 55
    assert verdict.parameters["baseline"] in BASELINE
    assert found[1_001].score < 0.5, "the next usual sample is no news"


def test_a_level_that_stays_is_told_once_and_accepted_in_time() -> None:
    found = watched("level-shift", lambda at: level(at) + (15 if at >= 1_000 else 0), 2_500)
    ((at, code),) = raised(found)
    assert code == "level-shift"
    assert 1_000 <= at <= 1_036
    cleared = [at for at, v in enumerate(found) if v.change == "cleared"]
    assert len(cleared) == 1
    assert cleared[0] > at + 36


def test_a_value_that_is_usual_at_another_hour() -> None:
    """The noon load at midnight is inside the range of the past, and off the baseline of its hour."""

    def course(at: int) -> float:
        return 160.0 if 2_016 <= at < 2_022 else daily(at)

    assert raised(watched("spike", course, 2_016)) == raised(watched("spike", daily, 2_016))
    found = [r for r in raised(watched("seasonal", course, 2_100)) if r[0] >= 2_016]
    assert found == [(2_016, "off-season")]
    assert watched("seasonal", course, 2_017)[2_016].parameters["baseline"] in ("hour-of-day", "hour-of-week")


def test_hour_of_week_is_used_once_it_was_visited_three_times() -> None:
    """On Sundays the load is half: by the hour of the day a Sunday is off, by the hour of the week it is usual."""
    verdict = watched("seasonal", lambda at: daily(at, HOUR) + (500 if at == 700 else 0), 701, HOUR)[700]
    assert verdict.parameters["baseline"] == "hour-of-week"


def test_a_meter_that_hangs() -> None:
    found = watched("flat-line", lambda at: level(1_000) if at >= 1_000 else level(at), 1_100)
    ((at, code),) = raised(found)
    assert (at, code) == (1_011, "flat-line")
    assert found[at].parameters["observed"] == "12"


def test_nights_at_zero_are_no_flat_line() -> None:
    assert raised(watched("flat-line", lambda at: 0.0 if at % 96 < 40 else level(at), 1_920))[3:] == []


def test_a_constant_is_no_flat_line() -> None:
    assert raised(watched("flat-line", lambda _: 7.0, 2_000)) == []


def test_a_drift() -> None:
    found = watched("drift", lambda at: level(at) + max(0, at - 2_000) * 0.002, 5_000)
    ((at, code),) = raised(found)
    assert code == "drift"
    assert 2_000 < at < 4_500
    assert float(found[at].parameters["observed"]) > float(found[at].parameters["baseline_value"])


def test_a_gap_and_a_missing_value() -> None:
    watch = detector("missing").open()
    times = [BASE + at * QUARTER for at in range(20)]
    assert all(not watch.observe(time, 1.0).change for time in times)
    after = watch.observe(times[-1] + 5 * QUARTER, 1.0)
    assert (after.change, after.code, after.parameters["observed"]) == ("raised", "missing", str(5 * 900))
    later = [watch.observe(times[-1] + (6 + at) * QUARTER, 1.0) for at in range(5)]
    assert [v.change for v in later].count("cleared") == 1
    empty = [watch.observe(times[-1] + (11 + at) * QUARTER, None) for at in range(5)]
    assert [v.change for v in empty].count("raised") == 1


def test_missing_is_not_zero() -> None:
    """A sample without a value moves no baseline and raises nothing; a zero does."""

    def told(value: float | None) -> list[str]:
        watch = detector("combined", LIMITS).open()
        for at in range(1_000):
            watch.observe(BASE + at * QUARTER, level(at))
        return [watch.observe(BASE + (1_000 + at) * QUARTER, value).change for at in range(6)]

    assert told(None) == [""] * 6
    assert "raised" in told(0.0)


def test_combined_sees_what_each_sees() -> None:
    def course(at: int) -> float:
        return daily(at) + (150 if 3_000 <= at < 3_010 else 0)

    found = watched("combined", course, 3_100)
    assert 3_000 in [at for at, _ in raised(found)]
    assert found[3_000].code in FINDING
    assert found[3_000].score > 0.6


def test_an_episode_does_not_flicker() -> None:
    """Every other value far off, each farther than the one before: one episode, until it has been quiet for some samples."""

    def course(at: int) -> float:
        return level(at) + (40 * 1.5 ** (at - 1_000) if 1_000 <= at < 1_008 and at % 2 else 0)

    found = watched("spike", course, 1_100)
    assert len(raised(found)) == 1
    assert all(v.flagged for v in found[1_001:1_008])
    eager = watched("spike", course, 1_100, limits=Limits(limit=4.0, clear_samples=1, rest_samples=1))
    assert len(raised(eager)) > 1, "without hysteresis it does flicker"


def test_a_large_offset_costs_no_precision() -> None:
    small = watched("combined", lambda at: level(at) + (40 if at == 1_000 else 0), 1_010)
    large = watched("combined", lambda at: 1e9 + level(at) + (40 if at == 1_000 else 0), 1_010)
    assert [v.change for v in small] == [v.change for v in large]


def test_an_irregular_cadence() -> None:
    """Five minutes to an hour between samples, and a day without any: still one spike."""
    watch = detector("combined", LIMITS).open()
    time, found = BASE, []
    for at in range(2_000):
        time += (300_000, 900_000, 3_600_000, 1_200_000)[at * 31 % 4] + (86_400_000 if at == 900 else 0)
        found.append(watch.observe(time, level(at) + (60 if at == 1_500 else 0)))
    assert 1_500 in [at for at, _ in raised(found)]
    assert len(raised(found)) <= 3


@pytest.mark.parametrize(("deviation", "severity"), [(1.0, "low"), (1.49, "low"), (1.5, "medium"), (2.5, "high")])
def test_severity(deviation: float, severity: str) -> None:
    assert severity_of(deviation) == severity


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (12.5, "12.5"), (1234567.0, "1234567"), (0.00001234, "0.00001234"), (-3.25e12, "-3250000000000")],
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert shown(value) == text


def test_what_is_improbable_need_not_matter() -> None:
    """A load that is the same to a thousandth is off by two hundredths: improbable, and of no weight."""

    def course(at: int) -> float:
        return 1_000 + noise(at) + (20 if 1_000 <= at < 1_010 else 600 if 1_500 <= at < 1_510 else 0)

    assert [at for at, _ in raised(watched("combined", course, 1_600))] == [1_000, 1_500]
    weighed = Limits(limit=4.0, rest_samples=96, least_percent=30)
    assert [at for at, _ in raised(watched("combined", course, 1_600, limits=weighed))] == [1_500]


def test_nights_at_zero_hide_no_surge_where_rises_and_falls_are_apart() -> None:
    """A works that stood still for an hour every few days, and one day takes a quarter more."""

    def course(at: int) -> float:
        return 0.0 if at % 300 in range(4) else level(at) + (12 if at == 2_000 else 0)

    apart = watched("spike", course, 2_100, limits=replace(LIMITS, sides=2))
    assert [at for at, _ in raised(apart) if at > 1_900] == [2_000]
    assert [at for at, _ in raised(watched("spike", course, 2_100)) if at > 1_900] == []


def test_what_is_improbable_but_small_does_not_count_where_scales_are_asked_for() -> None:
    """The mean of hours hardly moves from day to day; once it is off by half of what single values are off by."""

    def course(at: int) -> float:
        return 100 + 40 * (at % 3 - 1) + noise(at) + (20 if 2_000 <= at < 2_040 else 0)

    small = watched("level-shift", course, 2_100)
    assert [at for at, _ in raised(small) if at >= 2_000]
    asked = watched("level-shift", course, 2_100, limits=replace(LIMITS, least_scales=2.0))
    assert [at for at, _ in raised(asked) if at >= 2_000] == []
