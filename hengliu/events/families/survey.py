"""What people measure and report: stocks and prices."""

from typing import Literal

from hengliu.events import topics
from hengliu.events.families.common import Commodity, Scoped, UtcTime, labelled
from hengliu.events.family import EventData, Family, Text, Writer
from hengliu.events.quantities import Identifier


class StockSurveyed(EventData):
    """Coal found on a yard at the event's time (盘煤)."""

    site: Identifier = labelled("场所", "Site")
    commodity: Commodity = labelled("煤种", "Commodity")
    mass_kg: int = labelled("库存（千克）", "Stock (kg)", ge=0, le=10**12)
    method: Literal["laser", "drone", "manual", "opening"] = labelled("方法", "Method", "manual")


class StockMoved(Scoped):
    """A change of the book stock of one site and commodity: by tickets, by a belt, or to what a survey found."""

    commodity: Commodity = labelled("煤种", "Commodity")
    delta_kg: int = labelled("变化（千克）", "Change (kg)")
    reason: Literal["received", "dispatched", "produced", "consumed", "survey"] = labelled("原因", "Reason")
    start: UtcTime = labelled("小时", "Hour")


class PriceQuoted(EventData):
    """A price of one commodity on one market, in fen per tonne."""

    commodity: Commodity = labelled("煤种", "Commodity")
    market: Identifier = labelled("市场", "Market")
    price_fen_per_t: int = labelled("价格（分/吨）", "Price (fen/t)", ge=0, le=10**9)
    basis: Literal["ex-mine", "delivered", "futures-close"] = labelled("计价方式", "Basis", "ex-mine")
    tax_included: bool = labelled("含税", "Tax included", True)
    heat_kcal_per_kg: int | None = labelled("发热量（千卡/千克）", "Calorific value (kcal/kg)", None, ge=0, le=9000)
    kind: Literal["quote", "index"] = labelled("报价类别", "Kind", "quote")
    """``index``: not what anybody asks or pays, but what an index says of the market."""


FAMILIES = (
    Family(
        type="stock.surveyed",
        title=Text("盘煤", "Stock survey"),
        data=StockSurveyed,
        topic=topics.SURVEY,
        routes={topics.BY_SITE: "site"},
        example_source="urn:dev:org:32473-yard-m01",
        example_data={"site": "m01", "commodity": "raw", "mass_kg": 18_500_000, "method": "drone"},
    ),
    Family(
        type="stock.moved",
        title=Text("库存变动", "Stock movement"),
        data=StockMoved,
        topic=topics.STOCK,
        writer=Writer.OPERATOR,
        key="site",
        example_source="/streams/stock",
        example_data={"enterprise": "m01", "site": "m01", "division": "150303", "commodity": "raw",
                      "delta_kg": -33_620, "reason": "dispatched", "start": "2026-03-01T02:00:00Z"},
    ),
    Family(
        type="price.quoted",
        title=Text("报价", "Price quote"),
        data=PriceQuoted,
        topic=topics.SURVEY,
        routes={topics.BY_COMMODITY: "commodity"},
        example_source="urn:dev:org:32473-market-wh",
        example_data={"commodity": "raw", "market": "wuhai", "price_fen_per_t": 52_000, "heat_kcal_per_kg": 5000},
    ),
)  # fmt: skip
