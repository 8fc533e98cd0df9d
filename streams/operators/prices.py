"""Prices: a quote against what others quote for the same coal, and against an index.

Comparable is what has the same commodity, basis and tax. Where both sides state a calorific value, a peer's price is taken
to the quote's own (price times heat over heat): coal is paid by its heat. *Peers* are the latest quotes of the other markets
within the window around the quote's time; those of the quote's division where they are enough, else all. An *index* is the
median of the latest quotes of kind ``index``; without one, the rule's own figure; without that there is no verdict on it.

A quote is judged when it comes. One older than the last of its market changes nothing. A warning is of one market and coal, is
updated while its quotes stay off, and cleared by the first that is back within the lower limits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import Scratch, State
from streams.operators.records import Event, Scope, time_of, warning, warning_id
from streams.rules.policy import parameter, policy_of

__all__ = ["Market", "PricePolicy", "Prices", "Quotes"]

_QUOTES = "quotes"
_MAX_MARKETS = 256


def _index(zh: str, en: str) -> Any:
    return parameter(
        0, unit="fen/t", zh=f"{zh}价格指数（0 为无）", en=f"Index of {en} (0: none)", minimum=0, maximum=1_000_000_000
    )


@dataclass(frozen=True, slots=True)
class PricePolicy:
    """Parameters of rule ``price``. An ``index_…`` holds where no index is quoted, for any basis and heat."""

    rule: ClassVar[str] = "price"
    RULE_VERSION: ClassVar[int] = 1

    peers_percent: int = parameter(
        20, unit="%", zh="与同类中位数偏差阈值", en="Deviation from the peers that raises", minimum=1, maximum=10_000
    )
    peers_clear_percent: int = parameter(
        12, unit="%", zh="与同类中位数偏差解除值", en="Deviation from the peers that clears", minimum=0, maximum=10_000
    )
    index_percent: int = parameter(
        40, unit="%", zh="与指数偏差阈值", en="Deviation from the index that raises", minimum=1, maximum=10_000
    )
    index_clear_percent: int = parameter(
        30, unit="%", zh="与指数偏差解除值", en="Deviation from the index that clears", minimum=0, maximum=10_000
    )
    min_peers: int = parameter(3, zh="最少同类报价数", en="Least number of peers", minimum=1, maximum=255)
    window_s: int = parameter(
        604_800, unit="s", zh="同类报价时间窗", en="Window of the peers", minimum=3_600, maximum=31_536_000
    )
    index_window_s: int = parameter(
        2_592_000, unit="s", zh="指数有效时间", en="How long an index quote holds", minimum=3_600, maximum=31_536_000
    )
    index_raw: int = _index("原煤", "raw coal")
    index_cleaned: int = _index("洗精煤", "cleaned coal")
    index_middlings: int = _index("中煤", "middlings")
    index_slime: int = _index("煤泥", "slime")
    index_gangue: int = _index("矸石", "gangue")
    index_coke: int = _index("焦炭", "coke")
    index_anthracite: int = _index("无烟煤", "anthracite")
    index_lignite: int = _index("褐煤", "lignite")
    index_other: int = _index("其他煤", "other coal")


class _Quote(msgspec.Struct, frozen=True):
    commodity: str
    market: str
    price_fen_per_t: int
    basis: str = "ex-mine"
    tax_included: bool = True
    heat_kcal_per_kg: int | None = None
    kind: str = "quote"


class Market(msgspec.Struct, frozen=True):
    """The latest quote of one market, and its warning if one stands (``warning`` empty: none)."""

    time: int
    price: int
    heat: int
    division: str
    index: bool
    id: str
    warning: str = ""
    since: int = 0
    changes: int = 0


class Quotes(msgspec.Struct, frozen=True):
    """Markets of one kind of coal by name; at most 256 (about 40 KB), the one heard longest ago gives way."""

    markets: dict[str, Market]


class _Verdict(NamedTuple):
    """``level``: 2 beyond a limit, 1 between the lower and the upper one, 0 within, None: nothing to compare with."""

    level: int | None
    severe: bool
    parameters: dict[str, str]
    evidence: tuple[str, ...]


class Prices:
    """``price.quoted`` to ``warning.raised``, ``.updated`` and ``.cleared``, code ``price-abnormal``."""

    name: Final = "prices"
    version: Final = 1
    inputs: Final = frozenset({"price.quoted"})
    emits: Final = frozenset({"warning.raised", "warning.updated", "warning.cleared"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_QUOTES: Quotes}

    _decoders: Final = {"price.quoted": msgspec.json.Decoder(Event[_Quote])}

    def __init__(self, policy: PricePolicy = PricePolicy()) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        events: list[Emit] = []
        for row, quote in batch.decode(self._decoders):
            events += self._quote(scratch, state, batch, row, quote)
        return Effects(events, scratch.changes)

    def _quote(self, scratch: Scratch, state: State, batch: Batch, row: int, quote: Event[_Quote]) -> Iterator[Emit]:
        data, scope = quote.data, batch.scopes[row]
        time = time_of(quote, batch.received[row])
        key = f"{data.commodity}\x1f{data.basis}\x1f{data.tax_included:d}"
        name = f"{'index' if data.kind == 'index' else 'quote'}\x1f{data.market}"
        markets: dict[str, Market] = dict(getattr(scratch.get(_QUOTES, key), "markets", {}))
        known = markets.get(name)
        if known is not None and time < known.time:
            return
        now = Market(time, data.price_fen_per_t, data.heat_kcal_per_kg or 0, scope[2], data.kind == "index", batch.origins[row])
        if known is not None:
            now = msgspec.structs.replace(now, warning=known.warning, since=known.since, changes=known.changes)
        if not now.index:
            found = policy_of(state, self._policy, time)
            policy, version = found or (self._policy, self._policy.RULE_VERSION)
            others = {n: m for n, m in markets.items() if n != name}
            verdict = _judge(data, now, others, policy) if found is not None else _Verdict(0, False, {}, ())
            change, now = _next(now, verdict, warning_id(self.name, self.version, quote.source, quote.id))
            if change:
                yield self._warning(change, data, now, verdict, scope, batch, row, version)
            if change == "cleared":
                now = msgspec.structs.replace(now, warning="", since=0, changes=0)
        markets[name] = now
        if len(markets) > _MAX_MARKETS:
            del markets[min(markets, key=lambda n: (markets[n].time, n))]
        scratch.put(_QUOTES, key, Quotes(markets))

    def _warning(
        self, change: str, data: _Quote, now: Market, verdict: _Verdict, scope: Scope, batch: Batch, row: int, version: int
    ) -> Emit:
        return warning(
            change,
            now.warning,
            "price-abnormal",
            severity="high" if verdict.severe else "medium",
            subject=data.market,
            scope=scope,
            parameters={
                "commodity": data.commodity,
                "basis": data.basis,
                "price_fen_per_t": str(data.price_fen_per_t),
                **verdict.parameters,
            },
            since=now.since,
            time=now.time,
            at=batch.received[row],
            known_at=batch.known_at(row),
            cause=",".join((now.id, *verdict.evidence)),
            rule=self._policy.rule,
            rule_version=version,
            sequence=now.changes,
        )


def _next(now: Market, verdict: _Verdict, id_: str) -> tuple[str, Market]:
    """What changes with the verdict: nothing, or the life of the market's warning."""
    if not now.warning:
        return ("raised", msgspec.structs.replace(now, warning=id_, since=now.time)) if verdict.level == 2 else ("", now)
    if verdict.level is None:
        return "", now
    return "updated" if verdict.level else "cleared", msgspec.structs.replace(now, changes=now.changes + 1)


