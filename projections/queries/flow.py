"""Tonnage: panes added up by whatever the reader asks for."""

# ruff: noqa: S608  (the pieces are constants of this package; values are bound by name)

from hengliu.events.family import Text
from projections.queries.parts import COMMODITY, DIVISION, ENTERPRISE, SITE, USE, integer, latest, text, texts, time
from projections.queries.query import Bounds, NamedQuery, QueryParameter, ScopeColumns

__all__ = ["QUERIES"]

_INSIDE = f"(SELECT division FROM {latest('district_registered', 'division', 'division, inside')} WHERE inside)"
"""Divisions of the city, as known then; a division that nobody has registered lies outside."""

FLOWS = NamedQuery(
    name="flows",
    title=Text("流量", "Flows"),
    sql="""
SELECT g_start AS start, g_enterprise AS enterprise, g_division AS division, g_commodity AS commodity, g_use AS use,
    g_direction AS direction, g_origin AS origin, g_destination AS destination, g_net AS net_kg, g_tickets AS tickets
FROM
(
    SELECT
        if({by_hour:Bool}, start, NULL) AS g_start,
        if({by_enterprise:Bool}, toString(enterprise), NULL) AS g_enterprise,
        if({by_division:Bool}, toString(division), NULL) AS g_division,
        if({by_commodity:Bool}, toString(commodity), NULL) AS g_commodity,
        if({by_use:Bool}, toString(use), NULL) AS g_use,
        if({by_direction:Bool}, toString(direction), NULL) AS g_direction,
        if({by_origin:Bool}, origin, NULL) AS g_origin,
        if({by_destination:Bool}, destination, NULL) AS g_destination,
        sum(net_kg) AS g_net,
        sum(tickets) AS g_tickets
    FROM flow_summed
    WHERE $scope AND $known AND $filters AND $city
    GROUP BY g_start, g_enterprise, g_division, g_commodity, g_use, g_direction, g_origin, g_destination
    HAVING g_net != 0 OR g_tickets != 0
)""",
    parameters=(
        ENTERPRISE,
        SITE,
        DIVISION,
        COMMODITY,
        USE,
        texts("direction", "方向", "Direction"),
        texts("origin", "起运地", "Origin division"),
        texts("destination", "到达地", "Destination division"),
        QueryParameter(
            "city",
            "choice",
            Text("进出本市（按起运地）", "Into or out of the city (by origin)"),
            slot="city",
            choices={
                "in": f"(origin IS NOT NULL AND origin NOT IN {_INSIDE})",
                "out": f"(origin IN {_INSIDE})",
            },
        ),
        QueryParameter(
            "group",
            "subset",
            Text("分组", "Group by"),
            choices=dict.fromkeys(
                ("hour", "enterprise", "division", "commodity", "use", "direction", "origin", "destination"), ""
            ),
            default="hour,enterprise,division,commodity,use,direction",
        ),
    ),
    columns=(
        time("start", "小时", "Hour", nullable=True),
        text("enterprise", "企业", "Enterprise", nullable=True),
        text("division", "行政区划", "Division", nullable=True),
        text("commodity", "煤种", "Commodity", nullable=True),
        text("use", "用途", "Use", nullable=True),
        text("direction", "方向", "Direction", nullable=True),
        text("origin", "起运地", "Origin division", nullable=True),
        text("destination", "到达地", "Destination division", nullable=True),
        integer("net_kg", "净重（千克）", "Net (kg)"),
        integer("tickets", "单数", "Tickets"),
    ),
    scope=ScopeColumns(),
    keyset=("-start", "enterprise", "division", "commodity", "use", "direction", "origin", "destination"),
    bounds=Bounds("start >= $from", "start < $to", default_days=7),
)
"""What is not in ``group`` is null in the rows. Groups that corrections brought to nothing are left out: they did not
happen, which is not a flow of zero."""

QUERIES = (FLOWS,)
