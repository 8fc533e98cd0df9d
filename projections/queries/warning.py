"""Where every warning stands, and what was refused."""

from hengliu.events.family import Text
from projections.queries.parts import DIVISION, ENTERPRISE, SITE, integer, json, text, texts, time
from projections.queries.query import Bounds, NamedQuery, QueryParameter, ScopeColumns

__all__ = ["QUERIES"]

WARNINGS = NamedQuery(
    name="warnings",
    title=Text("预警", "Warnings"),
    sql="""
SELECT warning, code, severity, change AS state, subject, enterprise, site, division, parameters, rule, rule_version, since,
    time, known_at
FROM
(
    SELECT warning, code, severity, change, subject, enterprise, site, division, parameters, rule, rule_version, since, time,
        known_at
    FROM warning
    WHERE $known
    ORDER BY warning, src_offset DESC
    LIMIT 1 BY warning
)
WHERE $scope AND $filters""",
    parameters=(
        QueryParameter("state", "texts", Text("状态", "State"), "change IN {p_state:Array(String)}"),
        texts("severity", "级别", "Severity"),
        texts("code", "类型", "Code"),
        ENTERPRISE,
        SITE,
        DIVISION,
        texts("subject", "对象", "Subject"),
        texts("warning", "预警编号", "Warning id"),
    ),
    columns=(
        text("warning", "预警编号", "Warning id"),
        text("code", "类型", "Code"),
        text("severity", "级别", "Severity"),
        text("state", "状态", "State"),
        text("subject", "对象", "Subject"),
        text("enterprise", "企业", "Enterprise"),
        text("site", "场所", "Site"),
        text("division", "行政区划", "Division"),
        json("parameters", "参数", "Parameters"),
        text("rule", "规则", "Rule"),
        integer("rule_version", "规则版本", "Rule version"),
        time("since", "起始时间", "Since"),
        time("time", "时间", "Time"),
        time("known_at", "获知时间", "Known at"),
    ),
    scope=ScopeColumns(),
    keyset=("-time", "warning"),
    bounds=Bounds("since >= $from", "since < $to", default_days=None),
)
"""One row a warning: its latest change, which is the one with the highest offset, since all changes of a warning are written
by one task to one partition. Not bounded by default: an old warning that is still open must not drop out of sight."""

QUARANTINE = NamedQuery(
    name="quarantine",
    title=Text("隔离区", "Quarantine"),
    sql="""
SELECT id, time, known_at, reason, pointer, parameters, refused_source, refused_id, refused_type, principal, digest,
    size_bytes, payload_base64, stage, enterprise, site, division
FROM event_refused
WHERE $scope AND $known AND $filters""",
    parameters=(
        texts("reason", "原因", "Reason"),
        texts("stage", "环节", "Stage"),
        texts("principal", "发送方", "Principal"),
        texts("refused_type", "事件类型", "Type"),
        texts("refused_source", "来源", "Source"),
        texts("id", "编号", "Id"),
    ),
    columns=(
        text("id", "编号", "Id"),
        time("time", "时间", "Time"),
        time("known_at", "获知时间", "Known at"),
        text("reason", "原因", "Reason"),
        text("pointer", "字段", "Field (JSON pointer)"),
        json("parameters", "参数", "Parameters"),
        text("refused_source", "来源", "Source", nullable=True),
        text("refused_id", "编号", "Id of the refused event", nullable=True),
        text("refused_type", "事件类型", "Type", nullable=True),
        text("principal", "发送方", "Principal"),
        text("digest", "摘要", "SHA-256"),
        integer("size_bytes", "字节数", "Size (bytes)"),
        text("payload_base64", "原文", "Payload (base64)"),
        text("stage", "环节", "Stage"),
        text("enterprise", "企业", "Enterprise"),
        text("site", "场所", "Site"),
        text("division", "行政区划", "Division"),
    ),
    scope=ScopeColumns(),
    keyset=("-time", "id"),
    bounds=Bounds(default_days=30),
)

QUERIES = (WARNINGS, QUARANTINE)
