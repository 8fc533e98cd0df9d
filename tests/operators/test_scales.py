"""What scales say of themselves: idle readings, verification, weight curves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hengliu.events.envelope import iso_ms
from hengliu.events.families.registry import DeviceRegistered, RulePublished
from hengliu.events.families.weighing import WeighingMeasured
from hengliu.events.family import EventData
from streams.kernel.operator import Operator
from streams.operators.calibration import Calibration, CalibrationPolicy
from streams.operators.idle_zero import IdleZero
from streams.operators.weight_curve import Step, WeightCurve, WeightCurvePolicy, steps
from tests.operators.laws import Input, Run, in_receive_order, run
from tests.operators.passage_strategies import scale, source
from tests.operators.strategies import BASE, DAY, HOUR, MINUTE

PLATE = "蒙C12345"


def weighing(time: int, received: int | None = None, device: str = "wb-1", **members: object) -> Input:
    data = {"plate": PLATE, "mass_kg": 48_900, **members}
    return Input("weighing.measured", time if received is None else received, time, data, source(device))


def judged(operator: Operator, *inputs: Input, registered: tuple[EventData, ...] = ()) -> Run:
    ordered = in_receive_order(inputs)
    return run((operator,), ordered, ordered[-1].received, registered)


def lives(found: Run) -> list[tuple[str, str, str]]:
    """(change, severity, warning) of every event."""
    return [(e.emit.type.removeprefix("warning."), e.emit.data["severity"], e.emit.data["warning"]) for e in found.emitted]


# ---- idle zero


def zeros(*readings: int | None, registered: tuple[EventData, ...] = ()) -> Run:
    inputs = [weighing(BASE + n * MINUTE, zero_kg=kg) for n, kg in enumerate(readings)]
    return judged(IdleZero(), *inputs, registered=registered)


def test_an_idle_scale_that_is_off_is_one_warning_until_it_is_back_at_zero() -> None:
    found = zeros(0, 60, 80, 260, 60, 0, 0)
    (first, *_) = found.emitted
    one = first.emit.data["warning"]
    assert lives(found) == [
        ("raised", "medium", one),
        ("updated", "high", one),
        ("updated", "medium", one),
        ("cleared", "medium", one),
    ]
    assert first.emit.data["subject"] == source("wb-1")
    assert first.emit.data["parameters"] == {"zero_kg": "60", "tolerance_kg": "40", "plate": PLATE}
    assert (first.emit.data["rule"], first.emit.data["rule_version"], first.emit.cause) == (
        "idle-zero",
        1,
        f"{source('wb-1')}#e1",
    )
    assert {e.emit.data["since"] for e in found.emitted} == {iso_ms(BASE + MINUTE)}


@pytest.mark.parametrize("kg", [40, -40])
def test_what_lies_on_many_scales_is_no_warning(kg: int) -> None:
    assert zeros(0, kg, kg, 0).emitted == []


def test_below_zero_is_as_bad_as_above_it() -> None:
    assert len(zeros(-60).emitted) == 1


def test_between_the_limits_nothing_changes() -> None:
    assert [change for change, _, _ in lives(zeros(60, 30, 60, 30, 20, 30, 60))] == ["raised", "cleared", "raised"]


def test_no_idle_reading_says_nothing() -> None:
    assert [change for change, _, _ in lives(zeros(60, None, None))] == ["raised"]
    assert zeros(None).emitted == []


def test_an_old_reading_changes_nothing_and_a_clock_ahead_silences_nobody() -> None:
    ahead = weighing(BASE + 9 * HOUR, BASE, zero_kg=60)
    old = weighing(BASE - DAY, BASE + MINUTE, zero_kg=0)
    right = weighing(BASE + 2 * MINUTE, zero_kg=0)
    assert [(e.emit.type, e.emit.at) for e in judged(IdleZero(), ahead, old, right).emitted] == [
        ("warning.raised", BASE),
        ("warning.cleared", BASE + 2 * MINUTE),
    ]


def test_a_published_tolerance_counts_and_a_retired_rule_clears_what_is_open() -> None:
    strict = RulePublished(rule="idle-zero", version=7, parameters={"tolerance_kg": "10"})
    (raised,) = zeros(20, registered=(strict,)).data("warning.raised")
    assert (raised["rule_version"], raised["parameters"]["tolerance_kg"]) == (7, "10")
    retired = RulePublished.model_validate(
        {"rule": "idle-zero", "version": 2, "parameters": {}, "status": "retired", "valid_from": iso_ms(BASE + MINUTE)}
    )
    assert [change for change, _, _ in lives(zeros(60, 60, 90, registered=(retired,)))] == ["raised", "cleared"]


def test_each_scale_has_its_own_life() -> None:
    found = judged(IdleZero(), weighing(BASE, zero_kg=60), weighing(BASE + 1, device="wb-2", zero_kg=0))
    assert [e.emit.type for e in found.emitted] == ["warning.raised"]


# ---- calibration


def test_a_scale_in_use_after_its_verification_is_one_warning_until_it_is_renewed() -> None:
    until = BASE + HOUR
    registered = (
        scale("wb-1", calibrated_until=iso_ms(until)),
        scale("wb-1", calibrated_until=iso_ms(BASE + 365 * DAY), valid_from=iso_ms(BASE + 10 * HOUR)),
    )
    times = (BASE, until, until + 1, until + HOUR, BASE + 10 * HOUR - 1, BASE + 10 * HOUR, BASE + 11 * HOUR)
    found = judged(Calibration(), *(weighing(t) for t in times), registered=registered)
    assert [(e.emit.type, e.emit.at) for e in found.emitted] == [
        ("warning.raised", until + 1),
        ("warning.cleared", BASE + 10 * HOUR),
    ]
    raised, cleared = (e.emit.data for e in found.emitted)
    assert raised["warning"] == cleared["warning"]
    assert (raised["code"], raised["severity"], raised["subject"]) == ("scale-not-calibrated", "high", source("wb-1"))
    assert raised["parameters"] == {"calibrated_until": iso_ms(until)}


def test_a_scale_that_was_renewed_in_time_and_one_that_nobody_uses_warn_nobody() -> None:
    renewed = (
        scale("wb-1", calibrated_until=iso_ms(BASE + HOUR)),
        scale("wb-1", calibrated_until=iso_ms(BASE + 365 * DAY), valid_from=iso_ms(BASE + MINUTE)),
        scale("wb-2", calibrated_until=iso_ms(BASE - DAY)),
    )
    assert judged(Calibration(), weighing(BASE), weighing(BASE + 2 * HOUR), registered=renewed).emitted == []


def test_a_scale_without_a_certificate_warns_only_where_the_rule_demands_one() -> None:
    without = DeviceRegistered(device="wb-1", source=source("wb-1"), kind="weighbridge", site="m01")
    assert judged(Calibration(), weighing(BASE), registered=(without,)).emitted == []
    assert judged(Calibration(), weighing(BASE)).emitted == []
    demand = RulePublished(rule="calibration", version=3, parameters={"unregistered": "warn"})
    (raised,) = judged(Calibration(), weighing(BASE), weighing(BASE + 1), registered=(without, demand)).data("warning.raised")
    assert (raised["severity"], raised["parameters"], raised["rule_version"]) == ("medium", {}, 3)


def test_days_of_grace_are_granted_to_the_last_instant() -> None:
    registered = (scale("wb-1", calibrated_until=iso_ms(BASE)),)
    graceful = Calibration(CalibrationPolicy(grace_days=2))
    assert judged(graceful, weighing(BASE + 2 * DAY), registered=registered).emitted == []
    assert len(judged(graceful, weighing(BASE + 2 * DAY + 1), registered=registered).emitted) == 1


def test_belt_scales_are_scales() -> None:
    belt = DeviceRegistered.model_validate(
        {"device": "b", "source": source("b"), "kind": "belt-scale", "site": "m01", "calibrated_until": iso_ms(BASE - 1)}
    )
    reading = Input("belt.metered", BASE, BASE, {"belt": "b", "total_kg": 1}, source("b"))
    assert len(judged(Calibration(), reading, registered=(belt,)).emitted) == 1


# ---- weight curves

MOUNTING = [0, 4_200, 6_900, 7_350, 6_700, 7_100, 24_800, 23_100, 25_300, 24_400, 47_200, 50_100, 48_300, 49_200, 48_800]
"""Axle by axle, each shaking the platform."""
SETTLED = [48_900, 48_920, 48_900, 48_900, 48_880, 48_900, 48_920, 48_900, 48_900, 48_900]
POLICY = WeightCurvePolicy()


def test_a_jump_of_a_standing_truck_is_a_step() -> None:
    after = [kg - 2_000 for kg in SETTLED]
    assert steps([*MOUNTING, *SETTLED, *after], 250, POLICY) == [Step(24 * 250, 48_900, 46_900)]
    assert steps([*SETTLED, 48_100, 47_300, *after], 250, POLICY) == [Step(9 * 250, 48_900, 46_900)], "over two samples"
    driver = [kg + 62 for kg in SETTLED]
    (found,) = steps([*driver, *SETTLED, *after], 250, POLICY)
    assert (found.before_kg, found.after_kg) == (48_900, 46_900), "the driver climbs down just before"
    assert steps([*after, *SETTLED, *after], 250, POLICY) == [Step(9 * 250, 46_900, 48_900), Step(19 * 250, 48_900, 46_900)]


def test_what_trucks_do_is_no_step() -> None:
    assert steps([*MOUNTING, *SETTLED], 250, POLICY) == []
    assert steps([*SETTLED, *(kg - 90 for kg in SETTLED)], 250, POLICY) == [], "the driver climbs down"
    assert steps([*SETTLED, 51_000, *SETTLED], 250, POLICY) == [], "a spike"
    assert steps([*SETTLED, *(48_900 + 50 * n for n in range(40))], 250, POLICY) == [], "filled from a silo"
    half = [24_400] * 12
    moved_on = [23_900, 25_800, 31_000, 47_600, 49_900, 48_200, 49_300, 48_700]
    assert steps([*half, *moved_on, *SETTLED], 250, POLICY) == [], "it stopped half-way, then drove on"
    bucket = [49_800, 52_300, 51_200, 52_900, 51_700, 52_500, 52_100]
    assert steps([*SETTLED, *bucket, *[52_200] * 10], 250, POLICY) == [], "a bucket is tipped in"


def test_a_step_is_as_large_and_as_sudden_as_the_rule_says() -> None:
    assert steps([*[19_000] * 9, *[19_199] * 9], 250, POLICY) == []
    assert len(steps([*[19_000] * 9, *[19_200] * 9], 250, POLICY)) == 1
    assert steps([*[48_900] * 9, *[48_430] * 9], 250, POLICY) == [], "less than one per cent"
    assert steps([*[48_900] * 7, *[46_900] * 9], 250, POLICY) == [], "it did not stand for two seconds before"
    assert len(steps([*[48_900] * 3, *[46_900] * 3], 1_000, POLICY)) == 1
    assert steps([*[48_900] * 9, *[46_900] * 9], 1_001, POLICY) == [], "sampled too slowly to tell"


standing = st.lists(st.integers(-30, 30), min_size=9, max_size=40)


@given(standing, standing, st.integers(15_000, 49_000), st.integers(600, 5_000), st.booleans())
@settings(max_examples=80, deadline=None)
def test_a_planted_step_is_found_where_and_as_large_as_it_is(
    before: list[int], after: list[int], mass: int, size: int, down: bool
) -> None:
    then = mass - size if down else mass + size
    (found,) = steps([*(mass + n for n in before), *(then + n for n in after)], 250, POLICY)
    assert found.at_ms == (len(before) - 1) * 250
    assert abs(found.after_kg - found.before_kg - (then - mass)) <= POLICY.flat_kg


@given(st.integers(15_000, 49_000), st.lists(st.integers(-120, 120), min_size=20, max_size=220), st.integers(10, 1_000))
@settings(max_examples=80, deadline=None)
def test_a_truck_that_only_sways_makes_no_step(mass: int, sway: list[int], interval_ms: int) -> None:
    """Whatever the noise: no two standings less than ``step_kg`` apart are a step."""
    found = steps([mass + n * 199 // 240 for n in sway], interval_ms, POLICY)
    assert found == []


def test_one_warning_a_weighing_names_the_greatest_step() -> None:
    curve = [*MOUNTING, *SETTLED, *(kg - 2_000 for kg in SETTLED), *(kg - 1_200 for kg in SETTLED)]
    found = judged(WeightCurve(), weighing(BASE, mass_kg=47_700, curve_kg=curve, curve_interval_ms=250))
    (warning,) = found.data("warning.raised")
    assert (warning["code"], warning["subject"], warning["severity"]) == ("weight-curve-step", source("wb-1"), "high")
    assert warning["parameters"] == {
        "step_kg": "-2000", "before_kg": "48900", "after_kg": "46900", "at_ms": "6000", "steps": "2", "mass_kg": "47700",
        "plate": PLATE,
    }  # fmt: skip
    small = [*SETTLED, *(kg + 600 for kg in SETTLED)]
    (warning,) = judged(WeightCurve(), weighing(BASE, curve_kg=small, curve_interval_ms=250)).data("warning.raised")
    assert warning["severity"] == "medium"


def test_no_curve_or_a_retired_rule_is_no_verdict() -> None:
    curve = [*SETTLED, *(kg - 2_000 for kg in SETTLED)]
    assert judged(WeightCurve(), weighing(BASE)).emitted == []
    assert judged(WeightCurve(), weighing(BASE, curve_kg=curve)).emitted == [], "without its interval a curve has no time"
    retired = RulePublished(rule="weight-curve", version=2, parameters={}, status="retired")
    carried = weighing(BASE, curve_kg=curve, curve_interval_ms=250)
    assert judged(WeightCurve(), carried, registered=(retired,)).emitted == []


def test_a_curve_has_at_most_240_samples_of_whole_kilograms() -> None:
    def sent(curve: str) -> WeighingMeasured:
        return WeighingMeasured.model_validate_json(
            f'{{"plate": "{PLATE}", "mass_kg": 1, "curve_kg": {curve}, "curve_interval_ms": 250}}'
        )

    assert sent(str([1] * 240)).curve_kg == [1] * 240
    for curve in (str([1] * 241), "[1]", "[1, 2.5]", '[1, "2"]'):
        with pytest.raises(ValidationError):
            sent(curve)
