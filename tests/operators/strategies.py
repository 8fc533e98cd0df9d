"""Inputs for the laws: what devices send, in any order and at awkward times."""

from collections.abc import Sequence

from hypothesis import strategies as st

from hengliu.events.envelope import iso_ms
from hengliu.events.families.registry import DeviceRegistered, RulePublished, SiteRegistered, VehicleRegistered
from hengliu.events.family import EventData
from tests.operators.laws import Input, in_receive_order

BASE = 1_772_330_400_000
"""2026-03-01T02:00:00Z."""
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

SITES = (
    SiteRegistered(site="m01", enterprise="m01", name="一号矿", division="150303", kind="mine"),
    SiteRegistered(site="p01", enterprise="p01", name="一号电厂", division="150302", kind="power", use="power"),
)
PLATES = ("蒙C00001", "蒙C00002", "宁A99999")
VEHICLES: Sequence[EventData] = (
    VehicleRegistered(plate="蒙C00001", kind="combination", axles=6, tare_kg=15_000, tare_usable=True),
    VehicleRegistered(plate="蒙C00002", kind="rigid", axles=4, tare_kg=14_000),
)
WEIGHING_REFERENCE: Sequence[EventData] = (
    *SITES,
    *VEHICLES,
    RulePublished(rule="tickets", version=3, parameters={"timeout_s": "43200"}),
)


@st.composite
def weighings(draw: st.DrawFn) -> list[Input]:
    """Crossings of a few plates at two sites: equal receive times, late and early event times, repeats, near-equal masses."""
    count = draw(st.integers(0, 14))
    received = BASE
    found: list[Input] = []
    for number in range(count):
        received += draw(st.sampled_from([0, 0, 1, 900, 1_000, 5 * MINUTE, 40 * MINUTE, 11 * HOUR, 13 * HOUR, DAY]))
        time = received + draw(st.sampled_from([0, 0, -1, -2_500, -3 * MINUTE, -HOUR, -20 * HOUR, -400 * DAY, 3 * DAY]))
        plate = draw(st.sampled_from(PLATES))
        site, division = draw(st.sampled_from([("m01", "150303"), ("m01", "150303"), ("p01", "150302")]))
        mass = draw(st.sampled_from([15_000, 15_060, 15_300, 48_900, 48_950, 52_300])) + draw(st.integers(0, 3))
        data: dict[str, object] = {"plate": plate, "mass_kg": mass}
        if draw(st.booleans()):
            data |= {"axles": 6, "commodity": "cleaned", "use": "coking", "origin": "150303", "destination": "640202"}
        found.append(
            Input(
                "weighing.measured",
                received,
                time,
                data,
                f"urn:dev:org:32473-wb-{site}",
                f"w{number}",
                plate,
                (site, site, division),
            )
        )
    return in_receive_order(found)


@st.composite
def tickets(draw: st.DrawFn) -> list[Input]:
    """Tickets as another operator emits them, some known long before they were derived."""
    received = BASE
    found: list[Input] = []
    for number in range(draw(st.integers(0, 14))):
        received += draw(st.sampled_from([0, 0, 1, 499, 999, 1_000, 1_001, 61_000]))
        gross = draw(st.sampled_from([20_000, 25_001, 31_400, 43_001, 46_500, 49_000, 49_001, 52_300]))
        tare = draw(st.integers(9_000, 16_000))
        time = received - draw(st.sampled_from([0, 1, 59 * MINUTE, 61 * MINUTE, 40 * DAY]))
        site, division, direction = draw(st.sampled_from([("m01", "150303", "out"), ("p01", "150302", "in")]))
        data: dict[str, object] = {
            "enterprise": site, "site": site, "division": division, "plate": draw(st.sampled_from(PLATES)),
            "direction": direction, "gross_kg": gross, "tare_kg": tare, "net_kg": gross - tare, "gross_time": iso_ms(time),
            "tare_source": "measured", "commodity": draw(st.sampled_from(["raw", "coke"])), "use": "power",
        }  # fmt: skip
        if draw(st.booleans()):
            data["axles"] = draw(st.sampled_from([2, 3, 4, 5, 6, 7]))
        if draw(st.booleans()):
            data["origin"] = "150303"
        known = received - draw(st.sampled_from([0, 0, 12 * HOUR]))
        found.append(
            Input(
                "weighing.recorded", received, time, data, "/streams/tickets", f"t{number}", site, (site, site, division), known
            )
        )
    return in_receive_order(found)


