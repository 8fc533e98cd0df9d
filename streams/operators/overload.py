"""Overload: a ticket's gross mass against the limit of its vehicle's axles."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, Final

import msgspec

from hengliu.events.envelope import ms_of
from hengliu.reference import mass_limits
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import State
from streams.operators.records import Event, warning, warning_id
from streams.rules.policy import parameter, parameters_of, policy_of

__all__ = ["Overload", "OverloadPolicy"]


def _limit(name: str, zh: str, en: str, citation: str = mass_limits.CITATION) -> Any:
    limit = int(mass_limits.LIMITS[name])
    return parameter(limit, name=name, unit="kg", zh=zh, en=en, citation=citation, minimum=0, maximum=100_000)


@dataclass(frozen=True, slots=True)
class OverloadPolicy:
    """Parameters of rule ``overload``: the table of ``hengliu.reference.mass_limits``. A version may name one row only."""

    rule: ClassVar[str] = mass_limits.RULE
    RULE_VERSION: ClassVar[int] = mass_limits.VERSION

    rigid_2: int = _limit("rigid-2", "二轴货车", "Rigid, two axles", "交通运输部令2016年第62号 第三条第一款第（四）项")
    rigid_3: int = _limit("rigid-3", "三轴货车", "Rigid, three axles", "交通运输部令2016年第62号 第三条第一款第（五）项")
    combination_3: int = _limit(
        "combination-3", "三轴汽车列车", "Combination, three axles", "交通运输部令2016年第62号 第三条第一款第（五）项"
    )
    rigid_4: int = _limit("rigid-4", "四轴货车", "Rigid, four axles", "交通运输部令2016年第62号 第三条第一款第（六）项")
    combination_4: int = _limit(
        "combination-4", "四轴汽车列车", "Combination, four axles", "交通运输部令2016年第62号 第三条第一款第（六）项"
    )
    combination_5: int = _limit(
        "combination-5", "五轴汽车列车", "Combination, five axles", "交通运输部令2016年第62号 第三条第一款第（七）项"
    )
    combination_6: int = _limit(
        "combination-6", "六轴及以上汽车列车", "Combination, six and more axles",
        "交通运输部令2016年第62号 第三条第一款第（八）项",
    )  # fmt: skip
    combination_6_single_drive: int = _limit(
        "combination-6-single-drive", "六轴及以上汽车列车，单驱动轴", "Combination, six and more axles, single drive axle",
        "交通运输部令2016年第62号 第三条第一款第（八）项",
    )  # fmt: skip
    single_tyre_deduction: int = _limit(
        "single-tyre-deduction", "单轮胎扣减", "Deduction for single tyres", "交通运输部令2016年第62号 第三条第二款"
    )


@lru_cache(maxsize=64)
def _table(policy: OverloadPolicy) -> Mapping[str, str]:
    return {p.name: p.default for p in parameters_of(policy)}


class _Ticket(msgspec.Struct, frozen=True):
    plate: str
    gross_kg: int
    gross_time: datetime
    axles: int | None = None


class Overload:
    """``weighing.recorded`` over the limit raises ``warning.raised`` code ``overload``, one warning a ticket.

    The registered vehicle says kind, axles and exceptions; an unregistered one is judged by the axles that the scale
    counted and the milder limit of the two kinds. Unknown axles: no verdict. The rule version in force at the gross
    weighing is kept with the warning; retired, it raises nothing.

    Severity is high above 1,000 kg over, where the fine of Article 43 begins.
    """

    name: Final = "overload"
    version: Final = 2  # a published version that names some rows keeps the others
    inputs: Final = frozenset({"weighing.recorded"})
    emits: Final = frozenset({"warning.raised"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {}

    _decoders: Final = {"weighing.recorded": msgspec.json.Decoder(Event[_Ticket])}

    def __init__(self, policy: OverloadPolicy = OverloadPolicy()) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        events: list[Emit] = []
        for row, ticket in batch.decode(self._decoders):
            data: _Ticket = ticket.data
            time = ms_of(data.gross_time)
            found = policy_of(state, self._policy, time)
            if found is None:
                continue
            policy, version = found
            parameters = _table(policy)
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
