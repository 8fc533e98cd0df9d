"""Flows: tickets summed into one-second panes, as additive deltas per enterprise, site, commodity, use and hour.

The pane is of recorded time (which tickets were known together), the hour of event time (when the coal was weighed): a late
ticket is one more delta of its old hour. So any lateness is summed right, and no window ever closes.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from hengliu.events.envelope import iso_ms, ms_of
from streams.kernel.operator import Batch, Effects, Emit, pane_tick
from streams.kernel.state import Scratch, State
from streams.operators.records import Event, hour_of

__all__ = ["Flows", "Pane"]

_PANES = "panes"


class _Ticket(msgspec.Struct, frozen=True):
    enterprise: str
    site: str
    division: str
    direction: str
    net_kg: int
    gross_time: datetime
    commodity: str
    use: str
    origin: str | None = None
    destination: str | None = None


class Pane(msgspec.Struct, frozen=True):
    """An open pane of one key. ``tick`` (ms of recorded time) closes it; all open panes have the same one."""

    tick: int
    hour: int
    scope: tuple[str, str, str]
    direction: str
    commodity: str
    use: str
    origin: str | None
    destination: str | None
    net_kg: int
    tickets: int
    known_at: int
    first: str
    last: str


class Flows:
    """``weighing.recorded`` to ``flow.summed``: net kilograms and tickets of one pane, key and hour of the gross weighing."""

    name: Final = "flows"
    version: Final = 1
    inputs: Final = frozenset({"weighing.recorded"})
    emits: Final = frozenset({"flow.summed"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_PANES: Pane}

    _decoders: Final = {"weighing.recorded": msgspec.json.Decoder(Event[_Ticket])}

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        events: list[Emit] = []
        open_tick = min((pane.tick for _, pane in state.items(_PANES)), default=None)
        for row, ticket in batch.decode(self._decoders):
            received = batch.received[row]
            if open_tick is not None and open_tick <= received:
                events += self._close(scratch, state.lane)
            open_tick = pane_tick(received)
            self._add(scratch, ticket, open_tick, batch.known_at(row))
        if open_tick is not None and open_tick <= batch.clock:
            events += self._close(scratch, state.lane)
        return Effects(events, scratch.changes)

    @staticmethod
    def _add(scratch: Scratch, ticket: Event[_Ticket], tick: int, known_at: int) -> None:
        data = ticket.data
        hour = hour_of(ms_of(data.gross_time))
        scope = (data.enterprise, data.site, data.division)
        parts = (*scope, data.direction, data.commodity, data.use, data.origin or "", data.destination or "", str(hour))
        key = "\x1f".join(parts)
        pane: Pane | None = scratch.get(_PANES, key)
        if pane is None:
            pane = Pane(
                tick, hour, scope, data.direction, data.commodity, data.use, data.origin, data.destination,
                data.net_kg, 1, known_at, ticket.id, ticket.id,
            )  # fmt: skip
        else:
            pane = msgspec.structs.replace(
                pane,
                net_kg=pane.net_kg + data.net_kg,
                tickets=pane.tickets + 1,
                known_at=max(pane.known_at, known_at),
                last=ticket.id,
            )
        scratch.put(_PANES, key, pane)

    @staticmethod
    def _close(scratch: Scratch, lane: int) -> list[Emit]:
        """Emit and forget all open panes, in the order of their keys."""
        events: list[Emit] = []
        for key in sorted(scratch.keys(_PANES)):
            pane: Pane = scratch.get(_PANES, key)
            scratch.delete(_PANES, key)
            optional = {"origin": pane.origin, "destination": pane.destination}
            events.append(
                Emit(
                    type="flow.summed",
                    # Vehicles are partitioned, keys of panes are not: the lane tells two tasks' panes of one tick apart.
                    identity=("pane", lane, key, pane.tick),
                    time=pane.hour,
                    at=pane.tick,
                    known_at=pane.known_at,
                    data={
                        "enterprise": pane.scope[0],
                        "site": pane.scope[1],
                        "division": pane.scope[2],
                        "start": iso_ms(pane.hour),
                        "direction": pane.direction,
                        "commodity": pane.commodity,
                        "use": pane.use,
                        **{name: value for name, value in optional.items() if value is not None},
                        "net_kg": pane.net_kg,
                        "tickets": pane.tickets,
                    },
                    cause=pane.first if pane.tickets == 1 else f"{pane.first}..{pane.last}",
                    scope=pane.scope,
                )
            )
        return events
