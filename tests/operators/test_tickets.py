"""Tickets, case by case: what a weighbridge clerk would say of each."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.events.families.registry import RulePublished, SiteRegistered, VehicleRegistered
from hengliu.events.family import EventData
from streams.operators.tickets import Tickets
from tests.operators.laws import Input, Run, in_receive_order, run
from tests.operators.strategies import BASE, DAY, HOUR, MINUTE

PLATE = "蒙C12345"


def crossing(minute: float, mass_kg: int, late: float = 0, site: str = "m01", plate: str = PLATE, **more: Any) -> Input:
    """A crossing at ``minute``, received ``late`` minutes after it."""
    time = BASE + int(minute * MINUTE)
    data = {"plate": plate, "mass_kg": mass_kg, **more}
    id_ = f"{site}-{minute}-{mass_kg}"
    return Input("weighing.measured", time + int(late * MINUTE), time, data, f"urn:x:{site}", id_, scope=(site, site, "150303"))


def weigh(*crossings: Input, registered: tuple[EventData, ...] = (), after: int = 0) -> Run:
    inputs = in_receive_order(crossings)
    return run((Tickets(),), inputs, inputs[-1].received + after, registered)


def pairs(found: Run) -> list[tuple[str, int, int]]:
    return [(t["direction"], t["gross_kg"], t["tare_kg"]) for t in found.data("weighing.recorded")]


def codes(found: Run) -> list[str]:
    return [w["code"] for w in found.data("warning.raised")]


def test_lighter_first_went_out_laden() -> None:
    found = weigh(crossing(0, 15_300), crossing(30, 48_920, axles=6, commodity="cleaned", use="coking", destination="640202"))
    (ticket,) = found.of("weighing.recorded")
    assert ticket.emit.data == {
        "enterprise": "m01", "site": "m01", "division": "150303", "plate": PLATE, "direction": "out",
        "gross_kg": 48_920, "tare_kg": 15_300, "net_kg": 33_620,
        "gross_time": "2026-03-01T02:30:00.000Z", "tare_time": "2026-03-01T02:00:00.000Z", "tare_source": "measured",
        "axles": 6, "commodity": "cleaned", "use": "coking", "destination": "640202",
    }  # fmt: skip
    assert ticket.emit.cause == "urn:x:m01#m01-0-15300,urn:x:m01#m01-30-48920"
    assert ticket.emit.at == ticket.emit.known_at == ticket.emit.time == BASE + 30 * MINUTE


def test_heavier_first_came_in_laden_and_use_falls_back_to_the_site() -> None:
    site = SiteRegistered(site="p01", enterprise="p01", name="电厂", division="150302", kind="power", use="power")
    found = weigh(crossing(0, 48_000, site="p01"), crossing(20, 15_000, site="p01"), registered=(site,))
    assert pairs(found) == [("in", 48_000, 15_000)]
    assert found.data("weighing.recorded")[0]["use"] == "power"
    assert found.data("weighing.recorded")[0]["commodity"] == "raw"


def test_what_the_gross_crossing_leaves_out_the_tare_crossing_says() -> None:
    found = weigh(crossing(0, 15_000, waybill="W1", commodity="coke"), crossing(20, 48_000, axles=6))
    (ticket,) = found.data("weighing.recorded")
    assert (ticket["waybill"], ticket["commodity"], ticket["axles"]) == ("W1", "coke", 6)


def test_a_repeat_replaces_the_open_crossing_and_both_are_causes() -> None:
    found = weigh(crossing(0, 15_300), crossing(4, 15_380), crossing(30, 48_920))
    assert pairs(found) == [("out", 48_920, 15_380)]
    assert found.of("weighing.recorded")[0].emit.cause.count("#") == 3


def test_a_repeat_of_a_gross_whose_slip_is_out_changes_nothing() -> None:
    found = weigh(crossing(0, 15_300), crossing(30, 48_920), crossing(33, 48_940), registered=(), after=2 * DAY)
    assert pairs(found) == [("out", 48_920, 15_300)]
    assert codes(found) == []


def test_a_tare_after_the_unloading_repeats_no_tare_before_the_loading() -> None:
    """A shuttle that is empty again within ten minutes: its gross lies between, so this is a new round."""
    found = weigh(crossing(0, 15_300), crossing(3, 48_920), crossing(7, 15_310), crossing(11, 48_100))
    assert pairs(found) == [("out", 48_920, 15_300), ("out", 48_100, 15_310)]


def test_another_plate_and_another_site_do_not_pair() -> None:
    found = weigh(crossing(0, 15_300), crossing(10, 48_000, plate="宁A00001"), crossing(20, 48_100, site="p01"))
    assert pairs(found) == []


def test_less_than_the_least_net_mass_is_no_ticket() -> None:
    assert pairs(weigh(crossing(0, 1_500), crossing(30, 1_999))) == []
    assert pairs(weigh(crossing(0, 1_500), crossing(30, 2_000))) == [("out", 2_000, 1_500)]


def test_two_laden_crossings_are_no_ticket() -> None:
    """The tare between them was lost: 1,800 kg are a tenth of nothing."""
    assert pairs(weigh(crossing(0, 48_900), crossing(30, 47_100))) == []
    assert pairs(weigh(crossing(0, 45_000), crossing(30, 50_000))) == [("out", 50_000, 45_000)]


def test_a_gross_scale_that_was_off_line_gets_the_tickets_it_would_have_got() -> None:
    """Three trips; the gross scale sends its buffer after the last: each gross finds its own tare."""
    trips = [(0, 15_300, 30, 48_900), (60, 15_320, 95, 47_100), (120, 15_310, 150, 49_700)]
    late = weigh(*(c for t, kg, g, gross in trips for c in (crossing(t, kg), crossing(g, gross, late=200 - g + g / 100))))
    live = weigh(*(c for t, kg, g, gross in trips for c in (crossing(t, kg), crossing(g, gross))))
    assert sorted(e.id for e in late.emitted) == sorted(e.id for e in live.emitted)
    assert pairs(live) == [("out", 48_900, 15_300), ("out", 47_100, 15_320), ("out", 49_700, 15_310)]


def test_a_tare_scale_that_was_off_line_pairs_with_the_gross_after_it() -> None:
    found = weigh(crossing(0, 15_300, late=100), crossing(30, 48_900), crossing(60, 15_320, late=101), crossing(95, 47_100))
    assert pairs(found) == [("out", 48_900, 15_300), ("out", 47_100, 15_320)]


def test_the_nearest_tare_before_the_gross_is_its_own() -> None:
    """Empty twice, the first time without loading: the second tare is the load's, the first goes on waiting."""
    found = weigh(crossing(0, 15_300), crossing(60, 15_340), crossing(90, 48_900), after=DAY)
    assert pairs(found) == [("out", 48_900, 15_340)]
    assert codes(found) == ["tare-missing"]


