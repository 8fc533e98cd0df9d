"""Anomalies of loads, case by case."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.events.envelope import iso_ms
from hengliu.events.families.registry import RulePublished
from hengliu.events.family import EventData
from hengliu.reference.codes import FINDING
from streams.operators.anomaly import WAITING_MOST, Anomalies, AnomalyPolicy
from tests.operators.anomaly_strategies import EAGER, consumption, loads
from tests.operators.laws import Input, Run, in_receive_order, run
from tests.operators.strategies import BASE, DAY, HOUR, MINUTE

QUICK = RulePublished(rule="anomaly", version=2, parameters={**EAGER, "limit": "5", "warm_samples": "60", "horizon_s": "0"})


def hours(amounts: Sequence[float | None], first: int = 0, lag: int = MINUTE) -> list[Input]:
    """One interval an hour; None: an estimated one."""
    found = []
    for at, amount in enumerate(amounts, first):
        end = BASE + at * HOUR
        quality = "measured" if amount is not None else "estimated"
        found.append(consumption(at, end + lag, end, str(amount or 0), quality=quality))
    return found


def usual(count: int) -> list[float | None]:
    """A load with a daily course and some noise, no two days alike."""
    return [100.0 + 20 * (at % 24 in range(8, 18)) + at * 7919 % 13 for at in range(count)]


def watched(inputs: Sequence[Input], *registered: EventData) -> Run:
    return run((Anomalies(),), in_receive_order(inputs), BASE + 90 * DAY, registered or (QUICK,))


def changes(found: Run) -> list[tuple[str, str]]:
    return [(e.emit.type, e.emit.data.get("severity", "")) for e in found.emitted]


def test_a_load_far_off_raises_once_and_clears() -> None:
    found = watched(hours([*usual(200), 900.0, 910.0, 905.0, *usual(40)]))
    assert [c for c, _ in changes(found)] == ["warning.raised", "warning.cleared"]
    raised, cleared = (e.emit for e in found.emitted)
    assert raised.data["code"] == "series-anomaly"
    assert raised.data["subject"] == "em-1"
    assert (raised.data["rule"], raised.data["rule_version"]) == ("anomaly", 2)
    assert raised.cause == "c200"
    assert raised.data["parameters"]["finding"] in FINDING
    assert float(raised.data["parameters"]["observed"]) == 900
    assert raised.data["parameters"]["unit"] == "kWh/h"
    assert raised.data["warning"] == cleared.data["warning"]
    assert raised.data["since"] == cleared.data["since"] == iso_ms(BASE + 200 * HOUR)


def test_a_usual_load_raises_nothing() -> None:
    assert watched(hours(usual(600))).emitted == []


def test_the_load_is_a_rate_so_intervals_may_differ_in_length() -> None:
    inputs = []
    for at, amount in enumerate(usual(400)):
        assert amount is not None
        end = BASE + at * HOUR
        if at % 2:
            inputs.append(consumption(2 * at, end + 1, end - HOUR // 2, str(amount / 2), minutes=30))
            inputs.append(consumption(2 * at + 1, end + 2, end, str(amount / 2), minutes=30))
        else:
            inputs.append(consumption(2 * at, end + 1, end, str(amount)))
    assert watched(inputs).emitted == []


def test_an_estimated_interval_is_no_zero() -> None:
    missing: list[float | None] = [None] * 3
    assert watched(hours([*usual(200), *missing, *usual(30)])).emitted == []
    zeros: list[float | None] = [0.0] * 3
    assert changes(watched(hours([*usual(200), *zeros, *usual(30)])))[0][0] == "warning.raised"


def test_what_comes_within_the_horizon_finds_its_place() -> None:
    """The same verdicts at the same event times, whatever the order of arrival within the horizon."""
    rule = RulePublished(rule="anomaly", version=2, parameters={**QUICK.parameters, "horizon_s": str(6 * 3600)})
    ordered = hours([*usual(200), 900.0, 910.0, *usual(40)])
    shuffled = [consumption(at, i.time + (at * 3 % 6) * HOUR, i.time, i.data["amount"]) for at, i in enumerate(ordered)]
    assert [i.id for i in in_receive_order(shuffled)] != [i.id for i in ordered]

    def told(inputs: list[Input]) -> list[tuple[str, int, dict[str, str]]]:
        return [(e.emit.type, e.emit.time, e.emit.data["parameters"]) for e in watched(inputs, rule).emitted]

    assert [t for t, _, _ in told(ordered)] == ["warning.raised", "warning.cleared"]
    assert told(shuffled) == told(ordered)
    # Without the horizon the order of arrival shows, and what it costs is told.
    hasty = watched(shuffled, QUICK)
    assert len(hasty.data("input.late")) > 50


def test_what_comes_beyond_the_horizon_is_told_and_changes_no_verdict() -> None:
    ordered = hours([*usual(200), 900.0, *usual(40)])
    before = watched(ordered)
    late = [consumption(1_000 + at, BASE + 300 * HOUR + at, BASE + at * HOUR + MINUTE, "100000") for at in range(5)]
    after = watched([*ordered, *late])
    assert [e.emit for e in after.emitted if e.emit.type != "input.late"] == [e.emit for e in before.emitted]
    told = after.data("input.late")
    assert [t["event"] for t in told] == [f"c{1_000 + at}" for at in range(5)]
    assert {t["operator"] for t in told} == {"anomaly"}
    assert told[0]["judged_until"] == iso_ms(BASE + 240 * HOUR)
    assert told[0]["behind_s"] == 240 * 3600 - 60


def test_a_horizon_that_waits_for_ever_is_bounded_in_memory() -> None:
    rule = RulePublished(rule="anomaly", version=2, parameters={**EAGER, "horizon_s": str(30 * 86_400)})
    found = watched(hours(usual(400)), rule)
    (series,) = found.state["anomaly", "series"].values()
    assert len(series.waiting) == WAITING_MOST
    assert series.judged == BASE + (399 - WAITING_MOST) * HOUR


def test_a_clock_that_runs_ahead_makes_nothing_late() -> None:
    ahead = consumption(9_999, BASE + 100 * HOUR + 2 * MINUTE, BASE + 400 * DAY, "100")
    found = watched([*hours(usual(300)), ahead])
    assert found.data("input.late") == []


def test_a_retired_rule_clears_and_another_detector_begins_anew() -> None:
    retired = RulePublished(
        rule="anomaly", version=3, parameters={}, status="retired", valid_from=iso_ms(BASE + 202 * HOUR)  # type: ignore[arg-type]
    )  # fmt: skip
    inputs = hours([*usual(200), *([900.0] * 60)])
    found = watched(inputs, QUICK, retired)
    assert [c for c, _ in changes(found)] == ["warning.raised", "warning.cleared"]
    assert found.emitted[1].emit.time == BASE + 202 * HOUR
    again = RulePublished(
        rule="anomaly",
        version=4,
        parameters={**QUICK.parameters, "detector": "spike"},
        valid_from=iso_ms(BASE + 202 * HOUR),  # type: ignore[arg-type]
    )
    other = watched(hours([*usual(200), 900.0, 900.0, *usual(200), 5_000.0]), QUICK, again)
    assert [c for c, _ in changes(other)] == ["warning.raised", "warning.cleared", "warning.raised"]
    assert len({e.emit.data["warning"] for e in other.emitted}) == 2
    assert other.emitted[2].emit.data["parameters"]["detector"] == "spike"


@given(loads(), st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_every_interval_is_judged_waits_or_is_told_late(inputs: list[Input], horizon_h: int) -> None:
    """Nothing is dropped silently."""
    rule = RulePublished(rule="anomaly", version=2, parameters={**EAGER, "horizon_s": str(horizon_h * 3600)})
    found = watched(inputs, rule)
    late = [t["event"] for t in found.data("input.late")]
    waiting = [w.id for series in found.state["anomaly", "series"].values() for w in series.waiting]
    assert len({*late, *waiting}) == len(late) + len(waiting)
    for meter in ("em-1", "em-2"):
        mine = [i for i in inputs if i.data["meter"] == meter]
        series = next((s for k, s in found.state["anomaly", "series"].items() if meter in k), None)
        behind = [i for i in mine if i.id not in late and i.id not in waiting]
        assert all(min(i.time, i.received) <= (series.judged if series else 0) for i in behind)


def test_the_defaults_are_detectors_and_limits() -> None:
    assert AnomalyPolicy().detector == "combined"
    assert AnomalyPolicy().limits.limit == float(AnomalyPolicy().limit)
