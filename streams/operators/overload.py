"""Overload: a ticket's gross mass against the limit of its vehicle's axles."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from hengliu.events.envelope import ms_of
from hengliu.reference import mass_limits
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import State
from streams.operators.records import Event, warning, warning_id

__all__ = ["Overload"]


class _Ticket(msgspec.Struct, frozen=True):
    plate: str
    gross_kg: int
    gross_time: datetime
    axles: int | None = None


class Overload:
    """``weighing.recorded`` over the limit raises ``warning.raised`` code ``overload``, one warning a ticket.

    The registered vehicle says kind, axles and exceptions; an unregistered one is judged by the axles that the scale
    counted and the milder limit of the two kinds. Unknown axles: no verdict. The rule version in force at the gross
    weighing is kept with the warning. Severity is high above 1,000 kg over, where the fine of Article 43 begins.
    """

    name: Final = "overload"
    version: Final = 1
    inputs: Final = frozenset({"weighing.recorded"})
    emits: Final = frozenset({"warning.raised"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {}

    _decoders: Final = {"weighing.recorded": msgspec.json.Decoder(Event[_Ticket])}

    def step(self, state: State, batch: Batch) -> Effects:
        events: list[Emit] = []
        for row, ticket in batch.decode(self._decoders):
            data: _Ticket = ticket.data
            time = ms_of(data.gross_time)
            rule = state.reference.rule(mass_limits.RULE, time)
            parameters, version = (rule.parameters, rule.version) if rule else (mass_limits.LIMITS, mass_limits.VERSION)
            vehicle = state.reference.vehicle(data.plate, time)
            if vehicle is None:
                axles, kind = data.axles, "unknown"
                limit = mass_limits.gross_limit_kg(parameters, axles, "unknown")
            else:
                axles, kind = vehicle.axles, vehicle.kind
                limit = mass_limits.gross_limit_kg(
                    parameters,
                    axles,
                    vehicle.kind,
                    single_drive_axle=vehicle.single_drive_axle,
                    single_tyre=vehicle.single_tyre,
                    air_suspension=vehicle.air_suspension,
                    licence_mass_kg=vehicle.licence_mass_kg,
                )
            if limit is None or data.gross_kg <= limit:
                continue
            over = data.gross_kg - limit
            events.append(
                warning(
                    "raised",
                    warning_id(self.name, self.version, ticket.id),
                    "overload",
                    severity="high" if over > 1_000 else "medium",
                    subject=data.plate,
                    scope=batch.scopes[row],
                    parameters={
                        "gross_kg": str(data.gross_kg),
                        "limit_kg": str(limit),
                        "over_kg": str(over),
                        "axles": str(axles),
                        "kind": kind,
                        "ticket": ticket.id,
                    },
                    since=time,
                    time=time,
                    at=batch.received[row],
                    known_at=batch.known_at(row),
                    cause=ticket.id,
                    rule=mass_limits.RULE,
                    rule_version=version,
                )
            )
        return Effects(events, {})
