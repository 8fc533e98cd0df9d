"""Inputs of loads on their way, and of vehicles on theirs: tickets of both ends, fixes, weighings."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from hengliu.events.envelope import iso_ms
from hengliu.events.families.registry import DistrictRegistered, SiteRegistered
from hengliu.events.family import EventData
from streams.operators.legs import Legs
from tests.operators.laws import Input, in_receive_order, run
from tests.operators.strategies import BASE, DAY, HOUR, MINUTE

PLATE = "蒙C12345"
OTHER = "蒙C54321"
MINE, PLANT, YARD = ("m01", "150303"), ("p01", "150302"), ("t01", "150302")
CITY: Sequence[EventData] = (
    DistrictRegistered(division="150303", name="海南区"),
    DistrictRegistered(division="150302", name="海勃湾区"),
    DistrictRegistered(division="640205", name="惠农区", inside=False),
    SiteRegistered(
        site="m01", enterprise="m01", name="矿", division="150303", kind="mine", latitude="39.44", longitude="106.89"
    ),
    SiteRegistered(
        site="p01", enterprise="p01", name="厂", division="150302", kind="power", latitude="39.69", longitude="106.82"
    ),
    SiteRegistered(site="n01", enterprise="n01", name="某处", division="150302", kind="other"),
)
KM = 1 / 111.195
"""Degrees of latitude."""


def ticket(direction: str, hour: float, net_kg: int, late: float = 0, plate: str = PLATE, **more: Any) -> Input:
    """A ticket of the mine (out) or the plant (in), its gross weighing at ``hour``, received ``late`` hours after it."""
    site, division = more.pop("at", MINE if direction == "out" else PLANT)
    time = BASE + int(hour * HOUR)
    data: dict[str, Any] = {
        "enterprise": site, "site": site, "division": division, "plate": plate, "direction": direction,
        "gross_kg": net_kg + 15_000, "tare_kg": 15_000, "net_kg": net_kg, "gross_time": iso_ms(time),
        "tare_source": "measured", "commodity": "raw", "use": "power", **more,
    }  # fmt: skip
    id_ = f"{direction}-{site}-{hour}-{plate[-1]}"
    received = time + int(late * HOUR)
    return Input("weighing.recorded", received, time, data, "/streams/tickets", id_, site, (site, site, division))


def stranded(hour: float, plate: str = PLATE, **more: str) -> Input:
    """The crossing at ``hour`` was never followed by a tare; so says tickets a day later."""
    time = BASE + int(hour * HOUR)
    data = {
        "warning": "0" * 32, "code": "tare-missing", "severity": "medium", "subject": plate, "enterprise": "p01", "site": "p01",
        "division": "150302", "parameters": {"mass_kg": "48000", "weighed_at": iso_ms(time), **more},
        "since": iso_ms(time),
    }  # fmt: skip
    return Input("warning.raised", time + DAY, time, data, "/streams/tickets", f"w{hour}", "", ("p01", "p01", "150302"))


@st.composite
def journeys(draw: st.DrawFn) -> list[Input]:
    """Loadings, unloadings and strandings of two plates under few waybills, in any order and at awkward times."""
    received = BASE
    found: list[Input] = []
    for number in range(draw(st.integers(0, 14))):
        received += draw(st.sampled_from([0, 0, 1, HOUR, 7 * HOUR, 36 * HOUR, 36 * HOUR + 1, 80 * HOUR]))
        hour = (received - BASE) / HOUR - draw(st.sampled_from([0, 0, 0, 1, 8, 400]))
        plate = draw(st.sampled_from([PLATE, PLATE, OTHER]))
        if draw(st.integers(0, 9)) == 0:
            one = stranded(hour, plate, **({"waybill": "W1"} if draw(st.booleans()) else {}))
        else:
            more: dict[str, Any] = {}
            for name, values in (("waybill", ["W1", "W2"]), ("destination", ["150302", "640205", "150300"]),
                                 ("origin", ["150303", "640205"]), ("commodity", ["coke"])):  # fmt: skip
                if draw(st.booleans()):
                    more[name] = draw(st.sampled_from(values))
            if draw(st.integers(0, 5)) == 0:
                more["tare_source"] = "register"
            net = draw(st.sampled_from([33_000, 33_000, 32_600, 30_000]))
            one = ticket(draw(st.sampled_from(["out", "in"])), hour, net, plate=plate, **more)
        known = received - draw(st.sampled_from([0, 0, DAY]))
        found.append(Input(one.type, received, one.time, one.data, one.source, f"t{number}", one.key, one.scope, known))
    return in_receive_order(found)


@st.composite
def legs(draw: st.DrawFn) -> list[Input]:
    """What the legs of such tickets are, as the topic brings them."""
    inputs = draw(journeys())
    found = run((Legs(),), inputs, inputs[-1].received if inputs else BASE, CITY)
    return [
        Input("shipment.weighed", e.emit.at, e.emit.time, e.emit.data, "/streams/legs", e.id, e.emit.data["shipment"],
              e.emit.scope, e.emit.known_at)
        for e in found.of("shipment.weighed")
    ]  # fmt: skip


def weighing(minute: float, site: str = "m01", late: float = 0, plate: str = PLATE) -> Input:
    time = BASE + int(minute * MINUTE)
    scope = (site, site, "150303")
    data = {"plate": plate, "mass_kg": 48_000}
    return Input("weighing.measured", time + int(late * MINUTE), time, data, f"urn:x:{site}", f"w{minute}", plate, scope)


def fix(minute: float, north_km: float, late: float = 0, plate: str = PLATE) -> Input:
    """A fix so many kilometres north of the mine, received ``late`` minutes after it."""
    time = BASE + int(minute * MINUTE)
    data = {"plate": plate, "latitude": f"{39.44 + north_km * KM:.7f}", "longitude": "106.8900000"}
    scope = ("home", "home", "150302")
    return Input("vehicle.located", time + int(late * MINUTE), time, data, "urn:x:gps", f"f{minute}", plate, scope)


@st.composite
def movements(draw: st.DrawFn) -> list[Input]:
    """Fixes and weighings of two plates: near, far, at the reach, late, from the future, of unknown sites, equal times."""
    received = BASE
    found: list[Input] = []
    for number in range(draw(st.integers(0, 16))):
        received += draw(st.sampled_from([0, 0, 1, MINUTE, 4 * MINUTE, 15 * MINUTE, 30 * MINUTE, DAY]))
        minute = (received - BASE) / MINUTE - draw(st.sampled_from([0, 0, 0, 2, 15, 80, 1_500, -5]))
        plate = draw(st.sampled_from([PLATE, PLATE, "蒙C54321"]))
        if draw(st.booleans()):
            one = weighing(minute, draw(st.sampled_from(["m01", "m01", "p01", "n01"])), plate=plate)
        else:
            one = fix(minute, draw(st.sampled_from([0, 1, 3, 11, 28, 40, 400])), plate=plate)
        found.append(Input(one.type, received, one.time, one.data, one.source, f"e{number}", plate, one.scope))
    return in_receive_order(found)
