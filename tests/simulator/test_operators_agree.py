"""The ledger against the operators themselves, over the same bytes: two programs that share no code.

Records are received when their devices sent them, in the order of sending, an hour a batch. What stands between (intake, logs,
exchange) has its own tests; the whole platform is compared in tests/e2e.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import Any
from zlib import crc32

import msgspec
import pytest

from hengliu.events.catalog import Catalog
from hengliu.events.envelope import derived_id, encode_event
from simulator.almanac import HOUR_MS
from simulator.city import City, registry
from simulator.ledger import Balance
from simulator.wire import Sent
from simulator.world import ROUND_MS, World
from streams.kernel.operator import Batch, Operator
from streams.kernel.reference import KEYS, REFERENCE_TABLES, Reference, Versions
from streams.kernel.state import State, StateStore
from streams.operators.calibration import Calibration
from streams.operators.flows import Flows
from streams.operators.idle_zero import IdleZero
from streams.operators.legs import Legs
from streams.operators.meters import Meters
from streams.operators.overload import Overload
from streams.operators.plate_match import PlateMatch
from streams.operators.positions import Positions
from streams.operators.repeated import RepeatedWeighing
from streams.operators.shipments import Shipments
from streams.operators.silence import Silence
from streams.operators.stock import Stock
from streams.operators.tare_drift import TareDrift
from streams.operators.tickets import Tickets
from streams.operators.weight_curve import WeightCurve
from tests.simulator.recount import Desk, parse_time
from tests.simulator.test_world import SMALL, START

CATALOG = Catalog()
HOURS = 84

Row = tuple[str, int, str, bytes, tuple[str, str, str], str]


def reference_of(city: City) -> Reference:
    tables: dict[str, dict[str, Versions]] = {name: {} for name in REFERENCE_TABLES}
    for type_, data in registry(city):
        table, model, member = KEYS[type_]
        payload = model.model_validate(data).model_dump_json(exclude_none=True).encode()
        tables[table][str(data[member])] = Versions([0], [payload])
    return Reference(tables)


def run_operators(operators: Sequence[Operator], rows: Sequence[Row], reference: Reference, until: int) -> dict[str, list[Any]]:
    """Emitted events by type, each with the data that a reader would see and its scope."""
    store = StateStore({(o.name, name): row for o in operators for name, row in o.tables.items()})
    out: dict[str, list[Any]] = defaultdict(list)
    at = 0
    for clock in range(START + HOUR_MS, until + HOUR_MS, HOUR_MS):
        end = at
        while end < len(rows) and rows[end][1] < clock:
            end += 1
        batch_rows, at = list(rows[at:end]), end
        for operator in operators:
            mine = sorted((r for r in batch_rows if r[0] in operator.inputs), key=lambda r: r[1])
            columns = list(zip(*mine, strict=True)) if mine else [()] * 6
            types, received, keys, values, scopes, origins = columns
            effects = operator.step(
                State(operator.name, store, reference), Batch(clock, types, received, keys, values, scopes, origins, received)
            )
            store.apply(effects.changes)
            for emit in effects.events:
                id_ = derived_id(operator.name, operator.version, *emit.identity)
                value = encode_event(emit.type, f"/streams/{operator.name}", id_, emit.time, emit.data)
                batch_rows.append((emit.type, emit.at, "", value, emit.scope, id_))
                out[emit.type].append((emit, msgspec.json.decode(value)["data"]))
    return out


def as_history(sent: Sequence[Sent]) -> list[tuple[int, Sent]]:
    """(received, event) as when a feed loads history: in rounds, and in a round one partition after the other."""
    rounds = sorted(sent, key=lambda s: (s.at // ROUND_MS, crc32(s.device.encode()) % 4, s.order))
    return [(START + HOURS * HOUR_MS + n // 50, s) for n, s in enumerate(rounds)]


@cache
def both(seed: int, size: str, history: bool = False) -> tuple[World, Balance, dict[str, list[Any]]]:
    world = World(City(seed, SMALL if size == "small" else size), START)
    until = START + HOURS * HOUR_MS
    sent = world.advance(until)
    desk = Desk()
    rows: list[Row] = []
    scope_of = {d["source"]: world.city.sites.get(d["site"]) for t, d in registry(world.city) if t == "device.registered"}
    for n, (received, s) in enumerate(as_history(sent) if history else [(s.at, s) for s in sent]):
        if desk.answer(s.body) == "accepted":
            event = desk.accepted[-1]
            site = scope_of[event["source"]]
            assert site is not None
            rows.append((s.type, received, "", s.body, (site.id, site.id, site.division), f"c/0/{n}"))
    reference = reference_of(world.city)
    # A last clock, just after the last record: panes close, but 24 h do not pass.
    end = until + (HOUR_MS if history else 0)
    out: dict[str, list[Any]] = defaultdict(list)
    groups: tuple[Sequence[Operator], ...] = (
        (Tickets(), Overload(), Flows(), Legs(), Positions(), RepeatedWeighing(), TareDrift()),
        (Meters(),),
        (Silence(), IdleZero(), Calibration(), WeightCurve()),
        (PlateMatch(),),
    )
    for group in groups:
        for type_, emitted in run_operators(group, rows, reference, end).items():
            out[type_] += emitted
    derived = [(e.type, e.at, "", encode_event(e.type, "/streams/vehicle", f"{e.type}{n}", e.time, d), e.scope, f"t{n}")
               for type_ in ("weighing.recorded", "shipment.weighed") for n, (e, d) in enumerate(out[type_])]  # fmt: skip
    merged = sorted([*rows, *derived], key=lambda r: r[1])
    for type_, emitted in run_operators([Stock(), Shipments()], merged, reference, end).items():
        out[type_] += emitted
    return world, world.ledger.as_of(until, time_outs=not history), out


CITIES = pytest.mark.parametrize(
    ("seed", "size", "history"), [(1, "tiny", False), (2, "small", False), (2, "small", True), (5, "tiny", True)]
)


@CITIES
def test_tickets(seed: int, size: str, history: bool) -> None:
    _, ledger, out = both(seed, size, history)
    until = START + HOURS * HOUR_MS
    names: tuple[str, ...] = (
        "enterprise",
        "site",
        "division",
        "plate",
        "direction",
        "gross_kg",
        "tare_kg",
        "net_kg",
        "tare_source",
        "axles",
    )
    names += ("commodity", "use", "origin", "destination", "waybill")
    mine = Counter((*(str(getattr(t, n)) for n in names), t.gross_time, t.tare_time) for t in ledger.tickets)
    theirs = Counter(
        (*(str(d[n]) for n in names), parse_time(d["gross_time"]), parse_time(d["tare_time"]) if d.get("tare_time") else None)
        for e, d in out["weighing.recorded"]
        if history or e.at <= until
    )
    assert theirs == mine
    assert ("register" in {t.tare_source for t in ledger.tickets}) is not history


@CITIES
def test_flows(seed: int, size: str, history: bool) -> None:
    _, ledger, out = both(seed, size, history)
    theirs: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    for _, d in out["flow.summed"]:
        cell = theirs[
            parse_time(d["start"]),
            d["enterprise"],
            d["site"],
            d["division"],
            d["direction"],
            d["commodity"],
            d["use"],
            d["origin"],
            d["destination"],
        ]
        cell[0] += d["net_kg"]
        cell[1] += d["tickets"]
    assert {k: tuple(v) for k, v in theirs.items()} == ledger.flows


@CITIES
def test_stock(seed: int, size: str, history: bool) -> None:
    _, ledger, out = both(seed, size, history)
    theirs: Counter[tuple[str, str]] = Counter()
    for _, d in out["stock.moved"]:
        theirs[d["site"], d["commodity"]] += d["delta_kg"]
    assert dict(theirs) == ledger.stock


@CITIES
def test_consumption(seed: int, size: str, history: bool) -> None:
    _, ledger, out = both(seed, size, history)
    theirs: dict[Any, Decimal] = defaultdict(Decimal)
    for _, d in out["consumption.recorded"]:
        theirs[d["meter"], parse_time(d["start"]), parse_time(d["end"])] += Decimal(d["amount"])
    mine = {(c.meter, c.start, c.end): Decimal(c.amount).scaleb(-c.decimals) for c in ledger.consumption}
    assert {k: v for k, v in theirs.items() if v or k in mine} == mine
    assert {"wrapped", "swapped", "after-gap", "back-flow"} <= {c.note for c in ledger.consumption}


@CITIES
def test_warnings(seed: int, size: str, history: bool) -> None:
    world, ledger, out = both(seed, size, history)
    raised: dict[str, Counter[Any]] = defaultdict(Counter)
    for _, d in out["warning.raised"]:
        raised[d["code"]][d["subject"], parse_time(d["since"])] += 1
    cleared = Counter((d["code"], d["subject"], parse_time(d["since"])) for _, d in out["warning.cleared"])
    assert raised["overload"] == Counter((o.plate, o.time) for o in ledger.overloads)
    assert raised["tare-missing"] == Counter((t.plate, t.time) for t in ledger.time_outs if not t.tare_usable)
    # Silence is of the clock at which things are heard. In a loaded history only the end of the load is heard so.
    if not history:
        assert raised["device-silent"] == Counter((s.source, s.last) for s in ledger.silences)
        ended = {("device-silent", s.source, s.last) for s in ledger.silences if s.next}
        assert {k for k in cleared if k[0] == "device-silent"} == ended
    for kind in ("power", "network"):
        assert raised[f"{kind}-lost"] == Counter((s.source, s.since) for s in ledger.supplies if s.kind == kind)
        assert {k for k in cleared if k[0] == f"{kind}-lost"} == {
            (f"{kind}-lost", s.source, s.since) for s in ledger.supplies if s.kind == kind and s.until
        }
    swapped = {p.subject for p in world.ledger.planted if p.kind == "swap"}
    assert {subject for subject, _ in raised["meter-replaced"]} == swapped
    # And nothing else: no shipment, no position of an ordinary city is suspected.
    codes = {code for code, found in raised.items() if found} - {"tare-missing"} - ({"device-silent"} if history else set())
    assert codes == {"overload", "power-lost", "network-lost", "meter-replaced"} | (set() if history else {"device-silent"})


@CITIES
def test_shipments(seed: int, size: str, history: bool) -> None:
    """Every ticket stands under its waybill, and both ends of a load within the city are one shipment."""
    _, ledger, out = both(seed, size, history)
    until = START + HOURS * HOUR_MS
    mine = Counter((t.waybill, "loaded" if t.direction == "out" else "unloaded", t.plate, t.net_kg) for t in ledger.tickets)
    theirs = Counter(
        (d["shipment"], d["stage"], d["plate"], d["net_kg"])
        for e, d in out["shipment.weighed"]
        if d["stage"] != "arrived" and (history or e.at <= until)
    )
    assert theirs == mine
    both_ends = Counter(waybill for waybill, _, _, _ in mine)
    assert 2 in both_ends.values()
