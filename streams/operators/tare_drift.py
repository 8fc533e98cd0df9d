"""Tare drift: a vehicle that is weighed empty and is not as heavy as it always was (皮重造假).

Water in a tank, spare wheels or people on the platform make a heavy tare and so a small net mass. What is usual is the median
of the vehicle's own tares, and how far they spread is the median of their distances from it: neither is moved by a few false
ones among many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from statistics import median_low
from typing import ClassVar, Final

import msgspec

from hengliu.events.envelope import ms_of
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import State
from streams.operators.lives import UNSEEN, Life, lived, moment, told
from streams.operators.records import Event
from streams.rules.policy import parameter, policy_of

__all__ = ["TareDrift", "TareDriftPolicy", "Tares", "drift"]

_TARES = "tares"
_KEEP = 32
"""Tares held of one vehicle, its latest: some days of a busy truck. A new body is usual after half of them."""


@dataclass(frozen=True, slots=True)
class TareDriftPolicy:
    """Parameters of rule ``tare-drift``: this platform's choice.

    A vendor advertises 0.3 % of the history. That is 45 kg of a 15 t truck, less than half a tank of diesel, and would accuse
    everybody; the defaults leave room for a tank, a driver's mate and some mud.
    """

    rule: ClassVar[str] = "tare-drift"
    RULE_VERSION: ClassVar[int] = 1

    least: int = parameter(5, zh="至少的历史皮重数", en="Tares needed before judging", minimum=2, maximum=_KEEP)
    kg: int = parameter(400, unit="kg", zh="允许偏差", en="Deviation allowed", minimum=0)
    percent: Decimal = parameter(
        Decimal("2.5"), unit="%", zh="允许偏差（占皮重）", en="Deviation allowed, of the usual tare", minimum=0, maximum=100
    )
    spreads: Decimal = parameter(
        Decimal(4), zh="允许偏差（离散倍数）", en="Deviation allowed, in usual distances from the median", minimum=0
    )
    high_kg: int = parameter(1_000, unit="kg", zh="高级预警的偏差", en="Deviation of high severity", minimum=1)


class Tares(msgspec.Struct, frozen=True):
    """What is held of one vehicle: its latest tares as (ms, kg), ascending, and the life of its warning."""

    known: tuple[tuple[int, int], ...]
    life: Life


class _Ticket(msgspec.Struct, frozen=True):
    plate: str
    tare_kg: int
    tare_source: str
    tare_time: datetime | None = None


class Drift(msgspec.Struct, frozen=True):
    """How far a tare is from the usual one, and how far it may be, kg."""

    usual_kg: int
    off_kg: int
    allowed_kg: int


def drift(known_kg: Sequence[int], tare_kg: int, policy: TareDriftPolicy) -> Drift | None:
    """A tare against those before it; None where there are too few."""
    if len(known_kg) < policy.least:
        return None
    usual = median_low(known_kg)
    spread = median_low([abs(kg - usual) for kg in known_kg])
    allowed = max(Decimal(policy.kg), policy.percent * usual / 100, policy.spreads * spread)
    return Drift(usual, tare_kg - usual, int(allowed))


class TareDrift:
    """``weighing.recorded`` with a measured tare that is far from the vehicle's usual one raises ``tare-drift``.

    One warning a vehicle, until it is weighed with a usual tare again. A tare near the registered one is in order whatever the
    history says, so a new body is registered and warns nobody. A late ticket counts among the history; late, too, an odd tare
    is a finding, but a usual one clears nothing that came after it.
    """

    name: Final = "tare-drift"
    version: Final = 1
    inputs: Final = frozenset({"weighing.recorded"})
    emits: Final = frozenset({"warning.raised", "warning.updated", "warning.cleared"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_TARES: Tares}

    _decoders: Final = {"weighing.recorded": msgspec.json.Decoder(Event[_Ticket])}

    def __init__(self, policy: TareDriftPolicy = TareDriftPolicy()) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        events: list[Emit] = []
        for row, ticket in batch.decode(self._decoders):
            data: _Ticket = ticket.data
            if data.tare_source != "measured" or data.tare_time is None:
                continue
            time = ms_of(data.tare_time)
            before: Tares = scratch.get(_TARES, data.plate) or Tares((), UNSEEN)
            policy, version = policy_of(state, self._policy, time) or (None, 0)
            found = drift([kg for _, kg in before.known], data.tare_kg, policy) if policy is not None else None
            severity = ""
            if policy is not None and found is not None and abs(found.off_kg) > found.allowed_kg:
                vehicle = state.reference.vehicle(data.plate, time)
                registered = vehicle.tare_kg if vehicle is not None else None
                if registered is None or abs(data.tare_kg - registered) > found.allowed_kg:
                    severity = "high" if abs(found.off_kg) >= policy.high_kg else "medium"
            judged = moment(time, batch.received[row])
            change, life = lived(before.life, max(judged, before.life.time) if severity else judged, severity)
            if change == "raised":
                life = msgspec.structs.replace(life, since=time)
            known = tuple(sorted((*before.known, (time, data.tare_kg))))[-_KEEP:]
            scratch.put(_TARES, data.plate, Tares(known, life))
            if change is None:
                continue
            parameters = {"tare_kg": str(data.tare_kg), "ticket": ticket.id}
            if found is not None:
                parameters |= {
                    "usual_kg": str(found.usual_kg),
                    "off_kg": str(found.off_kg),
                    "allowed_kg": str(found.allowed_kg),
                    "tares": str(len(before.known)),
                }
            events.append(
                told(
                    self, change, before.life, life, "tare-drift", data.plate, parameters, batch, row, time,
                    ticket.id, self._policy.rule, version,
                )
            )  # fmt: skip
        return Effects(events, scratch.changes)
