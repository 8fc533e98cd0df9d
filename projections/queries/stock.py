"""Book stock by site and commodity: the sum of its movements."""

from hengliu.events.family import Text
from projections.queries.parts import COMMODITY, DIVISION, ENTERPRISE, SITE, boolean, integer, text, time
from projections.queries.query import NamedQuery, ScopeColumns

__all__ = ["QUERIES"]

STOCKS = NamedQuery(
    name="stocks",
    title=Text("库存", "Stocks"),
    sql="""
SELECT site, enterprise, division, commodity, sum(delta_kg) AS mass_kg, toBool(countIf(reason = 'survey') > 0) AS known,
    max(at) AS as_of
FROM
(
    SELECT site, enterprise, division, commodity, delta_kg, reason, known_at AS at FROM stock_moved
    WHERE $scope AND $known AND $filters
)
GROUP BY site, enterprise, division, commodity""",
    parameters=(SITE, ENTERPRISE, DIVISION, COMMODITY),
    columns=(
        text("site", "场所", "Site"),
        text("enterprise", "企业", "Enterprise"),
        text("division", "行政区划", "Division"),
        text("commodity", "煤种", "Commodity"),
        integer("mass_kg", "库存（千克）", "Stock (kg)"),
        boolean("known", "有盘点依据", "Rests on a survey"),
        time("as_of", "截至", "As of"),
    ),
    scope=ScopeColumns(),
    keyset=("site", "commodity", "enterprise", "division"),
)
"""``known``: a survey or opening has set the stock; without one ``mass_kg`` is only what moved since records began.
``as_of`` is the latest receive time among the movements."""

QUERIES = (STOCKS,)