def test_the_registered_tare_serves_after_the_time_out_where_it_may() -> None:
    vehicle = VehicleRegistered(plate=PLATE, kind="combination", axles=6, tare_kg=15_000, tare_usable=True)
    found = weigh(crossing(0, 48_000, late=30), registered=(vehicle,), after=DAY)
    (ticket,) = found.of("weighing.recorded")
    assert ticket.emit.data["tare_source"] == "register"
    assert "tare_time" not in ticket.emit.data
    assert ticket.emit.data["net_kg"] == 33_000
    assert ticket.emit.at == ticket.emit.known_at == BASE + 30 * MINUTE + DAY
    assert weigh(crossing(0, 48_000), registered=(vehicle,), after=DAY - 1).emitted == []


def test_without_a_usable_tare_a_warning_names_the_rule_version() -> None:
    rule = RulePublished(rule="tickets", version=7, parameters={"timeout_s": "3600"})
    found = weigh(crossing(0, 48_000), registered=(rule,), after=HOUR)
    (warning,) = found.data("warning.raised")
    assert (warning["code"], warning["subject"], warning["rule_version"]) == ("tare-missing", PLATE, 7)


def test_an_empty_crossing_that_never_met_its_gross() -> None:
    vehicle = VehicleRegistered(plate=PLATE, kind="combination", axles=6, tare_kg=15_000, tare_usable=True)
    assert codes(weigh(crossing(0, 15_100), registered=(vehicle,), after=DAY)) == ["gross-missing"]


