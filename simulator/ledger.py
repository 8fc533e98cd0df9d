"""What the platform must show, written down by the city itself while it runs.

Everything is taken from what a device displayed at the moment it displayed it, and from the rules that people published
(docs/simulator.md, "The ledger"). Nothing is recomputed from emitted events and no operator is run, so that
agreement means something. What coal really weighed is not here but in ``simulator.world.World.truth``.

Every entry has ``known_at``: when the last event that it needs left its device. ``as_of(t)`` is the ledger of all that was
sent up to ``t``, whatever the city has done since.
"""

from array import array
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from simulator.almanac import HOUR_MS, day_start
from simulator.city import Device
from simulator.irregular import Planted

__all__ = [
    "Balance",
    "Consumption",
    "FlowKey",
    "Ledger",
    "Overload",
    "Planted",
    "Silence",
    "StockMove",
    "Supply",
    "Ticket",
    "TimeOut",
]

FlowKey = tuple[int, str, str, str, str, str, str, str, str]
"""hour (epoch ms, UTC), enterprise, site, division, direction, commodity, use, origin, destination."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Two crossings that belong together (or one and the registered tare). Times in epoch ms, masses as displayed."""

    enterprise: str
    site: str
    division: str
    plate: str
    direction: str
    gross_kg: int
    tare_kg: int
    gross_time: int
    tare_time: int | None
    tare_source: str
    axles: int
    commodity: str
    use: str
    origin: str
    destination: str
    waybill: str
    known_at: int

    @property
    def net_kg(self) -> int:
        return self.gross_kg - self.tare_kg

    @property
    def hour(self) -> int:
        """Start of the hour that the gross weighing fell in; the same hour in UTC and in Asia/Shanghai."""
        return self.gross_time // HOUR_MS * HOUR_MS

    @property
    def flow_key(self) -> FlowKey:
        return (self.hour, self.enterprise, self.site, self.division, self.direction, self.commodity, self.use, self.origin,
                self.destination)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StockMove:
    """A change of the book stock: belts and surveys; tickets have their own list. A survey's ``mass_kg`` replaces the book."""

    site: str
    commodity: str
    reason: str
    mass_kg: int
    time: int
    known_at: int


@dataclass(frozen=True, slots=True)
class Consumption:
    """What one meter counted between two instants, integer units of ``10 ** -decimals``."""

    meter: str
    quantity: str
    unit: str
    decimals: int
    flow: str
    start: int
    end: int
    amount: int
    reading: str
    known_at: int
    note: str = ""
    """``wrapped``, ``swapped``, ``after-gap`` or ``back-flow``, where the reading was no plain step."""


@dataclass(frozen=True, slots=True)
class Overload:
    """One ticket whose gross is above the limit. ``time``: of the gross weighing. A truck that unloads on a scale has two."""

    plate: str
    site: str
    direction: str
    time: int
    mass_kg: int
    limit_kg: int
    axles: int
    kind: str
    known_at: int


@dataclass(frozen=True, slots=True)
class TimeOut:
    """A laden truck that was never weighed empty. Due 24 h after its crossing (event time)."""

    plate: str
    site: str
    time: int
    due: int
    mass_kg: int
    tare_usable: bool
    known_at: int


@dataclass(frozen=True, slots=True)
class Silence:
    """A device from which nothing came for ``silence_after_s`` or longer: a dead scale, or one behind a dead network.

    ``last`` and ``next`` are when its events around the gap were *sent*: silence is what a listener hears, so a buffer that
    is sent later does not undo it. ``next`` is None while it lasts.
    """

    device: str
    source: str
    site: str
    last: int
    silence_after_s: int
    next: int | None

    @property
    def raised(self) -> int:
        return self.last + self.silence_after_s * 1000


@dataclass(slots=True)
class Supply:
    """A supply (``power``, ``network``) that a device reported as ``backup`` or ``lost``, and as ``ok`` again. ``since`` and
    ``until`` are event times, ``known_at`` and ``until_known`` when the two reports left the device."""

    device: str
    source: str
    site: str
    kind: str
    state: str
    since: int
    known_at: int
    until: int | None = None
    until_known: int | None = None


