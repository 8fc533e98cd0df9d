"""Shipments: both ends of a load in one row."""

from hengliu.events.family import Text
from projections.queries.parts import DIVISION, ENTERPRISE, PLATE, SITE, integer, text, texts, time
from projections.queries.query import Bounds, NamedQuery, ScopeColumns

__all__ = ["QUERIES"]

SHIPMENTS = NamedQuery(
    name="shipments",
    title=Text("运输", "Shipments"),
    sql="""
SELECT shipment, began, loaded_at, loaded_site, loaded_plate, loaded_kg, loaded_commodity, to_division, unloaded_at,
    unloaded_site, unloaded_plate, unloaded_kg, unloaded_commodity, unloaded_kg - loaded_kg AS difference_kg, loadings,
    unloadings, loaded_ticket, unloaded_ticket
FROM
(
    SELECT shipment, min(at) AS began,
        minOrNullIf(at, loaded) AS loaded_at,
        argMinOrNullIf(place, at, loaded) AS loaded_site,
        argMinOrNullIf(truck, at, loaded) AS loaded_plate,
        argMinOrNullIf(net, at, loaded) AS loaded_kg,
        argMinOrNullIf(coal, at, loaded) AS loaded_commodity,
        argMinOrNullIf(target, at, loaded) AS to_division,
        minOrNullIf(at, NOT loaded) AS unloaded_at,
        argMinOrNullIf(place, at, NOT loaded) AS unloaded_site,
        argMinOrNullIf(truck, at, NOT loaded) AS unloaded_plate,
        argMinOrNullIf(net, at, NOT loaded) AS unloaded_kg,
        argMinOrNullIf(coal, at, NOT loaded) AS unloaded_commodity,
        countIf(loaded) AS loadings,
        countIf(NOT loaded) AS unloadings,
        argMinOrNullIf(paper, at, loaded) AS loaded_ticket,
        argMinOrNullIf(paper, at, NOT loaded) AS unloaded_ticket
    FROM
    (
        SELECT shipment, gross_time AS at, stage = 'loaded' AS loaded, toString(site) AS place, plate AS truck, net_kg AS net,
            toString(commodity) AS coal, destination AS target, ticket AS paper
        FROM shipment_weighed
        WHERE $scope AND $known AND shipment IN (SELECT shipment FROM shipment_weighed WHERE $scope AND $known AND $filters)
    )
    GROUP BY shipment
)""",
    parameters=(ENTERPRISE, SITE, DIVISION, PLATE, texts("shipment", "运输编号", "Shipment")),
    columns=(
        text("shipment", "运输编号", "Shipment"),
        time("began", "开始", "Began"),
        time("loaded_at", "装车时间", "Loaded at", nullable=True),
        text("loaded_site", "装车场所", "Loaded at site", nullable=True),
        text("loaded_plate", "装车车牌", "Loaded by", nullable=True),
        integer("loaded_kg", "装车净重（千克）", "Loaded (kg)", nullable=True),
        text("loaded_commodity", "装车煤种", "Commodity loaded", nullable=True),
        text("to_division", "到达地", "Destination division", nullable=True),
        time("unloaded_at", "卸车时间", "Unloaded at", nullable=True),
        text("unloaded_site", "卸车场所", "Unloaded at site", nullable=True),
        text("unloaded_plate", "卸车车牌", "Unloaded by", nullable=True),
        integer("unloaded_kg", "卸车净重（千克）", "Unloaded (kg)", nullable=True),
        text("unloaded_commodity", "卸车煤种", "Commodity unloaded", nullable=True),
        integer("difference_kg", "差值（千克）", "Difference (kg)", nullable=True),
        integer("loadings", "装车次数", "Loadings"),
        integer("unloadings", "卸车次数", "Unloadings"),
        text("loaded_ticket", "装车磅单", "Loading ticket", nullable=True),
        text("unloaded_ticket", "卸车磅单", "Unloading ticket", nullable=True),
    ),
    scope=ScopeColumns(),
    keyset=("-began", "shipment"),
    bounds=Bounds(default_days=7),
)
"""The filters choose shipments: of each, all ends that the reader may see are shown, also those outside the span. More than one
loading or unloading under one name is counted, and the first shown: enterprises may number their waybills alike, or somebody
uses one twice."""

QUERIES = (SHIPMENTS,)
