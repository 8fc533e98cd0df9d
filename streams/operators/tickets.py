"""Tickets: gross and tare of one vehicle at one site become ``weighing.recorded``.

What waits is a list of open crossings per (plate, site). A crossing that arrives, whatever its event time:

1. is a *repeat* when an open crossing lies within 10 minutes of it and less than 100 kg away: the later of the two by event
   time stays open, with both as causes. When it repeats a crossing that already made a ticket, it is absorbed: the slip is
   in the driver's hand and stands;
2. else pairs with an open crossing within 24 hours of it whose mass differs by the least net mass or more (500 kg, and a
   tenth of the heavier one: two laden crossings of one vehicle differ by a few per cent, and their difference is no load):
   the nearest before it in event time, or if there is none, the nearest after it. The lighter one is the tare. Tare first
   means direction ``out``, gross first ``in``. What the two say of the load must let them be one visit: two waybills are two
   loads, and who brings a load from elsewhere (or to a works that only receives) is empty after it, not before. Else one
   crossing that went missing would shift every later pair of the vehicle by one;
3. else waits. Two crossings of about equal mass more than 10 minutes apart both wait: the scale between them may be off line
   and its crossing still to come, and the nearest-before rule then gives each its own partner.

So in-order input pairs as a person would pair it, and a scale that was off line for some hours and then sends in its own
order gets the tickets that it would have got on line; nothing needs correction. (Newest first would be paired wrongly: a
device sends its buffer oldest first.)

A crossing waits until its receive time plus 24 hours of recorded time; loading old files therefore times nothing out early.
Then the registered tare serves if the vehicle may use it, else ``tare-missing`` is raised; a crossing that is known to be
empty and never met its gross raises ``gross-missing``. More than 16 open crossings of one plate at one site: the oldest by
event time is treated as timed out at once, so that memory stays bounded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import msgspec

from hengliu.events.envelope import iso_ms
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.reference import Reference
from streams.kernel.state import Scratch, State
from streams.operators.places import lies_in
from streams.operators.records import DAY_MS, Event, join_causes, time_of, warning, warning_id
from streams.operators.timers import TIMER_TABLE, TimerRow, Timers
from streams.rules.policy import parameter, policy_in

__all__ = ["Crossing", "TicketPolicy", "Tickets", "Waiting"]

_WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class TicketPolicy:
    """Parameters of rule ``tickets``. Its defaults are version 0: no regulation numbers them."""

    rule: ClassVar[str] = "tickets"
    RULE_VERSION: ClassVar[int] = 0

    pair_within_s: int = parameter(
        86_400, unit="s", zh="毛重与皮重最长间隔", en="Longest time between gross and tare", minimum=1, maximum=2_592_000
    )
    repeat_within_s: int = parameter(
        600, unit="s", zh="视为重复过磅的间隔", en="Time within which a crossing repeats another", minimum=0, maximum=86_400
    )
    repeat_below_kg: int = parameter(
        100,
        unit="kg",
        zh="视为重复过磅的差值",
        en="Difference below which a crossing repeats another",
        minimum=0,
        maximum=10_000,
    )
    min_net_kg: int = parameter(500, unit="kg", zh="最小净重", en="Least net mass", minimum=1, maximum=50_000)
    min_net_percent: int = parameter(
        10, unit="%", zh="最小净重占毛重比例", en="Least net mass as a share of the gross", minimum=0, maximum=100
    )
    timeout_s: int = parameter(
        86_400, unit="s", zh="等待配对时限", en="How long a crossing waits", minimum=60, maximum=2_592_000
    )


_RECEIVERS = ("power", "chemical")
"""Kinds of works that coal goes into and never leaves."""
_MAX_OPEN = 16
_MAX_PAIRED = 6


class _Weighing(msgspec.Struct, frozen=True):
    plate: str
    mass_kg: int
    axles: int | None = None
    commodity: str | None = None
    use: str | None = None
    origin: str | None = None
    destination: str | None = None
    waybill: str | None = None


class Crossing(msgspec.Struct, frozen=True):
    """One crossing of a scale that waits. ``deadline`` is ms of recorded time; ``minimum`` the least net mass, kg."""

    source: str
    id: str
    time: int
    mass_kg: int
    scope: tuple[str, str, str]
    deadline: int
    known_at: int
    causes: tuple[str, ...]
    minimum: int
    rule_version: int
    axles: int | None = None
    commodity: str | None = None
    use: str | None = None
    origin: str | None = None
    destination: str | None = None
    waybill: str | None = None

    @property
    def order(self) -> tuple[int, str, str]:
        """Event time first; the identity breaks ties the same way in every run."""
        return self.time, self.source, self.id


class Waiting(msgspec.Struct, frozen=True):
    """What is held of one (plate, site): open crossings by event time, the last paired (time, kg), and when last touched."""

    open: tuple[Crossing, ...]
    paired: tuple[tuple[int, int], ...]
    touched: int


_NOTHING: Final = Waiting((), (), 0)


class Tickets:
    """``weighing.measured`` to ``weighing.recorded``; ``warning.raised`` codes ``tare-missing`` and ``gross-missing``."""

    name: Final = "tickets"
    version: Final = 2  # two waybills are no pair, nor is a tare before a load that came from elsewhere; assumed commodities
    inputs: Final = frozenset({"weighing.measured"})
    emits: Final = frozenset({"weighing.recorded", "warning.raised"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_WAITING: Waiting, TIMER_TABLE: TimerRow}

    _decoders: Final = {"weighing.measured": msgspec.json.Decoder(Event[_Weighing])}

    def __init__(self, policy: TicketPolicy = TicketPolicy()) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        timers = Timers(scratch)
        events: list[Emit] = []
        for row, event in batch.decode(self._decoders):
            events += self._fire(scratch, timers, state.reference, batch.received[row])
            events += self._arrive(scratch, timers, state.reference, batch, row, event)
        events += self._fire(scratch, timers, state.reference, batch.clock)
        timers.save()
        return Effects(events, scratch.changes)

    def _arrive(
        self, scratch: Scratch, timers: Timers, reference: Reference, batch: Batch, row: int, event: Event[_Weighing]
    ) -> Iterator[Emit]:
        received = batch.received[row]
        time = time_of(event, received)
        # Retired or not: pairing is no judgement that could be left off.
        policy, rule_version = policy_in(reference, self._policy, time) or (self._policy, self._policy.RULE_VERSION)
        data = event.data
        crossing = Crossing(
            event.source, event.id, time, data.mass_kg, batch.scopes[row], received + policy.timeout_s * 1000,
            batch.known_at(row), (batch.origins[row],), policy.min_net_kg, rule_version,
            data.axles, data.commodity, data.use, data.origin, data.destination, data.waybill,
        )  # fmt: skip
        key = f"{data.plate}\x1f{crossing.scope[1]}"
        waiting: Waiting = scratch.get(_WAITING, key) or _NOTHING
        timers.set(crossing.deadline, key)
        timers.set(received + DAY_MS, key)
        open_, paired = waiting.open, waiting.paired

        within, below = policy.repeat_within_s * 1000, policy.repeat_below_kg
        repeated = next((o for o in open_ if abs(o.time - time) <= within and abs(o.mass_kg - data.mass_kg) < below), None)
        if repeated is not None:
            open_ = _with(_without(open_, repeated), _merged(repeated, crossing))
        elif any(abs(t - time) <= within and abs(kg - data.mass_kg) < below for t, kg in _beside(paired, time)):
            pass  # it repeats a crossing whose ticket is out
        elif (partner := _partner(reference, open_, crossing, policy)) is not None:
            open_ = _without(open_, partner)
            newest = max(partner.time, time)
            recent = [p for p in paired if newest - p[0] <= DAY_MS]
            paired = tuple([*recent, (partner.time, partner.mass_kg), (time, data.mass_kg)][-_MAX_PAIRED:])
            yield _ticket(reference, data.plate, crossing, partner, received)
        else:
            open_ = _with(open_, crossing)
            if len(open_) > _MAX_OPEN:
                oldest, open_ = open_[0], open_[1:]
                yield self._give_up(reference, data.plate, oldest, received)
        scratch.put(_WAITING, key, Waiting(open_, paired, received))

    def _fire(self, scratch: Scratch, timers: Timers, reference: Reference, until: int) -> Iterator[Emit]:
        while (timer := timers.pop(until)) is not None:
            due, key = timer
            waiting: Waiting | None = scratch.get(_WAITING, key)
            if waiting is None:
                continue
            left = tuple(c for c in waiting.open if c.deadline > due)
            for crossing in waiting.open:
                if crossing.deadline <= due:
                    yield self._give_up(reference, key.split("\x1f")[0], crossing, due)
            if not left and waiting.touched + DAY_MS <= due:
                scratch.delete(_WAITING, key)
            elif len(left) < len(waiting.open):
                scratch.put(_WAITING, key, Waiting(left, waiting.paired, waiting.touched))

    def _give_up(self, reference: Reference, plate: str, crossing: Crossing, at: int) -> Emit:
        """The other crossing did not come: a ticket with the registered tare, or a warning."""
        vehicle = reference.vehicle(plate, crossing.time)
        tare = vehicle.tare_kg if vehicle is not None else None
        laden = tare is None or crossing.mass_kg - tare >= crossing.minimum
        if vehicle is not None and vehicle.tare_usable and tare is not None and laden:
            return _register_ticket(reference, plate, crossing, tare, at)
        code = "tare-missing" if laden else "gross-missing"
        return warning(
            "raised",
            warning_id(self.name, self.version, code, crossing.source, crossing.id),
            code,
            severity="medium" if laden else "low",
            subject=plate,
            scope=crossing.scope,
            parameters={
                "mass_kg": str(crossing.mass_kg), "weighed_at": iso_ms(crossing.time),
                **({"waybill": crossing.waybill} if crossing.waybill is not None else {}),
            },
            since=crossing.time,
            time=crossing.time,
            at=at,
            known_at=at,  # that nothing came is known when the clock says so, not when the crossing came
            cause=join_causes(crossing.causes),
            rule=self._policy.rule,
            rule_version=crossing.rule_version,
        )  # fmt: skip


def _without(open_: tuple[Crossing, ...], crossing: Crossing) -> tuple[Crossing, ...]:
    return tuple(c for c in open_ if c is not crossing)


def _with(open_: tuple[Crossing, ...], crossing: Crossing) -> tuple[Crossing, ...]:
    return tuple(sorted((*open_, crossing), key=lambda c: c.order))


def _beside(paired: tuple[tuple[int, int], ...], time: int) -> list[tuple[int, int]]:
    """The paired crossings next before and next after ``time``. A third between them means that the vehicle was loaded or
    emptied in between, so the crossing repeats neither."""
    before = [p for p in paired if p[0] <= time]
    after = [p for p in paired if p[0] > time]
    return [*([max(before)] if before else []), *([min(after)] if after else [])]


def _merged(known: Crossing, repeat: Crossing) -> Crossing:
    """The later of the two by event time, with the causes of both; it waits as long as the one that came last."""
    later = repeat if repeat.order > known.order else known
    return msgspec.structs.replace(
        later,
        causes=(*known.causes, *repeat.causes)[-8:],
        known_at=max(known.known_at, repeat.known_at),
        deadline=max(known.deadline, repeat.deadline),
    )


def _partner(reference: Reference, open_: tuple[Crossing, ...], crossing: Crossing, policy: TicketPolicy) -> Crossing | None:
    def fits(other: Crossing) -> bool:
        net, gross = abs(other.mass_kg - crossing.mass_kg), max(other.mass_kg, crossing.mass_kg)
        return (
            abs(other.time - crossing.time) <= policy.pair_within_s * 1000
            and net >= policy.min_net_kg
            and net * 100 >= gross * policy.min_net_percent
            and _one_visit(reference, crossing, other)
        )

    fitting = [o for o in open_ if fits(o)]
    before = [o for o in fitting if o.order < crossing.order]
    if before:
        return max(before, key=lambda o: o.order)
    return min(fitting, key=lambda o: o.order, default=None)


def _one_visit(reference: Reference, one: Crossing, other: Crossing) -> bool:
    """Whether what two crossings say of the load lets them be one visit."""
    if one.waybill is not None and other.waybill is not None and one.waybill != other.waybill:
        return False
    gross, tare = (one, other) if one.mass_kg > other.mass_kg else (other, one)
    way = _way(reference, gross)
    return way is None or way == ("out" if tare.order < gross.order else "in")


def _way(reference: Reference, gross: Crossing) -> str | None:
    """Which way a laden crossing must have gone: the load is for elsewhere, or from elsewhere, or this is a power or chemical
    plant, which only receive coal. None: either."""
    here = gross.scope[2]
    leaves, came = not lies_in(here, gross.destination), not lies_in(here, gross.origin)
    if leaves != came:
        return "out" if leaves else "in"
    site = reference.site(gross.scope[1], gross.time)
    return "in" if site is not None and site.kind in _RECEIVERS else None


def _ticket(reference: Reference, plate: str, one: Crossing, other: Crossing, at: int) -> Emit:
    gross, tare = (one, other) if one.mass_kg > other.mass_kg else (other, one)
    first, second = sorted((gross, tare), key=lambda c: c.order)
    data: dict[str, Any] = {
        "direction": "out" if first is tare else "in",
        "tare_kg": tare.mass_kg,
        "net_kg": gross.mass_kg - tare.mass_kg,
        "tare_time": iso_ms(tare.time),
        "tare_source": "measured",
    }
    return Emit(
        type="weighing.recorded",
        identity=("pair", gross.source, gross.id, tare.source, tare.id),
        time=second.time,
        at=at,
        known_at=max(gross.known_at, tare.known_at),
        data=_described(reference, plate, gross, tare, data),
        cause=join_causes((*first.causes, *second.causes)),
        scope=gross.scope,
    )


def _register_ticket(reference: Reference, plate: str, gross: Crossing, tare_kg: int, at: int) -> Emit:
    data = {
        "direction": _lone_direction(reference, gross),
        "tare_kg": tare_kg,
        "net_kg": gross.mass_kg - tare_kg,
        "tare_source": "register",
    }
    return Emit(
        type="weighing.recorded",
        identity=("register", gross.source, gross.id),
        time=gross.time,
        at=at,
        known_at=at,
        data=_described(reference, plate, gross, gross, data),
        cause=join_causes(gross.causes),
        scope=gross.scope,
    )


def _lone_direction(reference: Reference, gross: Crossing) -> str:
    """Which way a lone laden crossing went: power and chemical plants only receive coal, a coking plant sends coke and a
    washing plant its products; everyone else sends."""
    site = reference.site(gross.scope[1], gross.time)
    kind = site.kind if site is not None else "other"
    commodity = gross.commodity or "raw"
    if kind in _RECEIVERS:
        return "in"
    if kind == "coking":
        return "out" if commodity == "coke" else "in"
    if kind == "washing":
        return "in" if commodity == "raw" else "out"
    return "out"


def _described(reference: Reference, plate: str, gross: Crossing, other: Crossing, data: Mapping[str, Any]) -> dict[str, Any]:
    """The whole payload: what the gross crossing says of the load, and where it is silent, the other one."""
    site = reference.site(gross.scope[1], gross.time)
    optional = {
        name: first if (first := getattr(gross, name)) is not None else getattr(other, name)
        for name in ("axles", "commodity", "use", "origin", "destination", "waybill")
    }
    assumed = optional["commodity"] is None
    optional["commodity"] = optional["commodity"] or "raw"
    optional["use"] = optional["use"] or (site.use if site is not None else "other")
    return {
        "enterprise": gross.scope[0],
        "site": gross.scope[1],
        "division": gross.scope[2],
        "plate": plate,
        "gross_kg": gross.mass_kg,
        "gross_time": iso_ms(gross.time),
        **data,
        **{name: value for name, value in optional.items() if value is not None},
        **({"commodity_assumed": True} if assumed else {}),
    }