@dataclass(slots=True)
class Balance:
    """A ledger up to an instant, as plain figures."""

    as_of: int
    accepted: dict[str, int]
    duplicates: int
    refused: int
    weighings: int
    tickets: list[Ticket]
    flows: dict[FlowKey, tuple[int, int]]
    stock: dict[tuple[str, str], int]
    consumption: list[Consumption]
    overloads: list[Overload]
    time_outs: list[TimeOut]
    silences: list[Silence]
    supplies: list[Supply]


class Ledger:
    """Append-only lists, one a figure."""

    TIME_OUT_MS = 24 * HOUR_MS

    def __init__(self, watched: Mapping[str, Device] | None = None) -> None:
        """``watched``: devices with ``silence_after_s``, by id."""
        self._watched = watched or {}
        self._heard: dict[str, int] = {}
        self.supplies: list[Supply] = []
        self.tickets: list[Ticket] = []
        self.moves: list[StockMove] = []
        self.consumption: list[Consumption] = []
        self.overloads: list[Overload] = []
        self.time_outs: list[TimeOut] = []
        self.silences: list[Silence] = []
        self.planted: list[Planted] = []
        self._sent: dict[tuple[str, str], array[int]] = defaultdict(lambda: array("q"))

    def sent(self, at: int, type_: str, expect: str, device: str) -> None:
        """Count one event as it leaves; ``at`` never goes back."""
        self._sent[expect, type_].append(at)
        if expect == "accepted" and (watched := self._watched.get(device)) is not None:
            last = self._heard.get(device, at)
            self._heard[device] = at
            if (silence := self._silence(watched, last, at)) is not None:
                self.silences.append(silence)

    @staticmethod
    def _silence(device: Device, last: int, next_: int | None, at: int | None = None) -> Silence | None:
        """The gap from ``last`` to ``next_`` (or, still open, to ``at``), if it is a silence."""
        assert device.silence_after_s is not None
        end = next_ if next_ is not None else at
        assert end is not None
        if end - last < device.silence_after_s * 1000:
            return None
        return Silence(device.id, device.source, device.site, last, device.silence_after_s, next_)

    def count(self, expect: str, at: int, type_: str | None = None) -> int:
        """Events sent up to ``at`` that were to be ``accepted``, ``duplicate`` or ``refused``."""
        return sum(
            bisect_right(times, at) for (e, t), times in self._sent.items() if e == expect and (type_ is None or t == type_)
        )

    def as_of(self, at: int, *, time_outs: bool = True) -> Balance:
        """All figures as they follow from what was sent up to ``at``.

        Args:
            at: epoch ms.
            time_outs: whether crossings that stayed alone had their 24 h by ``at`` (False: the platform's clock was not
                moved on, as in a history loaded within minutes).
        """
        tickets = [t for t in self.tickets if t.known_at <= at and (time_outs or t.tare_source == "measured")]
        return Balance(
            as_of=at,
            accepted={
                t: n for (e, t), times in sorted(self._sent.items()) if e == "accepted" and (n := bisect_right(times, at))
            },
            duplicates=self.count("duplicate", at),
            refused=self.count("refused", at),
            weighings=self.count("accepted", at, "weighing.measured"),
            tickets=tickets,
            flows=flows_of(tickets),
            stock=self._stock(at, tickets),
            consumption=[c for c in self.consumption if c.known_at <= at],
            overloads=[o for o in self.overloads if o.known_at <= at],
            time_outs=[t for t in self.time_outs if t.due <= at] if time_outs else [],
            silences=self._silences(at),
            supplies=[s for s in self.supplies if s.known_at <= at],
        )

    def _silences(self, at: int) -> list[Silence]:
        """Silences that were raised by ``at``; one that ended later, or has not ended, is open (``next`` None)."""
        known = [replace(s, next=None) if s.next is not None and s.next > at else s for s in self.silences if s.raised <= at]
        for id_, last in self._heard.items():
            if last <= at and (still := self._silence(self._watched[id_], last, None, at)) is not None:
                known.append(still)
        return known

    def _stock(self, at: int, tickets: list[Ticket]) -> dict[tuple[str, str], int]:
        """Book stock per site and commodity: the last survey, and what moved after it."""
        surveyed: dict[tuple[str, str], tuple[int, int]] = {}
        for move in self.moves:
            if move.reason == "survey" and move.known_at <= at:
                surveyed[move.site, move.commodity] = (move.time, move.mass_kg)
        book = {key: mass for key, (_, mass) in surveyed.items()}
        for move in self.moves:
            key = (move.site, move.commodity)
            if move.reason != "survey" and move.known_at <= at and key in book and move.time > surveyed[key][0]:
                book[key] += move.mass_kg
        for ticket in tickets:
            key = (ticket.site, ticket.commodity)
            if key in book and ticket.gross_time > surveyed[key][0]:
                book[key] += ticket.net_kg if ticket.direction == "in" else -ticket.net_kg
        return book

    def summary(self, at: int, *, time_outs: bool = True) -> dict[str, Any]:
        """The ledger as plain dicts, lists, text and integers (JSON has no tuples as keys).

        ``by_enterprise``, ``by_division``, ``by_commodity``, ``by_use``, ``by_hour``, ``by_origin``, ``by_destination`` hold
        ``{key: {"in"|"out": {"net_kg", "tickets"}}}``. They count a delivery at both
        ends when both ends have a scale, as the platform's own tables do.
        """
        balance = self.as_of(at, time_outs=time_outs)

        def group(key: int) -> dict[str, dict[str, dict[str, int]]]:
            sums: dict[str, dict[str, dict[str, int]]] = {}
            for flow, (net, tickets) in balance.flows.items():
                cell = sums.setdefault(str(flow[key]), {}).setdefault(flow[4], {"net_kg": 0, "tickets": 0})
                cell["net_kg"] += net
                cell["tickets"] += tickets
            return {k: sums[k] for k in sorted(sums)}

        per_meter: dict[str, dict[str, int]] = {}
        for c in balance.consumption:
            days = per_meter.setdefault(c.meter, {})
            day = str(day_start(c.start))
            days[day] = days.get(day, 0) + c.amount
        return {
            "as_of": at,
            "accepted": balance.accepted,
            "accepted_total": sum(balance.accepted.values()),
            "duplicates": balance.duplicates,
            "refused": balance.refused,
            "weighings": balance.weighings,
            "tickets": len(balance.tickets),
            "net_in_kg": sum(t.net_kg for t in balance.tickets if t.direction == "in"),
            "net_out_kg": sum(t.net_kg for t in balance.tickets if t.direction == "out"),
            "by_hour": group(0),
            "by_enterprise": group(1),
            "by_division": group(3),
            "by_commodity": group(5),
            "by_use": group(6),
            "by_origin": group(7),
            "by_destination": group(8),
            "flows": [
                {"start": k[0], "enterprise": k[1], "site": k[2], "division": k[3], "direction": k[4], "commodity": k[5],
                 "use": k[6], "origin": k[7], "destination": k[8], "net_kg": net, "tickets": n}
                for k, (net, n) in sorted(balance.flows.items())
            ],
            "stock_kg": {f"{site}/{commodity}": kg for (site, commodity), kg in sorted(balance.stock.items())},
            "consumption_by_day": {m: per_meter[m] for m in sorted(per_meter)},
            "overloads": [{"plate": o.plate, "site": o.site, "time": o.time, "mass_kg": o.mass_kg, "limit_kg": o.limit_kg}
                          for o in balance.overloads],
            "time_outs": [{"plate": t.plate, "site": t.site, "time": t.time, "tare_usable": t.tare_usable}
                          for t in balance.time_outs],
            "silences": [{"device": s.device, "site": s.site, "last": s.last, "raised": s.raised, "next": s.next}
                         for s in balance.silences],
            "supplies": [{"device": s.device, "site": s.site, "kind": s.kind, "state": s.state, "since": s.since,
                          "until": s.until if s.until_known is not None and s.until_known <= at else None}
                         for s in balance.supplies],
            "planted": dict(sorted(Counter(p.kind for p in self.planted if p.start <= at).items())),
        }  # fmt: skip


def flows_of(tickets: Iterable[Ticket]) -> dict[FlowKey, tuple[int, int]]:
    """Net kilograms and number of tickets per flow key."""
    flows: dict[FlowKey, tuple[int, int]] = {}
    for ticket in tickets:
        net, count = flows.get(ticket.flow_key, (0, 0))
        flows[ticket.flow_key] = (net + ticket.net_kg, count + 1)
    return flows
