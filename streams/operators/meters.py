"""Meters: interval and register readings become ``consumption.recorded`` in base units.

A register's readings are differenced by ``streams.operators.registers``, which says what drops, swaps, wraps and doubled
registers mean. An interval reading counts as it is; the same interval sent again with another value corrects the first.
Every correction is a negative event that names what it corrects, so sums need no order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from hengliu.events.envelope import derived_id, iso_ms, ms_of
from hengliu.reference.units import BASE_UNITS, FACTORS, to_base
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import Scratch, State
from streams.operators.records import Event, Scope, time_of, warning, warning_id
from streams.operators.registers import Finding, Register, RegisterPolicy, observe

__all__ = ["INTERVALS_KEPT", "SEVERITY", "Interval", "Intervals", "Meters"]

_REGISTERS = "registers"
_INTERVALS = "intervals"

BACKFLOW: Final[Mapping[str, Decimal]] = {"water": Decimal("0.010")}
"""Drop of a register, in base units, that is always back-flow. Water flows back through a meter without a check valve by
litres; hourly registers of public supplies show drops of 1 to 9 L as their usual case. Media under
pressure do not flow back."""

INTERVALS_KEPT: Final = 96
"""Interval readings held per channel, to recognise one that is sent again: two days of half hours."""

SEVERITY: Final[Mapping[str, str]] = {
    "meter-replaced": "medium",
    "register-interleaved": "medium",
    "reading-implausible": "low",
    "late-beyond-horizon": "low",
    "meter-gap": "low",
}


class _Meter(msgspec.Struct, frozen=True):
    meter: str
    quantity: str
    reading: str
    value: Decimal
    unit: str
    start: datetime | None = None
    end: datetime | None = None
    flow: str = "import"
    quality: str = "measured"


class Interval(msgspec.Struct, frozen=True, array_like=True):
    """One counted interval reading; ``number`` is that of its ``consumption.recorded``."""

    start: int
    end: int
    amount: Decimal
    estimated: bool
    cause: str
    number: int


class Intervals(msgspec.Struct, frozen=True, array_like=True):
    """The latest interval readings of one channel, in the order of receipt."""

    kept: tuple[Interval, ...] = ()
    numbered: int = 0


class Meters:
    """``meter.read`` to ``consumption.recorded``.

    Warnings: ``meter-replaced``, ``register-interleaved``, ``reading-implausible``, ``late-beyond-horizon``, and for devices
    registered with ``silence_after_s`` also ``meter-gap``, cleared when a late reading fills the gap; time in which nobody
    listened is not counted. A channel is a meter, quantity and flow at one site.
    """

    name: Final = "meters"
    version: Final = 1
    inputs: Final = frozenset({"meter.read"})
    emits: Final = frozenset({"consumption.recorded", "warning.raised", "warning.updated", "warning.cleared"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_REGISTERS: Register, _INTERVALS: Intervals}

    _decoders: Final = {"meter.read": msgspec.json.Decoder(Event[_Meter])}

    def __init__(self, policy: RegisterPolicy | None = None) -> None:
        policy = policy or RegisterPolicy()
        # One policy per quantity, because back-flow is in its base unit.
        self._policies = {q: replace(policy, backflow=BACKFLOW.get(q, policy.backflow)) for q in BASE_UNITS}

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        events: list[Emit] = []
        for row, event in batch.decode(self._decoders):
            take = self._register if event.data.reading == "register" else self._interval
            events += take(scratch, state, batch, row, event)
        return Effects(events, scratch.changes)

    def _register(self, scratch: Scratch, state: State, batch: Batch, row: int, event: Event[_Meter]) -> Iterator[Emit]:
        data, scope, at = event.data, batch.scopes[row], batch.received[row]
        time = time_of(event, at)
        value, unit = to_base(data.value, data.unit, data.quantity)
        device = state.reference.device(event.source, time)
        digits = device.register_digits if device is not None else None
        key = _channel(scope, data)
        register, out = observe(
            scratch.get(_REGISTERS, key) or Register(),
            self._policies[data.quantity],
            time,
            value,
            known_at=batch.known_at(row),
            cause=batch.origins[row],
            estimated=data.quality == "estimated",
            span=Decimal(10) ** digits * FACTORS[data.unit, unit] if digits is not None else None,
            unheard=state.reference.unheard_ms if device is not None and device.silence_after_s is not None else None,
        )
        scratch.put(_REGISTERS, key, register)
        for item in out:
            if isinstance(item, Finding):
                yield self._warning(item, key, data.meter, unit, scope, time, at, batch.known_at(row), batch.origins[row])
            else:
                yield self._consumption(
                    data, scope, unit, key, item.interval, item.start, item.end, item.amount, item.estimated, at,
                    item.known_at, item.cause, item.corrects,
                )  # fmt: skip

    def _interval(self, scratch: Scratch, state: State, batch: Batch, row: int, event: Event[_Meter]) -> Iterator[Emit]:
        data, scope, at = event.data, batch.scopes[row], batch.received[row]
        assert data.start is not None, "intake refuses an interval reading without its ends"
        assert data.end is not None, "intake refuses an interval reading without its ends"
        start, end, known_at, cause = ms_of(data.start), ms_of(data.end), batch.known_at(row), batch.origins[row]
        amount, unit = to_base(data.value, data.unit, data.quantity)
        estimated = data.quality == "estimated"
        key = _channel(scope, data)
        held: Intervals = scratch.get(_INTERVALS, key) or Intervals()
        same = next((i for i in held.kept if i.start == start and i.end == end), None)
        if same is not None and (same.amount, same.estimated) == (amount, estimated):
            return
        numbered, kept = held.numbered, held.kept
        if same is not None:
            numbered += 1
            kept = tuple(i for i in kept if i is not same)
            yield self._consumption(
                data, scope, unit, key, numbered, start, end, -same.amount, same.estimated, at, known_at,
                f"{same.cause},{cause}", same.number,
            )  # fmt: skip
        numbered += 1
        yield self._consumption(data, scope, unit, key, numbered, start, end, amount, estimated, at, known_at, cause, 0)
        kept = (*kept, Interval(start, end, amount, estimated, cause, numbered))[-INTERVALS_KEPT:]
        scratch.put(_INTERVALS, key, Intervals(kept, numbered))

    def _consumption(
        self, data: _Meter, scope: Scope, unit: str, key: str, number: int, start: int, end: int, amount: Decimal,
        estimated: bool, at: int, known_at: int, cause: str, corrects: int,
    ) -> Emit:  # fmt: skip
        return Emit(
            type="consumption.recorded",
            identity=(data.reading, key, number),
            time=end,
            at=at,
            known_at=known_at,
            data={
                "enterprise": scope[0],
                "site": scope[1],
                "division": scope[2],
                "meter": data.meter,
                "quantity": data.quantity,
                "flow": data.flow,
                "start": iso_ms(start),
                "end": iso_ms(end),
                "amount": format(amount, "f"),
                "unit": unit,
                "reading": data.reading,
                "quality": "estimated" if estimated else "measured",
            },
            cause=cause,
            corrects=derived_id(self.name, self.version, data.reading, key, corrects) if corrects else "",
            scope=scope,
        )

    def _warning(
        self, finding: Finding, key: str, meter: str, unit: str, scope: Scope, time: int, at: int, known_at: int, cause: str
    ) -> Emit:
        return warning(
            finding.change,
            warning_id(self.name, self.version, finding.code, key, finding.number),
            finding.code,
            severity=SEVERITY[finding.code],
            subject=meter,
            scope=scope,
            parameters={**finding.parameters, "unit": unit},
            since=finding.since,
            time=time,
            at=at,
            known_at=known_at,
            cause=cause,
            sequence=finding.sequence,
        )


def _channel(scope: Scope, data: _Meter) -> str:
    return "\x1f".join((scope[1], data.meter, data.quantity, data.flow))
