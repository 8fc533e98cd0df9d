"""Repeated weighing: one load that is weighed again, so that it makes two tickets (重复称重, 一车多单).

What is held of one (plate, site) is what happened to the vehicle there lately, by event time: crossings of scales, and passages
of the gate. A *repeat* is two neighbouring laden crossings of about the same mass with nothing between them, neither a passage
of the gate nor a crossing of another mass. What rule ``tickets`` takes for a second reading of one crossing (ten minutes,
100 kg) gains nobody a ticket and is none.

The whole list is judged again whenever something is added, so what arrives late counts where it happened: a tare that was
weighed in between clears the warning.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Final

import msgspec

from hengliu.events.envelope import iso_ms
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import Scratch, State
from streams.operators.records import DAY_MS, Event, join_causes, time_of, warning, warning_id
from streams.operators.tickets import TicketPolicy
from streams.operators.timers import TIMER_TABLE, TimerRow, Timers
from streams.rules.policy import parameter, policy_of

__all__ = ["Lately", "Mark", "Repeat", "RepeatedWeighing", "RepeatedWeighingPolicy"]

_LATELY = "lately"
_KEEP = 12
"""Crossings and passages held of one vehicle at one site. A visit has four."""


@dataclass(frozen=True, slots=True)
class RepeatedWeighingPolicy:
    """Parameters of rule ``repeated-weighing``: this platform's choice. A loaded truck loses little on a scale of 20 kg steps;
    a second load differs by more, and needs a tare or a way out before it."""

    rule: ClassVar[str] = "repeated-weighing"
    RULE_VERSION: ClassVar[int] = 1

    within_s: int = parameter(
        14_400, unit="s", zh="两次过磅最长间隔", en="Longest time between the two", minimum=1, maximum=86_400
    )
    below_kg: int = parameter(100, unit="kg", zh="重量差不超过", en="Difference of the two", minimum=0)
    below_percent: Decimal = parameter(
        Decimal("0.5"), unit="%", zh="重量差不超过（占毛重）", en="Difference of the two, of the gross", minimum=0, maximum=100
    )


class Mark(msgspec.Struct, frozen=True):
    """A crossing of a scale, or with ``mass_kg`` 0 a passage of the gate. ``laden``: it named its load; ``zero_kg``: what
    the scale showed when it was empty, as far as it said so."""

    time: int
    source: str
    id: str
    origin: str
    mass_kg: int = 0
    laden: bool = False
    zero_kg: int = 0

    @property
    def key(self) -> str:
        return f"{self.source}\x1f{self.id}"


class Repeat(msgspec.Struct, frozen=True):
    """An open warning: its id, the crossings that it is about, and how often it was updated."""

    warning: str
    members: tuple[str, ...]
    since: int
    changes: int = 0


class Lately(msgspec.Struct, frozen=True):
    """What happened to one vehicle at one site, by event time, the warnings about that, and when it was last touched (recorded
    time, ms; 0: never). It has one timer."""

    marks: tuple[Mark, ...] = ()
    open: tuple[Repeat, ...] = ()
    touched: int = 0


class _Passing(msgspec.Struct, frozen=True):
    """What this operator reads of a weighing or a capture."""

    plate: str
    mass_kg: int = 0
    zero_kg: int | None = None
    commodity: str | None = None
    waybill: str | None = None
    direction: str | None = None


class RepeatedWeighing:
    """``weighing.measured`` and ``plate.captured`` to warnings ``repeated-weighing`` about a vehicle.

    Laden is a crossing that names its load, or than which another of the same list, or the registered tare, is lighter by what
    rule ``tickets`` calls a net mass. Whether an unregistered vehicle's first crossings were laden is known when it is weighed
    empty. Severity is high where the registered tare would make a ticket of the second crossing.
    """

    name: Final = "repeated-weighing"
    version: Final = 1
    inputs: Final = frozenset({"weighing.measured", "plate.captured"})
    emits: Final = frozenset({"warning.raised", "warning.updated", "warning.cleared"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_LATELY: Lately, TIMER_TABLE: TimerRow}

    _decoders: Final = dict.fromkeys(sorted(inputs), msgspec.json.Decoder(Event[_Passing]))

    def __init__(self, policy: RepeatedWeighingPolicy = RepeatedWeighingPolicy()) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        timers = Timers(scratch)
        events: list[Emit] = []
        for row, event in batch.decode(self._decoders):
            self._forget(scratch, timers, batch.received[row])
            mark = _mark(state, batch, row, event)
            if mark is not None:
                events += self._add(scratch, timers, state, batch, row, event.data.plate, mark)
        self._forget(scratch, timers, batch.clock)
        timers.save()
        return Effects(events, scratch.changes)

    def _add(
        self, scratch: Scratch, timers: Timers, state: State, batch: Batch, row: int, plate: str, mark: Mark
    ) -> Iterator[Emit]:
        received, scope = batch.received[row], batch.scopes[row]
        key = f"{plate}\x1f{scope[1]}"
        before: Lately = scratch.get(_LATELY, key) or Lately()
        marks = tuple(sorted((*before.marks, mark), key=lambda m: (m.time, m.key)))[-_KEEP:]
        if before.touched == 0:
            timers.set(received + DAY_MS, key)
        in_force = policy_of(state, self._policy, mark.time)
        if in_force is None:
            scratch.put(_LATELY, key, Lately(marks, before.open, received))
            return
        policy, version = in_force
        tickets, _ = policy_of(state, TicketPolicy(), mark.time) or (TicketPolicy(), 0)
        vehicle = state.reference.vehicle(plate, mark.time)
        found = list(_repeats(marks, policy, tickets, None if vehicle is None else vehicle.tare_kg))
        severity = "high" if vehicle is not None and vehicle.tare_usable else "medium"

        def told(change: str, about: Repeat, group: Sequence[Mark]) -> Emit:
            return self._warning(change, about, group, batch, row, plate, severity, version)

        held = {m.key for m in marks}
        open_: list[Repeat] = []
        for known in before.open:
            members = tuple(m for m in known.members if m in held)
            if len(members) < 2:
                continue  # its crossings are held no longer: nothing can change what was said of them
            group = next((g for g in found if len({m.key for m in g}.intersection(members)) > 1), None)
            now = msgspec.structs.replace(known, changes=known.changes + 1)
            if group is None:
                yield told("cleared", now, (mark,))
                continue
            found.remove(group)
            if all(m.key in members for m in group):
                open_.append(known)
            else:
                open_.append(msgspec.structs.replace(now, members=tuple(m.key for m in group)))
                yield told("updated", open_[-1], group)
        for group in found:
            # The crossing that showed it is part of the identity: what was cleared and comes back is another warning.
            id_ = warning_id(self.name, self.version, plate, scope[1], group[0].key, mark.key)
            open_.append(Repeat(id_, tuple(m.key for m in group), group[0].time))
            yield told("raised", open_[-1], group)
        scratch.put(_LATELY, key, Lately(marks, tuple(open_), received))

    def _warning(
        self,
        change: str,
        about: Repeat,
        group: Sequence[Mark],
        batch: Batch,
        row: int,
        plate: str,
        severity: str,
        version: int,
    ) -> Emit:
        parameters: dict[str, str] = {}
        if change != "cleared":
            parameters = {
                "weighings": str(len(group)),
                "first_kg": str(group[0].mass_kg),
                "again_kg": str(group[-1].mass_kg),
                "first_at": iso_ms(group[0].time),
                "again_at": iso_ms(group[-1].time),
            }
        return warning(
            change,
            about.warning,
            "repeated-weighing",
            severity=severity,
            subject=plate,
            scope=batch.scopes[row],
            parameters=parameters,
            since=about.since,
            time=group[-1].time,
            at=batch.received[row],
            known_at=batch.known_at(row),
            cause=join_causes(tuple(m.origin for m in group)),
            rule=self._policy.rule,
            rule_version=version,
            sequence=about.changes,
        )

    @staticmethod
    def _forget(scratch: Scratch, timers: Timers, until: int) -> None:
        """Let go of vehicles that were not seen at a site for a day of recorded time."""
        while (timer := timers.pop(until)) is not None:
            due, key = timer
            lately: Lately = scratch.get(_LATELY, key)
            if lately.touched + DAY_MS > due:
                timers.set(lately.touched + DAY_MS, key)
            else:
                scratch.delete(_LATELY, key)


def _mark(state: State, batch: Batch, row: int, event: Event[Any]) -> Mark | None:
    data: _Passing = event.data
    time = min(time_of(event, batch.received[row]), batch.received[row])
    if batch.types[row] == "weighing.measured":
        laden = data.commodity is not None or data.waybill is not None
        mark = Mark(time, event.source, event.id, batch.origins[row], data.mass_kg, laden, data.zero_kg or 0)
        return mark if data.mass_kg else None
    camera = state.reference.device(event.source, time)
    if data.direction is None or (camera is not None and camera.watches is not None):
        return None  # not a gate: seen again, but it may never have left
    return Mark(time, event.source, event.id, batch.origins[row])


def _repeats(
    marks: Sequence[Mark], policy: RepeatedWeighingPolicy, tickets: TicketPolicy, tare_kg: int | None
) -> Iterator[tuple[Mark, ...]]:
    """Crossings of one load, two and more, in time order; a second reading counts with the one that it repeats."""
    lighter = [m.mass_kg for m in marks if m.mass_kg] + ([tare_kg] if tare_kg is not None else [])
    group: list[Mark] = []
    last: Mark | None = None

    def is_one() -> bool:
        heavy = group[0].mass_kg
        net = max(tickets.min_net_kg, heavy * tickets.min_net_percent // 100)
        return len(group) > 1 and (any(m.laden for m in group) or heavy - min(lighter) >= net)

    for mark in marks:
        apart, gap = (mark.time - last.time, abs(mark.mass_kg - last.mass_kg)) if last is not None else (0, 0)
        if not mark.mass_kg or last is None or not last.mass_kg:
            same = False
        elif apart <= tickets.repeat_within_s * 1000 and gap < tickets.repeat_below_kg:
            last = mark
            continue
        else:
            gap = abs(mark.mass_kg - mark.zero_kg - last.mass_kg + last.zero_kg)
            near = max(Decimal(policy.below_kg), policy.below_percent * last.mass_kg / 100)
            same = apart <= policy.within_s * 1000 and gap <= near
        if not same:
            if group and is_one():
                yield tuple(group)
            group = []
        if mark.mass_kg:
            group.append(mark)
        last = mark
    if group and is_one():
        yield tuple(group)
