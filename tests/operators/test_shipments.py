"""Legs and shipments, case by case: what a dispatcher of the coal bureau would say of each load."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from hengliu.events.families.registry import RulePublished
from hengliu.events.family import EventData
from streams.operators.legs import Legs
from streams.operators.shipments import Shipments
from tests.operators.journey_strategies import CITY, MINE, OTHER, PLANT, PLATE, YARD, journeys, stranded, ticket
from tests.operators.laws import Input, Run, in_receive_order, run
from tests.operators.strategies import BASE, HOUR


def ship(*tickets: Input, after: float = 0, registered: Sequence[EventData] = CITY) -> Run:
    """Both operators; the legs of every plate are carried to the shipments as the topic would."""
    inputs = in_receive_order(tickets)
    return run((Legs(), Shipments()), inputs, inputs[-1].received + int(after * HOUR), registered)


def warned(found: Run) -> list[tuple[str, str]]:
    return [(e.emit.type.split(".")[1], e.emit.data["code"]) for e in found.emitted if e.emit.type.startswith("warning.")]


def met(found: Run) -> list[tuple[str, str]]:
    return [(d["shipment"], d["stage"]) for d in found.data("shipment.weighed")]


def only(found: Run) -> dict[str, Any]:
    (one,) = found.data("warning.raised")
    return dict(one)


# ---- which shipment a ticket belongs to


def test_both_ends_of_a_waybill_are_one_shipment() -> None:
    found = ship(ticket("out", 0, 33_620, waybill="W1", destination="150302"), ticket("in", 2, 33_560, waybill="W1"))
    assert met(found) == [("W1", "loaded"), ("W1", "unloaded")]
    assert warned(found) == []
    loaded, unloaded = found.of("shipment.weighed")
    assert loaded.emit.data == {
        "enterprise": "m01", "site": "m01", "division": "150303", "shipment": "W1", "stage": "loaded", "plate": PLATE,
        "ticket": "out-m01-0-5", "gross_kg": 48_620, "gross_time": "2026-03-01T02:00:00.000Z", "waybill": "W1",
        "net_kg": 33_620, "tare_source": "measured", "commodity": "raw", "destination": "150302",
    }  # fmt: skip
    assert (unloaded.emit.cause, unloaded.emit.scope) == ("in-p01-2-5", ("p01", "p01", "150302"))


@pytest.mark.parametrize("loaded", [{}, {"waybill": "W1"}])
@pytest.mark.parametrize("unloaded", [{}, {"waybill": "W1"}])
@pytest.mark.parametrize("loaded_late", [0, 5])
def test_where_an_end_names_no_waybill_they_meet_by_plate_in_either_order(
    loaded: dict[str, Any], unloaded: dict[str, Any], loaded_late: int
) -> None:
    """The short load is noticed in each case, so the two ends did meet."""
    found = ship(ticket("out", 0, 33_620, loaded_late, **loaded), ticket("in", 2, 30_000, **unloaded), after=40)
    assert warned(found) == [("raised", "shipment-quantity")]
    shipment = loaded.get("waybill", "ticket:out-m01-0-5")
    assert met(found).count((shipment, "loaded")) == 1
    assert met(found).count((shipment, "unloaded")) == 1


def test_an_unloading_belongs_to_the_last_loading_before_it() -> None:
    found = ship(ticket("out", 0, 33_000), ticket("in", 2, 33_000), ticket("out", 4, 31_000), ticket("in", 6, 31_000), after=1)
    first, second = "ticket:out-m01-0-5", "ticket:out-m01-4-5"
    assert met(found) == [(first, "loaded"), (first, "unloaded"), (second, "loaded"), (second, "unloaded")]


def test_a_loading_after_an_unloading_is_no_origin_of_it() -> None:
    found = ship(ticket("in", 0, 30_000), ticket("out", 1, 33_000), after=1)
    assert met(found) == [("ticket:out-m01-1-5", "loaded")]


def test_a_plant_that_loads_its_own_product_after_unloading_starts_another_shipment() -> None:
    """In and out at one site within minutes: the later loading is not the origin of the earlier unloading."""
    found = ship(ticket("in", 0, 33_000, at=PLANT), ticket("out", 0.5, 30_000, at=PLANT, commodity="coke"), after=1)
    assert met(found) == [("ticket:out-p01-0.5-5", "loaded")]
    assert warned(found) == []


@pytest.mark.parametrize(
    ("loaded", "unloaded"),
    [({"waybill": "W1"}, {"waybill": "W2"}), ({"destination": "150304"}, {}), ({}, {"origin": "150304"}), ({}, {"at": MINE})],
    ids=["two waybills", "another destination", "another origin", "the same site"],
)
def test_what_says_that_two_cannot_belong_together_is_believed(loaded: dict[str, Any], unloaded: dict[str, Any]) -> None:
    found = ship(ticket("out", 0, 33_620, **loaded), ticket("in", 2, 20_000, **unloaded), after=1)
    assert warned(found) == []


@pytest.mark.parametrize("named", ["150302", "150300", "150000"])
def test_a_city_or_a_province_as_the_destination_holds_its_districts(named: str) -> None:
    found = ship(ticket("out", 0, 33_620, destination=named), ticket("in", 2, 20_000, origin=named[:3] + "000"), after=1)
    assert warned(found) == [("raised", "shipment-quantity")]


def test_enterprises_that_number_their_waybills_alike_are_told_apart_by_plate_and_place() -> None:
    found = ship(
        ticket("out", 0, 33_000, waybill="1", destination="150302"),
        ticket("out", 0.1, 25_000, waybill="1", destination="150302", plate=OTHER, at=YARD),
        ticket("in", 2, 33_000, waybill="1"),
        ticket("in", 2.1, 25_000, waybill="1", plate=OTHER),
        after=100,
    )
    assert warned(found) == []


def test_what_comes_from_or_goes_outside_waits_for_nobody() -> None:
    found = ship(ticket("out", 0, 33_000, destination="640205"), ticket("in", 2, 20_000, origin="640205"), after=0.1)
    assert warned(found) == []
    assert not found.state["legs", "legs"]


# ---- quantity


@pytest.mark.parametrize(
    ("net", "severity"), [(33_000, None), (32_670, None), (33_330, None), (32_669, "medium"), (33_331, "medium"),
                          (31_350, "medium"), (31_349, "high"), (34_651, "high")]
)  # fmt: skip
def test_a_hundredth_may_be_lost_or_won_and_a_twentieth_is_serious(net: int, severity: str | None) -> None:
    found = ship(ticket("out", 0, 33_000, waybill="W1"), ticket("in", 2, net, waybill="W1"))
    assert [w["severity"] for w in found.data("warning.raised")] == ([severity] if severity else [])


def test_a_small_load_may_differ_by_what_two_scales_may() -> None:
    assert warned(ship(ticket("out", 0, 12_000, waybill="W1"), ticket("in", 2, 11_700, waybill="W1"))) == []
    assert warned(ship(ticket("out", 0, 12_000, waybill="W1"), ticket("in", 2, 11_699, waybill="W1"))) != []


def test_a_registered_tare_is_allowed_its_fuel_and_mud() -> None:
    def net(kg: int) -> Run:
        return ship(ticket("out", 0, 12_000, waybill="W1"), ticket("in", 2, kg, waybill="W1", tare_source="register"))

    assert warned(net(11_300)) == []
    assert warned(net(11_299)) == [("raised", "shipment-quantity")]


def test_a_quantity_warning_says_both_masses_and_names_both_tickets() -> None:
    found = ship(ticket("out", 0, 33_000, waybill="W1"), ticket("in", 2, 31_000, waybill="W1"))
    (raised,) = found.of("warning.raised")
    assert raised.emit.data["parameters"] == {
        "shipment": "W1", "from": "m01", "to": "p01", "loaded_kg": "33000", "unloaded_kg": "31000", "short_kg": "2000",
        "tolerance_kg": "330",
    }  # fmt: skip
    assert raised.emit.cause == ",".join(e.emit.data["ticket"] for e in found.of("shipment.weighed"))
    assert (raised.emit.data["subject"], raised.emit.scope) == (PLATE, ("m01", "m01", "150303"))
    assert raised.emit.data["since"] == "2026-03-01T04:00:00.000Z"
    won = only(ship(ticket("out", 0, 33_000, waybill="W1"), ticket("in", 2, 35_000, waybill="W1")))
    assert (won["parameters"]["over_kg"], "short_kg" in won["parameters"]) == ("2000", False)


def test_a_comparison_is_known_when_the_later_known_of_its_ends_is() -> None:
    def known(one: Input, at: int) -> Input:
        return Input(one.type, one.received, one.time, one.data, one.source, one.id, one.key, one.scope, at)

    loaded = ticket("out", 0, 33_000, late=1, waybill="W1")
    for plate in (PLATE, OTHER):
        unloaded = known(ticket("in", 2, 31_000, waybill="W1", plate=plate), BASE + 1)
        for raised in ship(loaded, unloaded).of("warning.raised"):
            assert (raised.emit.known_at, raised.emit.at) == (BASE + HOUR, BASE + 2 * HOUR)


# ---- commodity and plate


def test_another_commodity_at_the_other_end() -> None:
    found = ship(ticket("out", 0, 33_000, waybill="W1", commodity="cleaned"), ticket("in", 2, 33_000, waybill="W1"))
    assert (only(found)["code"], only(found)["parameters"]["loaded"], only(found)["parameters"]["unloaded"]) == (
        "shipment-commodity", "cleaned", "raw",
    )  # fmt: skip


def test_a_scale_that_does_not_say_what_it_weighed_contradicts_nobody() -> None:
    found = ship(
        ticket("out", 0, 33_000, waybill="W1", commodity="cleaned"),
        ticket("in", 2, 33_000, waybill="W1", commodity_assumed=True),
    )
    assert warned(found) == []


def test_another_truck_unloads_what_this_one_loaded() -> None:
    found = ship(ticket("out", 0, 33_000, waybill="W1"), ticket("in", 2, 33_000, waybill="W1", plate=OTHER), after=40)
    one = only(found)
    assert (one["code"], one["severity"], one["subject"]) == ("shipment-plate", "high", PLATE)
    assert one["parameters"]["unloaded_plate"] == OTHER


# ---- on the way


def test_a_truck_may_take_as_long_as_the_way_and_a_queue_explain() -> None:
    """28 km as the crow flies: 1 h 25 min at 20 km/h, and four hours."""
    assert warned(ship(ticket("out", 0, 33_000, waybill="W1"), ticket("in", 5.41, 33_000, waybill="W1"))) == []
    found = ship(ticket("out", 0, 33_000, waybill="W1"), ticket("in", 5.43, 33_000, waybill="W1"))
    one = only(found)
    assert (one["code"], one["severity"]) == ("shipment-late", "low")
    assert int(one["parameters"]["distance_m"]) == pytest.approx(28_440, abs=60)
    twice = only(ship(ticket("out", 0, 33_000, waybill="W1"), ticket("in", 13, 33_000, waybill="W1")))
    assert twice["severity"] == "medium"


def test_where_the_distance_is_not_known_the_limit_is_half_a_day() -> None:
    def yard(hour: float) -> list[tuple[str, str]]:
        return warned(ship(ticket("out", 0, 33_000, waybill="W1"), ticket("in", hour, 33_000, waybill="W1", at=YARD)))

    assert yard(12) == []
    assert yard(12.01) == [("raised", "shipment-late")]


def test_a_load_that_never_arrives_is_missing_by_the_recorded_clock() -> None:
    load = ticket("out", 0, 33_000, late=10, waybill="W1", destination="150302")
    assert warned(ship(load, after=35.99)) == []
    found = ship(load, after=36)
    one = only(found)
    assert (one["code"], one["severity"], one["subject"], one["rule_version"]) == ("shipment-missing", "high", PLATE, 1)
    assert one["parameters"] == {
        "shipment": "W1", "from": "m01", "net_kg": "33000", "loaded_at": "2026-03-01T02:00:00.000Z", "destination": "150302",
        "limit_s": "129600",
    }  # fmt: skip
    (raised,) = found.of("warning.raised")
    assert raised.emit.at == raised.emit.known_at == BASE + 46 * HOUR


def test_a_load_for_the_whole_city_is_missing_like_one_for_a_district() -> None:
    assert warned(ship(ticket("out", 0, 33_000, destination="150300"), after=36)) == [("raised", "shipment-missing")]


@pytest.mark.parametrize(
    "destination", ["640205", "150999", "150000", "640200", None],
    ids=["outside", "unknown", "the province", "another city", "none"],
)  # fmt: skip
def test_a_load_that_is_not_for_the_city_is_never_missing(destination: str | None) -> None:
    more: dict[str, Any] = {"destination": destination} if destination else {}
    assert warned(ship(ticket("out", 0, 33_000, waybill="W1", **more), after=200)) == []


def test_a_missing_load_that_turns_up_clears_its_warning_and_is_late() -> None:
    found = ship(
        ticket("out", 0, 33_000, waybill="W1", destination="150302"), ticket("in", 40, 33_000, waybill="W1"), after=200
    )
    assert warned(found) == [("raised", "shipment-missing"), ("cleared", "shipment-missing"), ("raised", "shipment-late")]
    raised, cleared = found.of("warning.raised")[0], found.of("warning.cleared")[0]
    assert raised.emit.data["warning"] == cleared.emit.data["warning"]
    assert cleared.emit.cause == "out-m01-0-5,in-p01-40-5"
    assert not any(found.state.values()), "nothing is held of a load that is done"


def test_a_truck_that_broke_down_while_unloading_is_not_missing() -> None:
    """Laden on the scale, then towed away past it: tickets says so a day later, and only then."""
    found = ship(ticket("out", 0, 33_000, waybill="W1", destination="150302"), stranded(3), after=200)
    assert met(found) == [("W1", "loaded"), ("W1", "arrived")]
    assert warned(found) == []


def test_a_load_weighed_twice_clears_no_older_load_that_is_missing() -> None:
    """The first of the two weighings is left over, and named by its waybill: it says nothing of the load before."""
    lost = ticket("out", 0, 33_000, waybill="W1", destination="150302")
    found = ship(
        lost, ticket("out", 20, 33_000, waybill="W2", destination="150302"), ticket("in", 22, 33_000, waybill="W2"),
        stranded(21.5, waybill="W2"), after=60,
    )  # fmt: skip
    assert warned(found) == [("raised", "shipment-missing")]
    assert only(found)["parameters"]["shipment"] == "W1"


def test_loading_old_files_times_nothing_out() -> None:
    """A year of tickets received in a minute, the unloadings of all trips after all loadings."""

    def received(one: Input, at: int) -> Input:
        return Input(one.type, BASE + at, one.time, one.data, one.source, one.id, one.key, one.scope)

    trips = range(-8760, 0, 6)
    out = [ticket("out", h, 33_000, waybill=f"W{-h}", destination="150302") for h in trips]
    in_ = [ticket("in", h + 2, 33_000, waybill=f"W{-h}") for h in trips]
    found = ship(*(received(t, n) for n, t in enumerate([*out, *in_])))
    assert warned(found) == []
    assert len(found.data("shipment.weighed")) == 2 * len(trips)


def test_what_is_held_of_a_truck_and_of_a_shipment_is_bounded() -> None:
    """Thirty loads that nobody unloads, all under one waybill."""
    loads = [ticket("out", h, 33_000, waybill="yd0000001", destination="150302", origin="150303") for h in range(30)]
    state = ship(*loads).state
    (legs,), (pairs,) = state["legs", "legs"].values(), state["shipments", "pairs"].values()
    assert (len(legs.left), len(pairs.left)) == (8, 4)
    assert len(msgspec.msgpack.encode(legs)) < 3_000
    assert len(msgspec.msgpack.encode(pairs)) < 1_500
    assert not state["shipments", "missing"]


# ---- the rule


def test_a_published_version_judges_and_is_named_and_a_retired_one_is_silent() -> None:
    load, unload = ticket("out", 0, 33_000, waybill="W1", destination="150302"), ticket("in", 2, 32_000, waybill="W1")
    strict = RulePublished(rule="shipment", version=4, parameters={"tolerance_percent": "4.5", "missing_after_s": "3600"})
    assert warned(ship(load, unload, registered=[*CITY, strict])) == [
        ("raised", "shipment-missing"),
        ("cleared", "shipment-missing"),
    ]
    retired = RulePublished(rule="shipment", version=5, parameters={}, status="retired")
    found = ship(
        load, unload, ticket("out", 3, 33_000, waybill="W2", destination="150302"), after=200, registered=[*CITY, retired]
    )
    assert warned(found) == []
    assert ("W1", "unloaded") in met(found)
    named = ship(load, after=2, registered=[*CITY, strict])
    assert only(named)["rule_version"] == 4


# ---- laws


@given(journeys())
@settings(max_examples=120, deadline=None)
def test_nothing_is_held_for_ever_and_every_warning_has_one_life(inputs: list[Input]) -> None:
    found = run((Legs(), Shipments()), inputs, (inputs[-1].received if inputs else BASE) + 100 * HOUR, CITY)
    assert not any(found.state.values())
    raised = [w["warning"] for w in found.data("warning.raised")]
    assert len(set(raised)) == len(raised)
    cleared = [w["warning"] for w in found.data("warning.cleared")]
    assert len(set(cleared)) == len(cleared)
    assert set(cleared) <= set(raised)
    pairs = [w.emit.cause for w in found.of("warning.raised") if w.emit.data["code"] == "shipment-quantity"]
    assert len(set(pairs)) == len(pairs), "one end is compared once"


@given(journeys())
@settings(max_examples=60, deadline=None)
def test_every_ticket_with_a_waybill_stands_under_it(inputs: list[Input]) -> None:
    found = run((Legs(),), inputs, (inputs[-1].received if inputs else BASE) + HOUR, CITY)
    under = {(d["shipment"], d["ticket"]) for d in found.data("shipment.weighed")}
    for one in inputs:
        if one.type == "weighing.recorded" and one.data["direction"] == "out":
            assert (one.data.get("waybill", f"ticket:{one.id}"), one.id) in under
