"""What came too late for those who need order: told by name, never dropped silently."""

from hengliu.events import topics
from hengliu.events.families.common import Scoped, UtcTime, labelled
from hengliu.events.family import Family, Text, Writer


class InputLate(Scoped):
    """An accepted event that an operator could not take any more: it lies behind what that operator has judged.

    The event itself stands, in its own topic and in every sum; only this operator's judgement was made without it.
    """

    operator: str = labelled("算子", "Operator", max_length=48)
    subject: str = labelled("对象", "Subject", max_length=256)
    event: str = labelled("事件编号", "Event id", max_length=512)
    event_type: str = labelled("事件类型", "Event type", max_length=256)
    event_time: UtcTime = labelled("事件时间", "Event time")
    judged_until: UtcTime = labelled("已判断至", "Judged until")
    behind_s: int = labelled("落后（秒）", "Behind (s)", ge=0)


FAMILIES = (
    Family(
        type="input.late",
        title=Text("迟到输入", "Late input"),
        data=InputLate,
        topic=topics.LATE,
        writer=Writer.OPERATOR,
        key="subject",
        example_source="/streams/anomaly",
        example_data={
            "enterprise": "m01", "site": "m01", "division": "150303", "operator": "anomaly", "subject": "em-m01-1",
            "event": "0123456789abcdef0123456789abcdef", "event_type": "consumption.recorded",
            "event_time": "2026-03-01T00:15:00Z", "judged_until": "2026-03-02T00:00:00Z", "behind_s": 85_500,
        },
    ),
)  # fmt: skip
