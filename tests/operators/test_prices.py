"""Prices: against peers, against an index, with hysteresis, and what must not warn."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from hengliu.events.families.registry import RulePublished
from streams.operators.prices import PricePolicy, Prices
from tests.operators.laws import Emitted, Input, run
from tests.operators.strategies import BASE, DAY, HOUR

DEFAULTS = PricePolicy()


class Exchange:
    """Quotes in the order in which they come, an hour apart."""

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self.now = BASE

    def quote(self, market: str, price: int, *, ago: int = 0, division: str = "150303", **data: Any) -> "Exchange":
        self.now += HOUR
        payload = {"commodity": "raw", "market": market, "price_fen_per_t": price, **data}
        id_ = f"q{len(self.inputs)}"
        scope = (market, market, division)
        self.inputs.append(Input("price.quoted", self.now, self.now - ago, payload, f"urn:x:{market}", id_, "raw", scope))
        return self

    def peers(self, *prices: int, **data: Any) -> "Exchange":
        for n, price in enumerate(prices):
            self.quote(f"peer{n}", price, **data)
        return self

    def emitted(self, policy: PricePolicy = DEFAULTS, rules: Sequence[RulePublished] = ()) -> list[Emitted]:
        return run((Prices(policy),), self.inputs, self.now + DAY, rules).emitted


PEERS = (50_000, 51_000, 49_000, 50_500)


def kinds(emitted: Sequence[Emitted]) -> list[tuple[str, str]]:
    return [(e.emit.type.removeprefix("warning."), e.emit.data["severity"]) for e in emitted]


def test_far_from_the_peers_is_raised_updated_and_cleared() -> None:
    market = Exchange().peers(*PEERS).quote("m", 64_000).quote("m", 60_000).quote("m", 56_000)
    found = market.emitted()
    assert kinds(found) == [("raised", "medium"), ("updated", "medium"), ("cleared", "medium")]
    assert found[0].emit.data["parameters"] == {
        "commodity": "raw", "basis": "ex-mine", "price_fen_per_t": "64000", "peers_fen_per_t": "50250", "peers_percent": "27",
        "peers": "4", "peers_of": "division",
    }  # fmt: skip
    assert len({e.emit.data["warning"] for e in found}) == 1
    assert found[0].emit.cause.split(",")[0] == "urn:x:m#q4"
    assert len(found[0].emit.cause.split(",")) == 5
    assert {(e.emit.data["rule"], e.emit.data["subject"]) for e in found} == {("price", "m")}


def test_cheap_is_abnormal_too_and_twice_the_limit_is_high() -> None:
    (raised,) = Exchange().peers(*PEERS).quote("m", 20_000).emitted()
    assert raised.emit.data["severity"] == "high"
    assert raised.emit.data["parameters"]["peers_percent"] == "-60"


@pytest.mark.parametrize(("price", "raises"), [(60_000, False), (60_001, True), (40_000, False), (39_999, True)])
def test_the_limit_holds_to_the_fen(price: int, raises: bool) -> None:
    assert bool(Exchange().peers(50_000, 50_000, 50_000).quote("m", price).emitted()) is raises


def test_the_lower_limit_keeps_a_warning_that_would_not_be_raised() -> None:
    assert Exchange().peers(*PEERS).quote("m", 60_000).emitted() == []
    found = Exchange().peers(*PEERS).quote("m", 64_000).quote("m", 60_000).emitted()
    assert kinds(found) == [("raised", "medium"), ("updated", "medium")]


def test_too_few_peers_and_no_index_give_no_verdict() -> None:
    assert Exchange().peers(50_000, 50_000).quote("m", 500_000).emitted() == []


def test_a_market_is_not_its_own_peer() -> None:
    market = Exchange()
    for _ in range(6):
        market.quote("m", 50_000)
    assert market.quote("m", 500_000).emitted() == []


@pytest.mark.parametrize("other", [{"commodity": "coke"}, {"basis": "delivered"}, {"tax_included": False}])
def test_what_is_not_comparable_is_no_peer(other: dict[str, Any]) -> None:
    """Near miss: coke at four times the price of raw coal; delivered against ex-mine; without tax against with."""
    assert Exchange().peers(*PEERS).quote("m", 200_000, **other).emitted() == []


def test_better_coal_may_cost_more() -> None:
    """Near miss: 40 % dearer per tonne, at 40 % more heat."""
    market = Exchange().peers(*PEERS, heat_kcal_per_kg=4_000)
    assert market.quote("m", 70_000, heat_kcal_per_kg=5_600).emitted() == []
    (raised,) = Exchange().peers(*PEERS, heat_kcal_per_kg=4_000).quote("m", 70_000, heat_kcal_per_kg=4_000).emitted()
    assert raised.emit.data["parameters"]["peers_fen_per_t"] == "50250"


def test_a_market_that_moves_together_does_not_warn() -> None:
    """Near miss: everybody rises by 4 % a day for a fortnight."""
    market, price = Exchange(), 50_000
    for _ in range(14):
        market.peers(price, price + 100, price - 100, price + 50)
        market.now += DAY
        price = price * 104 // 100
    assert market.emitted() == []


def test_old_quotes_are_no_peers() -> None:
    market = Exchange().peers(*PEERS)
    market.now += 8 * DAY
    assert market.quote("m", 64_000).emitted() == []


def test_peers_of_the_division_come_first() -> None:
    market = Exchange().peers(*PEERS, division="150303")
    for n in range(4):
        market.quote(f"far{n}", 80_000 + n * 100, division="640202")
    market.quote("m", 81_000, division="640202").quote("n", 80_000, division="150303")
    (raised,) = [e for e in market.emitted() if e.emit.data["subject"] in ("m", "n")]
    assert raised.emit.data["subject"] == "n"
    assert raised.emit.data["parameters"]["peers_of"] == "division"


def test_a_late_quote_changes_nothing() -> None:
    market = Exchange().peers(*PEERS).quote("m", 50_000).quote("m", 90_000, ago=3 * HOUR)
    assert market.emitted() == []


def test_against_the_quoted_index() -> None:
    market = Exchange().quote("bohai", 50_000, kind="index").quote("m", 70_000).quote("n", 70_001).quote("n", 60_000)
    found = market.emitted(PricePolicy(index_raw=10_000))
    assert [(kind, e.emit.data["subject"]) for (kind, _), e in zip(kinds(found), found, strict=True)] == [
        ("raised", "n"), ("cleared", "n"),
    ]  # fmt: skip
    assert found[0].emit.data["parameters"]["index_of"] == "quoted"


def test_an_index_is_not_judged_and_is_no_peer() -> None:
    market = Exchange().peers(50_000, 50_000).quote("x", 50_000, kind="index").quote("x", 90_000, kind="index")
    assert market.quote("m", 69_000).emitted(PricePolicy(index_percent=10_000)) == []


def test_without_a_quoted_index_the_rules_own_figure_serves() -> None:
    rule = RulePublished(rule="price", version=3, parameters={"index_raw": "50000"})
    (raised,) = Exchange().quote("m", 71_000).emitted(rules=[rule])
    assert raised.emit.data["rule_version"] == 3
    assert raised.emit.data["parameters"]["index_of"] == "rule"


def test_off_both_is_high() -> None:
    (raised,) = Exchange().peers(*PEERS).quote("m", 72_000).emitted(PricePolicy(index_raw=50_000))
    assert raised.emit.data["severity"] == "high"


def test_a_retired_rule_raises_nothing_and_clears_what_stands() -> None:
    market = Exchange().peers(*PEERS).quote("m", 64_000)
    since = datetime.fromtimestamp((market.now + 1) / 1_000, UTC)
    retired = RulePublished(rule="price", version=2, parameters={}, status="retired", valid_from=since)
    found = market.quote("m", 64_500).quote("n", 90_000).emitted(rules=[retired])
    assert kinds(found) == [("raised", "medium"), ("cleared", "medium")]


def test_memory_is_bounded() -> None:
    market = Exchange()
    for n in range(300):
        market.quote(f"m{n}", 50_000)
    (row,) = run((Prices(),), market.inputs, market.now).state["prices", "quotes"].values()
    assert len(row.markets) == 256
