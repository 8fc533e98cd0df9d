"""Inputs for the laws of the operators that watch scales and those who pass them."""

from collections.abc import Sequence

from hypothesis import strategies as st

from hengliu.events.envelope import iso_ms
from hengliu.events.families.registry import DeviceRegistered, RulePublished, VehicleRegistered
from hengliu.events.family import EventData
from tests.operators.laws import Input, in_receive_order
from tests.operators.strategies import BASE, DAY, HOUR, MINUTE, SITES

SCALES = ("wb-1", "wb-2")
PLATES = ("蒙C00001", "蒙C0000I", "宁A99999")
"""The first two differ by one character that cameras take for the other."""


def source(device: str) -> str:
    return f"urn:x:{device}"


def scale(device: str, **members: object) -> DeviceRegistered:
    return DeviceRegistered.model_validate(
        {"device": device, "source": source(device), "kind": "weighbridge", "site": "m01", **members}
    )


PASSAGE_REFERENCE: Sequence[EventData] = (
    *SITES,
    VehicleRegistered(plate=PLATES[0], kind="combination", axles=6, tare_kg=15_000, tare_usable=True),
    DeviceRegistered(device="wb-1", source="urn:x:wb-1", kind="weighbridge", site="m01"),
    scale("wb-2", calibrated_until=iso_ms(BASE + HOUR)),
    DeviceRegistered(device="cam-1", source="urn:x:cam-1", kind="camera", site="m01"),
    DeviceRegistered(device="cam-2", source="urn:x:cam-2", kind="camera", site="m01", watches="wb-2"),
    RulePublished(rule="plate-match", version=2, parameters={"heard": "1", "heard_percent": "0"}),
    RulePublished(rule="calibration", version=5, parameters={"unregistered": "warn"}),
)

CURVES = (
    None,
    [0, 20_000, 30_000, *[48_900] * 12],
    [0, 20_000, 30_000, *[48_900] * 12, *[46_900] * 12],
    [0, 20_000, 30_000, *[48_900] * 12, 48_000, *[48_720] * 12],
)


@st.composite
def passages(draw: st.DrawFn) -> list[Input]:
    """Weighings and captures of a few vehicles: late, early, again, unseen, seen under another plate."""
    received = BASE
    found: list[Input] = []
    for number in range(draw(st.integers(0, 16))):
        received += draw(st.sampled_from([0, 0, 1, 1_000, 2 * MINUTE, 12 * MINUTE, 21 * MINUTE, 3 * HOUR, DAY]))
        time = received + draw(st.sampled_from([0, 0, 0, -1, -90_000, -15 * MINUTE, -3 * HOUR, -400 * DAY, 5 * HOUR]))
        plate = draw(st.sampled_from(PLATES))
        if draw(st.integers(0, 2)):
            device = draw(st.sampled_from(SCALES))
            mass = draw(st.sampled_from([15_000, 15_040, 48_900, 48_960, 49_060]))
            data: dict[str, object] = {"plate": plate, "mass_kg": mass}
            data["zero_kg"] = draw(st.sampled_from([None, 0, 20, -40, 60, -300]))
            curve = draw(st.sampled_from(CURVES))
            if curve is not None:
                data |= {"curve_kg": curve, "curve_interval_ms": 250}
            if draw(st.booleans()):
                data["commodity"] = "raw"
            type_ = "weighing.measured"
        else:
            device = draw(st.sampled_from(["cam-1", "cam-1", "cam-2"]))
            data = {"plate": plate, "lane": "in-1", "direction": draw(st.sampled_from([None, "in", "out"]))}
            data["confidence_percent"] = draw(st.sampled_from([None, 60, 99]))
            type_ = "plate.captured"
        found.append(Input(type_, received, time, data, source(device), f"p{number}", plate))
    return in_receive_order(found)


@st.composite
def tares(draw: st.DrawFn) -> list[Input]:
    """Tickets of two vehicles whose tares mostly agree."""
    received = BASE
    found: list[Input] = []
    for number in range(draw(st.integers(0, 14))):
        received += draw(st.sampled_from([0, 1, HOUR, 5 * HOUR, DAY]))
        time = received - draw(st.sampled_from([0, 0, HOUR, 7 * HOUR, 2 * DAY]))
        tare = draw(st.sampled_from([15_000, 15_040, 15_120, 15_120, 15_700, 16_400, 14_100]))
        data: dict[str, object] = {
            "enterprise": "m01", "site": "m01", "division": "150303", "plate": draw(st.sampled_from(PLATES[::2])),
            "direction": "out", "gross_kg": 48_900, "tare_kg": tare, "net_kg": 48_900 - tare, "gross_time": iso_ms(time),
            "tare_source": draw(st.sampled_from(["measured", "measured", "measured", "register"])), "commodity": "raw",
            "use": "power",
        }  # fmt: skip
        if data["tare_source"] == "measured":
            data["tare_time"] = iso_ms(time)
        found.append(Input("weighing.recorded", received, time, data, "/streams/tickets", f"t{number}"))
    return in_receive_order(found)
