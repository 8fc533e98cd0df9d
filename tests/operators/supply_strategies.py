"""Inputs for the laws of ``supply-cut``: scales, cameras and gates of two sites around every limit of the rule."""

from collections.abc import Sequence

from hypothesis import strategies as st

from hengliu.events.families.registry import DeviceRegistered
from hengliu.events.family import EventData
from tests.operators.laws import Input, in_receive_order
from tests.operators.strategies import BASE

__all__ = ["SUPPLY_REFERENCE", "site_traffic"]

SUPPLY_REFERENCE: Sequence[EventData] = (
    DeviceRegistered(device="a", source="urn:x:a", kind="weighbridge", site="m01", silence_after_s=600),
    DeviceRegistered(device="b", source="urn:x:b", kind="weighbridge", site="m01"),
    DeviceRegistered(device="p", source="urn:x:p", kind="weighbridge", site="p01", silence_after_s=300),
    DeviceRegistered(device="cam", source="urn:x:cam", kind="camera", site="m01"),
)


@st.composite
def site_traffic(draw: st.DrawFn) -> list[Input]:
    """Mostly vehicles at the gate, now and then a weighing, a heartbeat, a loss or a return of power."""
    received = BASE
    found: list[Input] = []
    for number in range(draw(st.integers(0, 20))):
        received += draw(st.sampled_from([0, 1, 1_000, 59_000, 120_000, 300_000, 600_000, 3_600_000]))
        time = received - draw(st.sampled_from([0, 0, 0, 900, 3_600_000, -7_200_000]))
        site = draw(st.sampled_from(["m01", "m01", "m01", "p01", ""]))
        scope = (site, site, "150303") if site else ("", "", "")
        source = draw(st.sampled_from(["urn:x:a", "urn:x:b"])) if site == "m01" else f"urn:x:{site[:1]}"
        kind = draw(st.sampled_from(["capture", "capture", "capture", "gate", "report", "weighing"]))
        data: dict[str, object]
        if kind == "report":
            data = {"kind": draw(st.sampled_from(["heartbeat", "power", "network"]))}
            data["state"] = draw(st.sampled_from(["ok", "backup", "lost", "lost"]))
            found.append(Input("device.reported", received, time, data, source, f"h{number}", source, scope))
        elif kind == "weighing":
            data = {"plate": "蒙C00001", "mass_kg": 30_000}
            found.append(Input("weighing.measured", received, time, data, source, f"w{number}", site, scope))
        elif kind == "gate":
            data = {"gate": "g", "terminal": "t"}
            found.append(Input("gate.passed", received, time, data, "urn:x:term", f"g{number}", site, scope))
        else:
            data = {"plate": f"蒙C0000{draw(st.integers(0, 5))}", "lane": "1"}
            data["direction"] = draw(st.sampled_from(["in", "out"]))
            found.append(Input("plate.captured", received, time, data, "urn:x:cam", f"c{number}", site, scope))
    return in_receive_order(found)