def _judge(data: _Quote, now: Market, others: Mapping[str, Market], policy: PricePolicy) -> _Verdict:
    parameters: dict[str, str] = {}
    levels: list[int] = []
    severe: list[bool] = []

    def against(what: str, price: int, limit: int, clear: int) -> None:
        percent = abs(now.price - price) * 100 // price
        parameters[f"{what}_fen_per_t"] = str(price)
        parameters[f"{what}_percent"] = str(percent if now.price >= price else -percent)
        # Multiplied out: a percentage cut to whole ones would let a quote just over a limit pass.
        off = abs(now.price - price) * 100
        levels.append(2 if off > limit * price else 1 if off > clear * price else 0)
        severe.append(off > 2 * limit * price)

    near = [m for m in others.values() if not m.index and abs(m.time - now.time) <= policy.window_s * 1000]
    local = [m for m in near if m.division == now.division]
    peers = local if len(local) >= policy.min_peers else near
    evidence: tuple[str, ...] = ()
    if len(peers) >= policy.min_peers and (price := _median([_at_heat(m, now) for m in peers])):
        against("peers", price, policy.peers_percent, policy.peers_clear_percent)
        parameters |= {"peers": str(len(peers)), "peers_of": "division" if peers is local else "all"}
        evidence = tuple(m.id for m in sorted(peers, key=lambda m: (-m.time, m.id))[:7])
    indices = [m for m in others.values() if m.index and 0 <= now.time - m.time <= policy.index_window_s * 1000]
    index = _median([_at_heat(m, now) for m in indices]) if indices else getattr(policy, f"index_{data.commodity}")
    if index:
        against("index", index, policy.index_percent, policy.index_clear_percent)
        parameters["index_of"] = "quoted" if indices else "rule"
    return _Verdict(max(levels, default=None), any(severe) or levels == [2, 2], parameters, evidence)


def _at_heat(market: Market, now: Market) -> int:
    """A market's price at the calorific value of another quote, where both state one; rounded down to whole fen."""
    return market.price * now.heat // market.heat if market.heat and now.heat else market.price


def _median(values: list[int]) -> int:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2
