"""Warnings, and events that were refused. No sentence is stored: a code and parameters, rendered when read."""

from typing import Any, Literal

from hengliu.events import topics
from hengliu.events.families.common import UtcTime, labelled
from hengliu.events.family import EventData, Family, Text, Writer

Severity = Literal["high", "medium", "low"]


class WarningState(EventData):
    """State of one warning. ``warning`` stays the same from raised to cleared."""

    warning: str = labelled("预警编号", "Warning id", pattern=r"^[0-9a-f]{32}$")
    code: str = labelled("类型", "Code", pattern=r"^[a-z][a-z0-9-]*$", max_length=48)
    severity: Severity = labelled("级别", "Severity")
    subject: str = labelled("对象", "Subject", max_length=256)
    enterprise: str = labelled("企业", "Enterprise", "")
    site: str = labelled("场所", "Site", "")
    division: str = labelled("行政区划", "Division", "")
    parameters: dict[str, str] = labelled("参数", "Parameters")
    rule: str = labelled("规则", "Rule", "")
    rule_version: int = labelled("规则版本", "Rule version", 0)
    since: UtcTime = labelled("起始时间", "Since")


class WarningRaised(WarningState):
    """A warning begins."""


class WarningUpdated(WarningState):
    """Its parameters changed."""


class WarningCleared(WarningState):
    """Its cause is gone."""


class EventRefused(EventData):
    """What was refused, why, by whom sent, and the payload as it came (64 KiB at most)."""

    reason: str = labelled("原因", "Reason", pattern=r"^[a-z][a-z0-9-]*$")
    pointer: str = labelled("字段", "Field (JSON pointer)", "", max_length=512)
    parameters: dict[str, str] = labelled("参数", "Parameters")
    refused_source: str | None = labelled("来源", "Source", None, max_length=512)
    refused_id: str | None = labelled("编号", "Id", None, max_length=512)
    refused_type: str | None = labelled("事件类型", "Type", None, max_length=256)
    principal: str = labelled("发送方", "Principal")
    digest: str = labelled("摘要", "SHA-256", pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = labelled("字节数", "Size (bytes)", ge=0)
    payload_base64: str = labelled("原文", "Payload (base64)")
    stage: Literal["intake", "stream"] = labelled("环节", "Stage", "intake")


_example: dict[str, Any] = {
    "warning": "0123456789abcdef0123456789abcdef", "code": "overload", "severity": "high", "subject": "蒙C12345",
    "enterprise": "m01", "site": "m01", "division": "150303", "parameters": {"gross_kg": "52300", "limit_kg": "49000"},
    "rule": "overload", "rule_version": 1, "since": "2026-03-01T02:10:00Z",
}  # fmt: skip


def _warning(type_: str, zh: str, en: str, data: type[EventData]) -> Family:
    return Family(
        type=type_, title=Text(zh, en), data=data, topic=topics.WARNING, writer=Writer.OPERATOR, key="warning",
        example_source="/streams/overload", example_data=_example,
    )  # fmt: skip


FAMILIES = (
    _warning("warning.raised", "预警发布", "Warning raised", WarningRaised),
    _warning("warning.updated", "预警更新", "Warning updated", WarningUpdated),
    _warning("warning.cleared", "预警解除", "Warning cleared", WarningCleared),
    Family(
        type="event.refused",
        title=Text("拒收", "Refused event"),
        data=EventRefused,
        topic=topics.QUARANTINE,
        writer=Writer.OPERATOR,
        example_source="/intake",
        example_data={
            "reason": "unknown-type", "parameters": {"type": "x.y"}, "principal": "demo", "size_bytes": 2,
            "digest": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "payload_base64": "e30=",
        },
    ),
)  # fmt: skip
