"""The figures at the head of the page: one row, for the Asia/Shanghai day of ``now``."""

# ruff: noqa: S608  (the pieces are constants of this package; values are bound by name)

from hengliu.events.family import Text
from projections.queries.parts import integer, latest, time
from projections.queries.query import SHANGHAI_MS, NamedQuery, QueryParameter, ScopeColumns
from projections.table import week

__all__ = ["QUERIES"]

_DAY = 86_400_000
_START_MS = f"(intDiv({{p_now:Int64}} + {SHANGHAI_MS}, {_DAY}) * {_DAY} - {SHANGHAI_MS})"


def _today(column: str) -> str:
    """The week is implied, and repeated for the sorting keys that begin with it."""
    start = f"fromUnixTimestamp64Milli({_START_MS}, 'UTC')"
    return (
        f"({column} >= {start} AND {week(column)} >= {week(start)} "
        f"AND {column} < fromUnixTimestamp64Milli({_START_MS} + {_DAY}, 'UTC'))"
    )


_WEEK_AGO = f"fromUnixTimestamp64Milli({_START_MS} - 7 * {_DAY}, 'UTC')"
_RECENT = f"(time >= {_WEEK_AGO} AND {week('time')} >= {week(_WEEK_AGO)})"
_FLOWS = f"FROM flow_summed WHERE $scope AND $known AND {_today('start')}"


_KNOWN = "\n        UNION ALL\n        ".join(
    f"SELECT maxOrNull(known_at) AS latest FROM {table} WHERE $scope AND $known AND {_RECENT}"
    for table in ("weighing_measured", "weighing_recorded", "consumption_recorded", "stock_moved")
)

OVERVIEW = NamedQuery(
    name="overview",
    title=Text("总览", "Overview"),
    sql=f"""
SELECT
    (SELECT toInt64(sum(tickets)) AS n {_FLOWS}) AS tickets_today,
    (SELECT toInt64(sumIf(net_kg, direction = 'out')) AS n {_FLOWS}) AS net_out_kg_today,
    (SELECT toInt64(sumIf(net_kg, direction = 'in')) AS n {_FLOWS}) AS net_in_kg_today,
    (SELECT toInt64(count()) AS n FROM weighing_measured WHERE $scope AND $known AND {_today("time")}) AS weighings_today,
    (
        SELECT toInt64(count()) AS n FROM
        (
            SELECT change, enterprise, division FROM warning WHERE $known ORDER BY warning, src_offset DESC LIMIT 1 BY warning
        )
        WHERE change != 'cleared' AND $scope
    ) AS warnings_open,
    (
        SELECT toInt64(count()) AS n FROM
        (
            SELECT s.enterprise AS enterprise, s.division AS division
            FROM {latest("device_registered", "device", "device, site")} AS d
            LEFT JOIN {latest("site_registered", "site", "site, enterprise, division")} AS s ON d.site = s.site
        )
        WHERE $scope
    ) AS devices,
    (
        SELECT toInt64(count()) AS n FROM {latest("site_registered", "site", "site, enterprise, division")} WHERE $scope
    ) AS sites,
    (
        SELECT max(latest) AS latest FROM
        (
        {_KNOWN}
        )
    ) AS last_known_at""",
    parameters=(QueryParameter("now", "time", Text("现在", "Now"), required=True),),
    columns=(
        integer("tickets_today", "今日磅单", "Tickets today"),
        integer("net_out_kg_today", "今日发出（千克）", "Sent today (kg)"),
        integer("net_in_kg_today", "今日收到（千克）", "Received today (kg)"),
        integer("weighings_today", "今日过磅", "Weighings today"),
        integer("warnings_open", "未解除预警", "Open warnings"),
        integer("devices", "设备", "Devices"),
        integer("sites", "场所", "Sites"),
        time("last_known_at", "数据截至", "Data as of", nullable=True),
    ),
    scope=ScopeColumns(),
    keyset=(),
)
"""Tickets and tonnage count in the hour of the gross weighing. ``last_known_at`` is the latest receive time among what
happened in the last week; null when nothing did."""

QUERIES = (OVERVIEW,)