METERS = ("wm-1", "em-1")
METER_REFERENCE: Sequence[EventData] = (
    DeviceRegistered(
        device="wm-1", source="urn:x:wm-1", kind="meter", site="m01", quantity="water", register_digits=6, silence_after_s=7_200
    ),
)


@st.composite
def meter_readings(draw: st.DrawFn) -> list[Input]:
    """Register and interval readings of two meters as they come: late, twice, falling, jumping, from two registers."""
    received = BASE
    found: list[Input] = []
    levels = {m: draw(st.sampled_from([0, 990_000, 500_000])) for m in METERS}
    for number in range(draw(st.integers(0, 24))):
        received += draw(st.sampled_from([0, 0, 1_000, 15 * MINUTE, HOUR, HOUR, 5 * HOUR, 3 * DAY]))
        time = received - draw(st.sampled_from([0, 0, 0, 1_000, HOUR, 2 * HOUR + 1, 4 * DAY, 400 * DAY]))
        meter = draw(st.sampled_from(METERS))
        unit = "L" if meter == "wm-1" else "kWh"
        data: dict[str, object] = {"meter": meter, "quantity": "water" if meter == "wm-1" else "electricity", "unit": unit}
        if draw(st.integers(0, 3)):
            levels[meter] += draw(st.sampled_from([0, 0, 1, 17, 120, -3, -50, 9_000, -400_000, 400_000]))
            levels[meter] = max(0, levels[meter]) % 1_000_000
            data |= {"reading": "register", "value": str(levels[meter])}
        else:
            start = time // HOUR * HOUR
            data |= {"reading": "interval", "value": draw(st.sampled_from(["0", "1.5", "2.125"])), "start": iso_ms(start)}
            data |= {"end": iso_ms(start + draw(st.sampled_from([HOUR, HOUR, 2 * HOUR])))}
        if draw(st.integers(0, 5)) == 0:
            data["quality"] = "estimated"
        found.append(Input("meter.read", received, time, data, f"urn:x:{meter}", f"r{number}", meter))
    return in_receive_order(found)


DEVICE_REFERENCE: Sequence[EventData] = (
    DeviceRegistered(device="a", source="urn:x:a", kind="weighbridge", site="m01", silence_after_s=600),
    DeviceRegistered(device="b", source="urn:x:b", kind="meter", site="m01", silence_after_s=3_600),
    DeviceRegistered(device="c", source="urn:x:c", kind="camera", site="m01"),
)


@st.composite
def reports(draw: st.DrawFn) -> list[Input]:
    """Heartbeats, power and network changes of watched and unwatched devices, with gaps around the limits."""
    received = BASE
    found: list[Input] = []
    for number in range(draw(st.integers(0, 16))):
        received += draw(st.sampled_from([0, 1, 1_000, 599_999, 600_000, 600_001, 3_600_000, 8 * HOUR]))
        source = draw(st.sampled_from(["urn:x:a", "urn:x:a", "urn:x:b", "urn:x:c"]))
        time = received - draw(st.sampled_from([0, 0, 5_000, DAY]))
        data = {"kind": draw(st.sampled_from(["heartbeat", "power", "network"]))}
        data["state"] = draw(st.sampled_from(["ok", "backup", "lost"]))
        found.append(Input("device.reported", received, time, data, source, f"h{number}", source))
    return in_receive_order(found)


STOCK_REFERENCE: Sequence[EventData] = (
    DeviceRegistered(device="b1", source="urn:x:b1", kind="belt-scale", site="m01", belt_role="produced"),
    DeviceRegistered(device="b2", source="urn:x:b2", kind="belt-scale", site="m01", belt_role="consumed"),
    DeviceRegistered(device="b3", source="urn:x:b3", kind="belt-scale", site="m01", belt_role="transfer"),
)


