"""Tonnage panes: what moved, per enterprise, district, commodity, use and hour, as additive deltas."""

from hengliu.events import topics
from hengliu.events.families.common import Commodity, Direction, Scoped, Use, UtcTime, labelled
from hengliu.events.family import Family, Text, Writer
from hengliu.events.quantities import DivisionCode


class FlowSummed(Scoped):
    """One pane: tickets whose gross weighing fell in the hour and that became known up to the pane's tick."""

    start: UtcTime = labelled("小时", "Hour")
    direction: Direction = labelled("方向", "Direction")
    commodity: Commodity = labelled("煤种", "Commodity")
    use: Use = labelled("用途", "Use")
    origin: DivisionCode | None = labelled("起运地", "Origin division", None)
    destination: DivisionCode | None = labelled("到达地", "Destination division", None)
    net_kg: int = labelled("净重（千克）", "Net (kg)")
    tickets: int = labelled("单数", "Tickets")


FAMILIES = (
    Family(
        type="flow.summed",
        title=Text("流量汇总", "Flow pane"),
        data=FlowSummed,
        topic=topics.FLOW,
        writer=Writer.OPERATOR,
        key="enterprise",
        example_source="/streams/flows",
        example_data={"enterprise": "m01", "site": "m01", "division": "150303", "start": "2026-03-01T02:00:00Z",
                      "direction": "out", "commodity": "raw", "use": "power", "net_kg": 33_620, "tickets": 1},
    ),
)  # fmt: skip
