"""Inputs for the laws: what devices send, in any order and at awkward times."""

from collections.abc import Sequence

from hypothesis import strategies as st

from hengliu.events.envelope import iso_ms
from hengliu.events.families.registry import RulePublished, SiteRegistered, VehicleRegistered
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