@st.composite
def stock_inputs(draw: st.DrawFn) -> list[Input]:
    """Tickets, belts and surveys of one site, in any order of event time, often at the same one."""
    received = BASE
    found: list[Input] = []
    totals = dict.fromkeys(("b1", "b2", "b3"), 1_000)
    for number in range(draw(st.integers(0, 16))):
        received += draw(st.sampled_from([0, 1, 1_000, HOUR, 9 * HOUR]))
        time = received - draw(st.sampled_from([0, 0, HOUR, HOUR, 30 * HOUR, 10 * DAY, -2 * DAY]))
        kind = draw(st.sampled_from(["ticket", "ticket", "survey", "belt"]))
        commodity = draw(st.sampled_from(["raw", "raw", "cleaned"]))
        if kind == "ticket":
            data: dict[str, object] = {
                "direction": draw(st.sampled_from(["in", "out"])), "net_kg": draw(st.integers(500, 40_000)),
                "gross_time": iso_ms(time), "commodity": commodity,
            }  # fmt: skip
            found.append(Input("weighing.recorded", received, received, data, "/streams/tickets", f"t{number}"))
        elif kind == "survey":
            site = draw(st.sampled_from(["m01", "m01", "m01", "p01"]))
            data = {"site": site, "commodity": commodity, "mass_kg": draw(st.integers(0, 10**6))}
            found.append(Input("stock.surveyed", received, time, data, "urn:x:yard", f"s{number}"))
        else:
            belt = draw(st.sampled_from(["b1", "b2", "b3"]))
            totals[belt] += draw(st.integers(0, 5_000))
            if draw(st.integers(0, 7)) == 0:
                totals[belt] = 0
            data = {"belt": belt, "total_kg": totals[belt], "commodity": commodity}
            found.append(Input("belt.metered", received, time, data, f"urn:x:{belt}", f"b{number}"))
    return in_receive_order(found)


SALES_REFERENCE: Sequence[EventData] = (
    RulePublished(
        rule="sales-volume",
        version=2,
        parameters={"recent_days": "3", "same_weekdays": "2", "min_baseline_t": "0", "settle_s": "3600"},
    ),
)


@st.composite
def sold(draw: st.DrawFn) -> list[Input]:
    """Panes of two enterprises over some weeks: usual and odd days, gaps, late ones, old files loaded in one go."""
    received = BASE
    found: list[Input] = []
    for number in range(draw(st.integers(0, 30))):
        received += draw(st.sampled_from([0, 1_000, HOUR, 12 * HOUR, DAY, DAY, DAY, 3 * DAY]))
        hour = received - received % HOUR - draw(st.sampled_from([0, 0, 0, HOUR, 2 * DAY, 16 * DAY, 400 * DAY]))
        enterprise, division = draw(st.sampled_from([("m01", "150303"), ("m01", "150303"), ("m02", "150304")]))
        data = {
            "enterprise": enterprise, "site": enterprise, "division": division, "start": iso_ms(hour), "commodity": "raw",
            "use": "power", "direction": draw(st.sampled_from(["out", "out", "out", "in"])), "tickets": 100,
            "net_kg": draw(st.sampled_from([1_000_000, 1_010_000, 990_000, 1_000_000, 9_000_000, 10_000])),
        }  # fmt: skip
        known = received - draw(st.sampled_from([0, 0, 900]))
        scope = (enterprise, enterprise, division)
        found.append(Input("flow.summed", received, hour, data, "/streams/flows", f"p{number}", enterprise, scope, known))
    return in_receive_order(found)


@st.composite
def quotes(draw: st.DrawFn) -> list[Input]:
    """Quotes of some markets and an index: near and far, late, of two calorific values, without one, on two bases."""
    received = BASE
    found: list[Input] = []
    for number in range(draw(st.integers(0, 24))):
        received += draw(st.sampled_from([0, 1_000, HOUR, DAY, 9 * DAY]))
        time = received - draw(st.sampled_from([0, 0, 0, HOUR, 2 * DAY]))
        market = draw(st.sampled_from(["a", "b", "c", "d", "e"]))
        price = draw(st.sampled_from([50_000, 51_000, 49_500, 62_500, 62_501, 57_500, 20_000, 0]))
        data: dict[str, object] = {"commodity": "raw", "market": market, "price_fen_per_t": price}
        if draw(st.booleans()):
            data["heat_kcal_per_kg"] = draw(st.sampled_from([5_000, 5_500, 0]))
        if draw(st.integers(0, 5)) == 0:
            data["kind"] = "index"
        if draw(st.integers(0, 8)) == 0:
            data["basis"] = "delivered"
        scope = (market, market, draw(st.sampled_from(["150302", "150303"])))
        found.append(Input("price.quoted", received, time, data, f"urn:x:{market}", f"q{number}", "raw", scope))
    return in_receive_order(found)
