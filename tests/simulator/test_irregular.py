"""Planted fraud and its honest doubles: all of it happens, none breaks the city, and the ledger still says what is shown."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest

from simulator.almanac import DAY_MS, HOUR_MS, MINUTE_MS
from simulator.city import City, registry
from simulator.irregular import CONFUSED, PROFILES, Irregularities
from simulator.wire import Sent
from simulator.world import World
from streams.operators.overload import Overload
from streams.operators.plate_match import PlateMatch
from streams.operators.plates import PlateMatchPolicy
from streams.operators.supply import SupplyCut
from streams.operators.tickets import Tickets
from tests.simulator.recount import Desk, parse_time
from tests.simulator.test_operators_agree import Row, reference_of, run_operators
from tests.simulator.test_world import SMALL, START, balanced

DAYS = 6
EVERYTHING = replace(PROFILES["all"], rush_per_day=1, stop_per_day=0.5, market_move_per_day=0.5)
CODES = {
    "plate-mismatch", "repeated-weighing", "tare-drift", "weight-curve-step", "idle-not-zero", "scale-not-calibrated",
    "shipment-quantity", "shipment-commodity", "shipment-plate", "shipment-late", "shipment-missing", "position-contradiction",
    "sales-abnormal", "price-abnormal", "supply-cut", "series-anomaly",
}  # fmt: skip
"""What the city plants; each has a double, but for those that nothing honest resembles."""


@cache
def run(seed: int = 3) -> tuple[World, tuple[Sent, ...]]:
    world = World(City(seed, SMALL, EVERYTHING), START)
    sent: list[Sent] = []
    for hour in range(1, DAYS * 24 + 1):
        sent += world.advance(START + hour * HOUR_MS)
        if hour % 8 == 0:
            balanced(world.truth())
    return world, tuple(sent)


def test_every_code_is_planted_and_most_have_a_double_that_must_not_warn() -> None:
    planted = run()[0].ledger.planted
    assert {p.code for p in planted if p.code} == CODES
    assert {p.near for p in planted if p.near} == CODES - {
        "shipment-missing", "series-anomaly",
    }  # fmt: skip
    for p in planted:
        assert p.start <= p.end
        assert not (p.code and p.near)
        assert p.code in p.finding
        assert p.near in p.finding


def test_mass_is_conserved_and_the_families_take_what_is_sent() -> None:
    world, sent = run()
    balanced(world.truth())
    assert min(min(w.stock.values()) for w in world.works.values()) >= 0
    some = sent[: len(sent) // 4]
    assert Desk().answer_all(some) == [s.expect for s in some]


def test_the_same_bytes_however_the_run_is_cut() -> None:
    _, whole = run()
    other = World(City(3, SMALL, EVERYTHING), START)
    parts = [s for day in range(1, DAYS + 1) for s in other.advance(START + day * DAY_MS)]
    assert parts == list(whole)


def test_an_ordinary_city_has_none_of_it() -> None:
    assert not PROFILES["none"].any
    assert not Irregularities().any
    assert all(p.any for name, p in PROFILES.items() if name != "none")
    world = World(City(3, SMALL), START)
    for s in world.advance(START + 30 * HOUR_MS):
        assert b"curve_kg" not in s.body
    assert not [p for p in world.ledger.planted if p.code or p.near]
    assert not world.registrations


def test_the_ledgers_tickets_are_those_that_are_shown() -> None:
    """Under another plate, another commodity, weighed twice: the tickets are what the scales said."""
    world, sent = run()
    until = START + DAYS * DAY_MS
    desk, rows = Desk(), list[Row]()
    scope_of = {d["source"]: d["site"] for t, d in registry(world.city) if t == "device.registered"}
    for n, s in enumerate(sent):
        if s.type == "weighing.measured" and desk.answer(s.body) == "accepted":
            site = world.city.sites[scope_of[desk.accepted[-1]["source"]]]
            rows.append((s.type, s.at, "", s.body, (site.id, site.id, site.division), f"c/0/{n}"))
    reference = reference_of(world.city)
    found = run_operators((Tickets(), Overload()), rows, reference, until)
    names = ("site", "plate", "direction", "gross_kg", "tare_kg", "commodity", "waybill")
    ledger = world.ledger.as_of(until)
    mine = Counter((*(getattr(t, n) for n in names), t.gross_time) for t in ledger.tickets)
    theirs = Counter((*(d[n] for n in names), parse_time(d["gross_time"])) for _, d in found["weighing.recorded"])
    assert theirs == mine
    late = {t.plate for t in ledger.time_outs}
    assert late & {p.subject for p in world.ledger.planted if p.kind == "reweighed"}


def test_what_is_planted_is_there() -> None:
    world, sent = run()
    events = [(s.type, json.loads(s.body)["data"]) for s in sent if s.expect == "accepted"]
    captured = {d["plate"] for t, d in events if t == "plate.captured"}
    weighed = {d["plate"] for t, d in events if t == "weighing.measured"}
    own = {t.plate for t in world.city.trucks}
    for p in world.ledger.planted:
        if p.kind == "cloned":
            assert p.parameters["seen"] in captured - own - weighed
        if p.kind == "slip":
            read = p.parameters["read"]
            wrong = [(a, b) for a, b in zip(p.subject, read, strict=True) if a != b]
            assert len(wrong) == 1
            assert CONFUSED[wrong[0][0]] == wrong[0][1]
        if p.kind == "unplugged" and p.end < world.start_ms + (DAYS - 1) * DAY_MS:
            dark = [
                x
                for x in world.ledger.silences
                if x.site == p.subject and x.last <= p.start + MINUTE_MS and (x.next or p.end) >= p.end
            ]
            assert {x.device for x in dark} == {d.id for d in world.city.sites[p.site].scales}
    net = {(t.waybill, t.direction): t.net_kg for t in world.ledger.tickets}
    lost = {w: out - net[w, "in"] for (w, way), out in net.items() if way == "out" and (w, "in") in net}
    for kind, low, high in (("theft", 50, 4_800), ("moisture", -300, 600)):
        amounts = [lost[p.aliases[0]] for p in world.ledger.planted if p.kind == kind and p.aliases[0] in lost]
        assert amounts
        assert sorted(amounts)[len(amounts) // 10] > low
        assert sorted(amounts)[len(amounts) * 9 // 10] < high


@pytest.mark.parametrize("kind", ["chip", "step-off"])
def test_curves_end_at_the_shown_mass_and_step_only_where_told(kind: str) -> None:
    world, sent = run()
    planted = {(p.subject, p.start): int(p.parameters["kg"]) for p in world.ledger.planted if p.kind == kind}
    seen = 0
    for s in sent:
        if s.type != "weighing.measured" or s.expect != "accepted":
            continue
        event = json.loads(s.body)
        data, curve = event["data"], event["data"]["curve_kg"]
        assert data["curve_interval_ms"] == 500
        assert abs(curve[-1] - data["mass_kg"]) <= 10
        if (kg := planted.get((data["plate"], parse_time(event["time"])))) is not None:
            seen += 1
            first, last = curve[-20:-14], curve[-6:]
            standing = sum(last) / 6 - sum(curve[-14:-8] if kind == "chip" else first) / 6
            assert abs(standing - (kg if kind == "chip" else -kg)) < 25
    assert seen == len(planted) > 0


def cuts_of(world: World, sent: Sequence[Sent], until: int) -> list[tuple[str, int]]:
    """(site, raised at) of every ``supply-cut`` over what was sent."""
    scope_of = {d["source"]: d["site"] for t, d in registry(world.city) if t == "device.registered"}
    sources = {d.id: d.source for d in world.city.devices()}
    rows: list[Row] = []
    for n, s in enumerate(sent):
        if s.type in SupplyCut.inputs and s.expect == "accepted":
            site = world.city.sites[scope_of[sources[s.device]]]
            rows.append((s.type, s.at, "", s.body, (site.id, site.id, site.division), f"c/0/{n}"))
    found = run_operators((SupplyCut(),), rows, reference_of(world.city), until)
    return [(d["subject"], e.at) for e, d in found["warning.raised"]]


def test_every_cut_is_found_and_no_closed_works_is_taken_for_one() -> None:
    world, sent = run()
    raised = cuts_of(world, sent, START + DAYS * DAY_MS)
    planted = [p for p in world.ledger.planted if p.code == "supply-cut" and p.end < START + DAYS * DAY_MS]
    for p in planted:
        assert [at for site, at in raised if site == p.subject and p.start <= at <= p.end + 10 * MINUTE_MS], p
    for site, at in raised:
        assert [p for p in world.ledger.planted if p.code == "supply-cut" and p.subject == site and p.start <= at], (site, at)
    assert {p.kind for p in world.ledger.planted if p.near == "supply-cut"} == {"closed"}


def mismatches(world: World, sent: Sequence[Sent], policy: PlateMatchPolicy, until: int) -> set[str]:
    """Plates of which ``plate-mismatch`` is raised, without those that are driven under another's."""
    sources = {d.id: d.site for d in world.city.devices()}
    rows: list[Row] = []
    for n, s in enumerate(sent):
        if s.type in PlateMatch.inputs and s.expect == "accepted":
            site = world.city.sites[sources[s.device]]
            rows.append((s.type, s.at, "", s.body, (site.id, site.id, site.division), f"c/0/{n}"))
    found = run_operators((PlateMatch(policy),), rows, reference_of(world.city), until)
    cloned = {p.subject for p in world.ledger.planted if p.kind == "cloned"}
    return {d["subject"] for _, d in found["warning.raised"]} - cloned


def test_who_queued_while_nobody_was_weighed_is_taken_for_nobody_else() -> None:
    jammed = replace(PROFILES["all"], name="jammed", jammed_per_day=5, slip_every_captures=0)
    world = World(City(4, "queues", jammed), START)
    until = START + 2 * DAY_MS
    sent = world.advance(until)
    assert sum(p.kind == "queued" for p in world.ledger.planted) > 50
    assert mismatches(world, sent, PlateMatchPolicy(), until) == set()
    assert mismatches(world, sent, PlateMatchPolicy(inside_s=0), until), "without knowing who is inside"


@pytest.mark.parametrize("seed", [1, 3])
def test_in_an_ordinary_city_a_site_is_cut_only_while_all_its_scales_are_dead(seed: int) -> None:
    world = World(City(seed, SMALL), START)
    until = START + 2 * DAY_MS
    raised = cuts_of(world, world.advance(until), until)
    silences = world.ledger.as_of(until).silences
    for site, at in raised:
        dead = {s.device for s in silences if s.last < at and (s.next is None or s.next >= at)}
        assert {d.id for d in world.city.sites[site].scales} <= dead
    assert bool(raised) == (seed == 3)
