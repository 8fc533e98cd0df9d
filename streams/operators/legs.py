"""Legs: which shipment a ticket belongs to. Tickets become ``shipment.weighed``, keyed so that both ends of a load meet.

A load has a ticket where it was put on (direction ``out``) and one where it was taken off (``in``). They meet by waybill: that
is one even if the plates are not. Where one of the two names no waybill they meet by plate: an unloading belongs to the last
loading before it of the same vehicle, unless the tickets say that they cannot belong together (another destination, another
origin, the same site). The shipment's name is then the loading's waybill, or the loading ticket's own id.

Which of a vehicle's tickets came first to our knowledge does not matter: a loading whose scale was off line finds the unloading
that is waiting for it. What two such tickets say of each other is ``streams.operators.shipments``' to judge.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from hengliu.events.envelope import iso_ms, ms_of
from streams.kernel.joins import Bound, BoundedJoin, Pending, Waiting
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import State
from streams.operators.places import inside, lies_in
from streams.operators.records import Event, Scope
from streams.operators.shipments import ShipmentPolicy
from streams.operators.timers import TIMER_TABLE, TimerRow, Timers
from streams.rules.policy import policy_of

__all__ = ["Leg", "Legs"]

_LEGS = "legs"
_KEEP = 8
"""Loadings, and unloadings, that wait per plate: those of the last trips, of which the last one counts."""
_POLICY: Final = ShipmentPolicy()


class _Ticket(msgspec.Struct, frozen=True):
    plate: str
    direction: str
    gross_kg: int
    net_kg: int
    gross_time: datetime
    tare_source: str
    commodity: str
    commodity_assumed: bool = False
    origin: str | None = None
    destination: str | None = None
    waybill: str | None = None


class _Warning(msgspec.Struct, frozen=True):
    code: str
    subject: str
    since: datetime
    parameters: dict[str, str]


class Leg(msgspec.Struct, frozen=True, omit_defaults=True):
    """One end of a load. ``shipment`` is empty of an unloading that names no waybill; ``gross_time`` in ms."""

    stage: str
    shipment: str
    plate: str
    scope: Scope
    gross_kg: int
    gross_time: int
    known_at: int
    id: str
    ticket: str = ""
    net_kg: int | None = None
    tare_source: str | None = None
    commodity: str | None = None
    origin: str | None = None
    destination: str | None = None
    waybill: str | None = None


class Legs:
    """``weighing.recorded``, and ``tare-missing`` of ``tickets``, to ``shipment.weighed``.

    A truck that was weighed laden where it unloads and then never empty has arrived: it is no missing one (stage ``arrived``).

    Legs that met nobody are let go after ``match_within_s`` of recorded time; an unloading without a waybill is then of no
    shipment, which is nothing to warn of.
    """

    name: Final = "legs"
    version: Final = 1
    inputs: Final = frozenset({"weighing.recorded", "warning.raised"})
    emits: Final = frozenset({"shipment.weighed"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_LEGS: Pending[Leg, Leg], TIMER_TABLE: TimerRow}

    _decoders: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
        "weighing.recorded": msgspec.json.Decoder(Event[_Ticket]),
        "warning.raised": msgspec.json.Decoder(Event[_Warning]),
    }

    def __init__(self, policy: ShipmentPolicy = _POLICY) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        timers = Timers(scratch)
        meet = BoundedJoin(_LEGS, _bound(self._policy), _rank).open(scratch, timers)
        events: list[Emit] = []
        for row, event in batch.decode(self._decoders):
            received = batch.received[row]
            while (timer := timers.pop(received)) is not None:
                meet.expire(*timer)
            leg = _leg(event, batch.scopes[row], batch.known_at(row))
            if leg is None:
                continue
            # Retired or not: saying which shipment a ticket belongs to is no judgement that could be left off.
            policy, _ = policy_of(state, self._policy, leg.gross_time) or (self._policy, 0)
            one = Waiting(leg.id, leg.gross_time, received, leg)
            if leg.stage == "loaded":
                events.append(_emit(leg, leg.shipment, received, leg.known_at))
                if inside(state.reference, leg.destination, leg.gross_time) is False:
                    continue
                unloading, _ = meet.left(leg.plate, one, _bound(policy))
                if unloading is not None and unloading.item.shipment != leg.shipment:
                    events.append(_emit(unloading.item, leg.shipment, received, max(leg.known_at, unloading.item.known_at)))
            elif inside(state.reference, leg.origin, leg.gross_time) is False:
                if leg.shipment:
                    events.append(_emit(leg, leg.shipment, received, leg.known_at))
            else:
                loading, _ = meet.right(leg.plate, one, _bound(policy))
                shipment = loading.item.shipment if loading is not None else leg.shipment
                known = max(leg.known_at, loading.item.known_at) if loading is not None else leg.known_at
                if shipment:
                    events.append(_emit(leg, shipment, received, known))
        while (timer := timers.pop(batch.clock)) is not None:
            meet.expire(*timer)
        timers.save()
        return Effects(events, scratch.changes)


def _bound(policy: ShipmentPolicy) -> Bound:
    within = policy.match_within_s * 1000
    return Bound(0, within, within, within, _KEEP)


def _leg(event: Event[Any], scope: Scope, known_at: int) -> Leg | None:
    """What an event says of a load; None where it says nothing."""
    data = event.data
    if isinstance(data, _Ticket):
        loaded = data.direction == "out"
        return Leg(
            stage="loaded" if loaded else "unloaded",
            shipment=data.waybill or (f"ticket:{event.id}" if loaded else ""),
            plate=data.plate, scope=scope, gross_kg=data.gross_kg, gross_time=ms_of(data.gross_time), known_at=known_at,
            id=event.id, ticket=event.id, net_kg=data.net_kg, tare_source=data.tare_source,
            commodity=None if data.commodity_assumed else data.commodity,
            origin=data.origin, destination=data.destination, waybill=data.waybill,
        )  # fmt: skip
    if data.code != "tare-missing":
        return None
    mass, waybill = data.parameters.get("mass_kg", ""), data.parameters.get("waybill")
    return Leg(
        "arrived", waybill or "", data.subject, scope, int(mass) if mass.isascii() and mass.isdigit() else 0,
        ms_of(data.since), known_at, event.id, waybill=waybill,
    )  # fmt: skip


def _rank(loading: Leg, unloading: Leg) -> int | None:
    """How well two of one plate fit: the same waybill; or no two waybills, and nothing that says otherwise; else not at all."""
    if loading.waybill is not None and unloading.waybill is not None:
        return 0 if loading.waybill == unloading.waybill else None
    if loading.scope[1] == unloading.scope[1]:
        return None
    return 1 if lies_in(unloading.scope[2], loading.destination) and lies_in(loading.scope[2], unloading.origin) else None


def _emit(leg: Leg, shipment: str, at: int, known_at: int) -> Emit:
    optional = {"waybill": leg.waybill, "net_kg": leg.net_kg, "tare_source": leg.tare_source, "commodity": leg.commodity,
                "origin": leg.origin, "destination": leg.destination}  # fmt: skip
    return Emit(
        type="shipment.weighed",
        identity=(leg.stage, leg.id, shipment),
        time=leg.gross_time,
        at=at,
        known_at=known_at,
        data={
            "enterprise": leg.scope[0], "site": leg.scope[1], "division": leg.scope[2],
            "shipment": shipment, "stage": leg.stage, "plate": leg.plate, "ticket": leg.ticket, "gross_kg": leg.gross_kg,
            "gross_time": iso_ms(leg.gross_time), **{name: value for name, value in optional.items() if value is not None},
        },
        cause=leg.id,
        scope=leg.scope,
    )  # fmt: skip
