"""Positions against weighings, case by case."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.events.families.registry import RulePublished
from hengliu.events.family import EventData
from streams.operators.places import Place, distance_m, lies_in
from streams.operators.positions import Positions
from tests.operators.journey_strategies import CITY, PLATE, fix, movements, weighing
from tests.operators.laws import Input, Run, in_receive_order, run
from tests.operators.strategies import BASE, DAY, MINUTE


def drive(*inputs: Input, after: float = 0, registered: Sequence[EventData] = CITY) -> Run:
    ordered = in_receive_order(inputs)
    return run((Positions(),), ordered, ordered[-1].received + int(after * MINUTE), registered)


def told(found: Run) -> list[str]:
    return [e.emit.type.split(".")[1] for e in found.emitted]


def test_a_truck_that_is_where_it_is_weighed_is_left_alone() -> None:
    assert told(drive(fix(0, 2), weighing(1), fix(3, 0.5), after=60)) == []


def test_fixes_on_both_sides_that_are_too_far_away_contradict_at_once() -> None:
    found = drive(fix(0, 40), weighing(5), fix(10, 42))
    (raised,) = found.of("warning.raised")
    assert {**raised.emit.data, "warning": ""} == {
        "warning": "", "code": "position-contradiction", "severity": "high", "subject": PLATE, "enterprise": "m01",
        "site": "m01", "division": "150303", "rule": "position", "rule_version": 1, "since": "2026-03-01T02:05:00.000Z",
        "parameters": {"weighed_at": "2026-03-01T02:05:00.000Z", "mass_kg": "48000",
                       "located_at": "2026-03-01T02:00:00.000Z", "distance_m": "39999"},
    }  # fmt: skip
    assert raised.emit.cause == "urn:x:m01#w5,urn:x:gps#f0,urn:x:gps#f10"
    assert raised.emit.at == raised.emit.known_at == BASE + 10 * MINUTE


@pytest.mark.parametrize(("km", "contradicts"), [(11.3, False), (11.4, True)])
def test_what_the_greatest_speed_covers_and_the_site_is_long_is_no_contradiction(km: float, contradicts: bool) -> None:
    """Five minutes at 100 km/h are 8.33 km, and 3 km are the site."""
    assert told(drive(fix(0, km), weighing(5), fix(10, km))) == ["raised"] * contradicts


def test_one_wild_fix_beside_a_good_one_contradicts_nothing() -> None:
    assert told(drive(fix(0, 400), weighing(5), fix(10, 1), after=120)) == []
    assert told(drive(fix(0, 1), weighing(5), fix(10, 400), after=120)) == []


def test_a_single_fix_is_believed_after_half_an_hour_without_another() -> None:
    assert told(drive(fix(0, 40), weighing(5), after=29.9)) == []
    found = drive(fix(0, 40), weighing(5), after=30)
    (raised,) = found.of("warning.raised")
    assert raised.emit.at == raised.emit.known_at == BASE + 35 * MINUTE
    assert told(drive(fix(0, 40), weighing(5), fix(12, 1, late=20), after=60)) == [], "sent later, but in time"


def test_fixes_that_come_later_and_fit_clear_it() -> None:
    found = drive(fix(0, 40), weighing(5), fix(4, 1, late=90), after=60)
    assert told(found) == ["raised", "cleared"]
    raised, cleared = found.emitted
    assert raised.emit.data["warning"] == cleared.emit.data["warning"]
    assert cleared.emit.cause == "urn:x:m01#w5,urn:x:gps#f4"


def test_gross_and_tare_of_one_visit_are_one_warning() -> None:
    found = drive(fix(0, 40), weighing(5), fix(10, 40), fix(30, 40), weighing(35), fix(40, 40))
    assert told(found) == ["raised", "updated"]
    assert len({e.emit.data["warning"] for e in found.emitted}) == 1
    half = drive(fix(0, 40), weighing(5), fix(10, 40), fix(30, 40), weighing(35), fix(40, 40), fix(34, 1, late=30))
    assert told(half) == ["raised", "updated"], "the other weighing still contradicts"
    both = [fix(0, 40), weighing(5), fix(10, 40), fix(30, 40), weighing(35), fix(40, 40), fix(34, 1, 30), fix(6, 1, 60)]
    assert told(drive(*both)) == ["raised", "updated", "cleared"]


def test_another_site_is_another_warning() -> None:
    found = drive(fix(0, 200), weighing(5), fix(10, 200), fix(60, 200), weighing(65, "p01"), fix(70, 200))
    assert [e.emit.data["site"] for e in found.of("warning.raised")] == ["m01", "p01"]


@pytest.mark.parametrize(
    "inputs",
    [
        [weighing(5)],
        [fix(0, 40, plate="蒙C99999"), weighing(5), fix(10, 40, plate="蒙C99999")],
        [fix(-11, 40), weighing(5), fix(21, 40)],
        [fix(0, 40), weighing(5, "n01"), fix(10, 40)],
        [fix(0, 40), weighing(5, "x99"), fix(10, 40)],
        [fix(0, 40, late=-2), weighing(5), fix(10, 40, late=-2)],
        [fix(0, 40), weighing(5, late=-2), fix(10, 40)],
    ],
    ids=["no terminal", "another truck's", "too long before and after", "a site that lies nowhere", "an unknown site",
         "fixes from the future", "a weighing from the future"],
)  # fmt: skip
def test_where_nobody_can_say_nothing_is_said(inputs: list[Input]) -> None:
    assert told(drive(*inputs, after=120)) == []


def test_a_scale_that_was_off_line_is_judged_by_the_fixes_of_its_time() -> None:
    fixes = [fix(m, 40) for m in range(0, 80, 2)]
    assert told(drive(*fixes, weighing(5, late=75))) == ["raised"]
    there = [fix(m, 0.5 if m < 12 else 40) for m in range(0, 80, 2)]
    assert told(drive(*there, weighing(5, late=75), after=60)) == []


def test_a_published_version_judges_and_a_retired_one_is_silent() -> None:
    wide = RulePublished(rule="position", version=3, parameters={"near_m": "50000"})
    away = (fix(0, 40), weighing(5), fix(10, 40))
    assert told(drive(*away, registered=[*CITY, wide])) == []
    tight = RulePublished(rule="position", version=4, parameters={"near_m": "100", "speed_kmh": "1"})
    (raised,) = drive(fix(0, 1), weighing(5), fix(10, 1), registered=[*CITY, tight]).data("warning.raised")
    assert raised["rule_version"] == 4
    retired = RulePublished(rule="position", version=5, parameters={}, status="retired")
    assert told(drive(*away, after=60, registered=[*CITY, retired])) == []


def test_a_fix_every_ten_seconds_leaves_forty_and_after_a_day_none() -> None:
    inputs = [*(fix(m / 6, 1) for m in range(1_200)), *(weighing(m) for m in range(0, 200, 20))]
    (row,) = drive(*inputs).state["positions", "plates"].values()
    assert len(row.fixes) == 40
    assert len(row.seen) == 8
    assert len(msgspec.msgpack.encode(row)) < 3_500
    assert not any(drive(*inputs, after=2 * 24 * 60).state.values())


# ---- distances and divisions


def test_a_distance_is_that_of_the_great_circle() -> None:
    """Beijing to Shanghai: 1,067 km by the haversine formula; the plane is right to a hundredth even there."""
    assert distance_m(Place(399042000, 1164074000), Place(312304000, 1214737000)) == pytest.approx(1_067_000, rel=0.01)
    assert distance_m(Place(394400000, 1068900000), Place(396900000, 1068200000)) == pytest.approx(28_440, rel=0.001)
    assert distance_m(Place(0, 1799999000), Place(0, -1799999000)) == pytest.approx(22, abs=1)


def test_a_division_lies_in_itself_its_city_and_its_province() -> None:
    assert [lies_in("150302", n) for n in ("150302", "150300", "150000", None)] == [True] * 4
    assert [lies_in("150302", n) for n in ("150303", "150400", "640000")] == [False] * 3


# ---- laws


@given(movements())
@settings(max_examples=100, deadline=None)
def test_every_warning_has_one_life_and_nothing_is_held_for_ever(inputs: list[Input]) -> None:
    found = run((Positions(),), inputs, (inputs[-1].received if inputs else BASE) + 3 * DAY, CITY)
    assert not any(found.state.values())
    lives: dict[str, list[str]] = {}
    for one in found.emitted:
        lives.setdefault(one.emit.data["warning"], []).append(one.emit.type.split(".")[1])
    for life in lives.values():
        assert life[0] == "raised"
        assert life.count("raised") == 1
        assert "cleared" not in life[:-1]


@given(st.lists(st.integers(0, 600), min_size=1, max_size=30, unique=True), st.integers(20, 99), st.data())
@settings(max_examples=100, deadline=None)
def test_nobody_who_drives_as_people_do_is_ever_suspected(minutes: list[int], kmh: int, data: st.DataObject) -> None:
    """Back and forth on the road from the mine; weighed at the mine whenever it is there; fixes at any times, in any order."""
    length, inputs = 30.0, []
    for minute in sorted(minutes):
        gone = minute / 60 * kmh % (2 * length)
        north = min(gone, 2 * length - gone)
        late = data.draw(st.sampled_from([0, 0, 1, 40]))
        inputs.append(weighing(minute, late=late) if north < 1 else fix(minute, north, late))
    assert told(drive(*inputs, after=120)) == []
