"""What a gate's terminal reports: a carrier came in, and from where it brought its load."""

from hengliu.events import topics
from hengliu.events.families.common import UtcTime, labelled
from hengliu.events.family import EventData, Family, Text
from hengliu.events.quantities import Identifier


class GatePassed(EventData):
    """One passage of a gate without a scale and without a plate: the terminal knows the carrier's kind, not the vehicle.

    The event's ``time`` is when the passage began. ``finished`` is as the terminal says, and may precede ``time`` where its
    clock was set in between: a correction would be a guess.
    """

    gate: Identifier = labelled("出入口", "Gate")
    terminal: Identifier = labelled("终端", "Terminal")
    carrier: str | None = labelled("承运方类别", "Kind of carrier", None, max_length=64)
    load_origin: str | None = labelled("货物来源", "Origin of the load", None, max_length=150)
    finished: UtcTime | None = labelled("结束时间", "Finished at", None)


FAMILIES = (
    Family(
        type="gate.passed",
        title=Text("出入口通行", "Gate passage"),
        data=GatePassed,
        topic=topics.WEIGHING,
        routes={topics.BY_DEVICE: "@source", topics.BY_SITE: "@site"},
        example_source="urn:dev:org:32473-cam-m01-1",
        example_data={"gate": "m01-north", "terminal": "term-m01-1", "carrier": "contractor", "load_origin": "3号采区",
                      "finished": "2026-03-01T02:00:42Z"},
    ),
)  # fmt: skip
