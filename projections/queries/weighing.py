"""Weighings and tickets, newest first."""

from hengliu.events.family import Text
from projections.queries.parts import COMMODITY, DIVISION, ENTERPRISE, PLATE, SITE, USE, bound, integer, text, texts, time
from projections.queries.query import Bounds, NamedQuery, ScopeColumns

__all__ = ["QUERIES"]

_SCOPE_COLUMNS = (
    text("enterprise", "企业", "Enterprise"),
    text("site", "场所", "Site"),
    text("division", "行政区划", "Division"),
)

WEIGHINGS = NamedQuery(
    name="weighings",
    title=Text("过磅记录", "Weighings"),
    sql="""
SELECT id, source, time, known_at, plate, mass_kg, axles, commodity, use, enterprise, site, division
FROM weighing_measured
WHERE $scope AND $known AND $filters""",
    parameters=(ENTERPRISE, SITE, DIVISION, PLATE, COMMODITY, USE, texts("source", "来源", "Source")),
    columns=(
        text("id", "编号", "Id"),
        text("source", "来源", "Source"),
        time("time", "时间", "Time"),
        time("known_at", "获知时间", "Known at"),
        text("plate", "车牌号", "Plate"),
        integer("mass_kg", "重量（千克）", "Mass (kg)"),
        integer("axles", "轴数", "Axles", nullable=True),
        text("commodity", "煤种", "Commodity", nullable=True),
        text("use", "用途", "Use", nullable=True),
        *_SCOPE_COLUMNS,
    ),
    scope=ScopeColumns(),
    keyset=("-time", "source", "id"),
    bounds=Bounds(default_days=7),
)

TICKETS = NamedQuery(
    name="tickets",
    title=Text("磅单", "Weighing tickets"),
    sql="""
SELECT id, time, known_at, plate, direction, gross_kg, tare_kg, net_kg, gross_time, tare_time, tare_source, commodity, use,
    origin, destination, enterprise, site, division, cause, corrects
FROM weighing_recorded
WHERE $scope AND $known AND $filters""",
    parameters=(
        ENTERPRISE,
        SITE,
        DIVISION,
        PLATE,
        COMMODITY,
        USE,
        texts("direction", "方向", "Direction"),
        # Tonnage counts a ticket in the hour of its gross weighing; its own time may be that of the tare, hours later.
        bound("gross_from", "毛重时间自", "Gross from", "gross_time", ">="),
        bound("gross_to", "毛重时间至", "Gross to", "gross_time", "<"),
    ),
    columns=(
        text("id", "编号", "Id"),
        time("time", "时间", "Time"),
        time("known_at", "获知时间", "Known at"),
        text("plate", "车牌号", "Plate"),
        text("direction", "方向", "Direction"),
        integer("gross_kg", "毛重（千克）", "Gross (kg)"),
        integer("tare_kg", "皮重（千克）", "Tare (kg)"),
        integer("net_kg", "净重（千克）", "Net (kg)"),
        time("gross_time", "毛重时间", "Gross at"),
        time("tare_time", "皮重时间", "Tare at", nullable=True),
        text("tare_source", "皮重来源", "Tare from"),
        text("commodity", "煤种", "Commodity"),
        text("use", "用途", "Use"),
        text("origin", "起运地", "Origin division", nullable=True),
        text("destination", "到达地", "Destination division", nullable=True),
        *_SCOPE_COLUMNS,
        text("cause", "依据", "Cause"),
        text("corrects", "更正", "Corrects"),
    ),
    scope=ScopeColumns(),
    keyset=("-time", "id"),
    bounds=Bounds(default_days=7),
)

QUERIES = (WEIGHINGS, TICKETS)