def test_a_year_loaded_at_once_times_nothing_out_early_and_stays_bounded() -> None:
    """Back-fill: 40 lone crossings days apart arrive within a second; the oldest give way, none is lost."""
    lone = [crossing(n * 3 * 1440, 48_000 + n, late=(400 - n * 3) * 1440) for n in range(40)]
    early = weigh(*lone)
    assert len(early.state["tickets", "waiting"][f"{PLATE}\x1fm01"].open) == 16
    assert len(codes(early)) == 24
    assert len(codes(weigh(*lone, after=DAY))) == 40


def test_a_broken_rule_parameter_leaves_the_default() -> None:
    rule = RulePublished(rule="tickets", version=2, parameters={"min_net_kg": "lots", "colour": "1"})
    assert pairs(weigh(crossing(0, 1_500), crossing(30, 1_999), registered=(rule,))) == []


@given(
    st.lists(st.tuples(st.integers(11, 90), st.integers(11, 90), st.integers(0, 4_000)), min_size=1, max_size=8),
    st.sampled_from(["tare", "gross"]),
    st.sampled_from(["in", "out"]),
    st.integers(0, 900),
)
@settings(max_examples=150, deadline=None)
def test_a_scale_off_line_for_any_time_changes_no_ticket(
    trips: list[tuple[int, int, int]], off_line: str, direction: str, minutes: int
) -> None:
    """Its crossings come later, in its own order; each gross still finds its own tare, and only ``at`` differs."""

    def tickets(late: int) -> set[tuple[str, str, int]]:
        clock, crossings = 0, []
        for first, second, extra in trips:
            clock += first
            kinds = ("tare", "gross") if direction == "out" else ("gross", "tare")
            for kind in kinds:
                mass = 15_000 + extra % 90 if kind == "tare" else 44_000 + extra
                crossings.append(crossing(clock, mass, late=late if kind == off_line else 0))
                clock += second if kind == kinds[0] else 0
        found = weigh(*crossings)
        assert codes(found) == []
        return {(e.id, e.emit.data["direction"], e.emit.data["net_kg"]) for e in found.of("weighing.recorded")}

    live = tickets(0)
    assert len(live) == len(trips)
    assert tickets(minutes) == live


def test_two_waybills_are_two_loads() -> None:
    """The second slip of a load that was weighed twice stays open; the next, heavier load is no gross over it."""
    found = weigh(
        crossing(0, 47_520, waybill="W1"), crossing(20, 47_480, waybill="W1"), crossing(30, 16_100),
        crossing(150, 57_180, waybill="W2"), crossing(165, 16_360),
    )  # fmt: skip
    assert pairs(found) == [("in", 47_480, 16_100), ("in", 57_180, 16_360)]


def test_a_lost_crossing_shifts_no_later_pair_of_who_brings_coal() -> None:
    """The first gross is missing: without more, each load would be paired with the tare of the one before, as if it left."""
    site = SiteRegistered(site="p01", enterprise="p01", name="电厂", division="150303", kind="power", use="power")
    lost = [crossing(10, 16_000, site="p01")]
    later = [crossing(m, kg, site="p01") for m, kg in ((120, 47_000), (130, 16_050), (240, 48_000), (250, 15_950))]
    right = [("in", 47_000, 16_050), ("in", 48_000, 15_950)]
    assert pairs(weigh(*lost, *later, registered=(site,))) == right
    elsewhere = [crossing(m, kg, origin="150302") for m, kg in ((120, 47_000), (240, 48_000))]
    tares = [crossing(m, kg) for m, kg in ((10, 16_000), (130, 16_050), (250, 15_950))]
    assert pairs(weigh(*elsewhere, *tares)) == right
    assert [d for d, _, _ in pairs(weigh(*lost, *later))] == ["out", "out"], "where nothing says otherwise, nearest before"


def test_a_load_for_elsewhere_was_empty_before() -> None:
    found = weigh(crossing(0, 48_000, destination="150302"), crossing(20, 16_000), crossing(50, 47_000, destination="150302"))
    assert pairs(found) == [("out", 47_000, 16_000)]
    transit = weigh(crossing(0, 48_000, origin="150302", destination="640205"), crossing(20, 16_000))
    assert pairs(transit) == [("in", 48_000, 16_000)]
