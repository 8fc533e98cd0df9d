"""Book stock against a plain recomputation."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given, settings

from hengliu.events.envelope import iso_ms
from streams.operators import stock
from streams.operators.stock import Stock
from tests.operators.laws import Input, Run, in_receive_order, run
from tests.operators.strategies import BASE, DAY, HOUR, MINUTE, STOCK_REFERENCE, stock_inputs


def ticket(minute: float, kg: int, received: float | None = None, commodity: str = "raw") -> Input:
    """Positive: came in; negative: went out."""
    at = BASE + int((minute if received is None else received) * MINUTE)
    data = {
        "direction": "in" if kg > 0 else "out", "net_kg": abs(kg), "commodity": commodity,
        "gross_time": iso_ms(BASE + int(minute * MINUTE)),
    }  # fmt: skip
    return Input("weighing.recorded", at, at, data, "/streams/tickets", f"t{minute}")


def survey(minute: float, kg: int, received: float | None = None, site: str = "m01") -> Input:
    at = BASE + int((minute if received is None else received) * MINUTE)
    data = {"site": site, "commodity": "raw", "mass_kg": kg}
    return Input("stock.surveyed", at, BASE + int(minute * MINUTE), data, "urn:x:yard", f"s{minute}-{received}")


def belt(minute: float, total: int, name: str = "b1", received: float | None = None) -> Input:
    at = BASE + int((minute if received is None else received) * MINUTE)
    data = {"belt": name, "total_kg": total}
    return Input("belt.metered", at, BASE + int(minute * MINUTE), data, f"urn:x:{name}", f"b{minute}")


def booked(*inputs: Input) -> Run:
    ordered = in_receive_order(inputs)
    return run((Stock(),), ordered, ordered[-1].received, STOCK_REFERENCE)


def at_minute(found: Run, minute: float) -> int:
    until = BASE + int(minute * MINUTE)
    return sum(e.emit.data["delta_kg"] for e in found.of("stock.moved") if e.emit.time <= until)


def moves(found: Run) -> list[tuple[str, int]]:
    return [(d["reason"], d["delta_kg"]) for d in found.data("stock.moved")]


def test_tickets_move_and_a_survey_sets() -> None:
    found = booked(ticket(0, 30_000), ticket(10, -20_000), survey(20, 12_000), ticket(30, -1_000))
    assert moves(found) == [("received", 30_000), ("dispatched", -20_000), ("survey", 2_000), ("dispatched", -1_000)]
    assert at_minute(found, 30) == 11_000


def test_a_late_ticket_from_before_the_survey_changes_history_not_the_present() -> None:
    found = booked(survey(20, 12_000), ticket(30, -1_000), ticket(10, -5_000, received=40))
    assert at_minute(found, 15) == -5_000
    assert at_minute(found, 20) == 12_000
    assert at_minute(found, 30) == 11_000
    late, taken_out = found.of("stock.moved")[-2:]
    assert (late.emit.data["reason"], taken_out.emit.data["reason"]) == ("dispatched", "survey")
    assert taken_out.emit.corrects == found.of("stock.moved")[0].id


def test_a_late_survey_is_placed_among_what_moved() -> None:
    found = booked(ticket(0, 30_000), ticket(30, -10_000), survey(20, 50_000, received=60))
    assert (at_minute(found, 10), at_minute(found, 20), at_minute(found, 30)) == (30_000, 50_000, 40_000)


def test_a_survey_between_two_known_ones_keeps_the_later_one_true() -> None:
    found = booked(survey(0, 10_000), survey(60, 30_000), survey(30, 20_000, received=90))
    assert (at_minute(found, 10), at_minute(found, 45), at_minute(found, 60)) == (10_000, 20_000, 30_000)


def test_what_moved_at_the_very_time_of_a_survey_was_seen_by_it() -> None:
    found = booked(ticket(20, 5_000, received=5), survey(20, 12_000), ticket(20, 3_000, received=30), survey(40, 12_000))
    assert (at_minute(found, 20), at_minute(found, 40)) == (12_000, 12_000)
    assert moves(found)[-1] == ("survey", 0)


def test_belts_move_by_role_and_a_reset_counts_from_zero() -> None:
    found = booked(
        belt(0, 100_000), belt(1, 101_000), belt(2, 500), belt(3, 900), belt(4, 1_300),
        belt(0, 7_000, "b2"), belt(4, 7_600, "b2"), belt(0, 1, "b3"), belt(4, 9_000, "b3"),
    )  # fmt: skip
    assert sum(kg for reason, kg in moves(found) if reason == "produced") == 1_000 + 500 + 400 + 400
    assert sum(kg for reason, kg in moves(found) if reason == "consumed") == -600
    assert [w["code"] for w in found.data("warning.raised")] == ["totaliser-reset"]


def test_a_survey_of_another_site_sets_nothing() -> None:
    found = booked(survey(0, 10_000, site="p01"))
    assert moves(found) == []
    assert [w["code"] for w in found.data("warning.raised")] == ["survey-outside-scope"]


def test_days_beyond_the_horizon_fold_and_what_cannot_be_placed_is_said() -> None:
    days = stock.DAYS_KEPT + 8
    moved = [ticket(n * 1_440, 1_000) for n in range(days)]
    end = days * 1_440.0
    found = booked(
        *moved, survey(10.5, 5, received=end), ticket(1, -300, received=end + 1), survey(end - 2 * 1440, 7, received=end + 2)
    )
    assert [w["code"] for w in found.data("warning.raised")] == ["late-beyond-horizon"]
    assert at_minute(found, end - 2 * 1440) == 7
    assert at_minute(found, end) == 7 + 1_000
    assert len(found.state["stock", "days"]) <= stock.DAYS_KEPT


def expected(inputs: Sequence[Input], until: int) -> Mapping[str, int]:
    """The book at ``until`` from tickets and surveys alone, by its definition."""
    surveys: dict[str, tuple[int, int, int]] = {}
    for n, i in enumerate(inputs):
        if i.type == "stock.surveyed" and i.time <= until and i.data["site"] == "m01":
            commodity = i.data["commodity"]
            surveys[commodity] = max(surveys.get(commodity, (-(2**62), 0, 0)), (i.time, n, i.data["mass_kg"]))
    book: dict[str, int] = defaultdict(int, {c: kg for c, (_, _, kg) in surveys.items()})
    for i in inputs:
        if i.type == "weighing.recorded":
            time = next(t for t in (i.received - d for d in _DELAYS) if iso_ms(t) == i.data["gross_time"])
            since = surveys.get(i.data["commodity"], (-(2**62), 0, 0))[0]
            if since < time <= until:
                book[i.data["commodity"]] += i.data["net_kg"] if i.data["direction"] == "in" else -i.data["net_kg"]
    return book


_DELAYS = (0, HOUR, 30 * HOUR, 10 * DAY, -2 * DAY)


@given(stock_inputs())
@settings(max_examples=150, deadline=None)
def test_the_book_is_its_definition_at_every_time(inputs: list[Input]) -> None:
    inputs = [i for i in inputs if i.type != "belt.metered"]
    found = run((Stock(),), inputs, inputs[-1].received if inputs else BASE, STOCK_REFERENCE).of("stock.moved")
    for until in {e.emit.time for e in found} | {BASE + 100 * DAY}:
        book: dict[str, Any] = defaultdict(int)
        for e in found:
            if e.emit.time <= until:
                book[e.emit.data["commodity"]] += e.emit.data["delta_kg"]
        want = expected(inputs, until)
        assert {c: kg for c, kg in book.items() if kg} == {c: kg for c, kg in want.items() if kg}
    moved = sum(e.emit.data["delta_kg"] for e in found if e.emit.data["reason"] != "survey")
    tickets = [i for i in inputs if i.type == "weighing.recorded"]
    assert moved == sum(i.data["net_kg"] * (1 if i.data["direction"] == "in" else -1) for i in tickets)
