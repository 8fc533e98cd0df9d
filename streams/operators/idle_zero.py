"""Idle zero: what an empty scale shows before a vehicle drives on (不归零)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import State
from streams.operators.lives import UNSEEN, Life, lived, moment, told
from streams.operators.records import Event, time_of
from streams.rules.policy import parameter, policy_of

__all__ = ["IdleZero", "IdleZeroPolicy"]

_ZEROS = "zeros"


@dataclass(frozen=True, slots=True)
class IdleZeroPolicy:
    """Parameters of rule ``idle-zero``.

    In service a class III scale may be wrong by one verification interval at zero (OIML R 76-1:2006, 3.5.1 table 6, doubled by
    3.5.2): 20 kg on a usual road scale of 100 t and 5,000 intervals. Mud and snow weigh something, too; so this platform's
    choice is twice that for raising and once that for clearing.
    """

    rule: ClassVar[str] = "idle-zero"
    RULE_VERSION: ClassVar[int] = 1

    tolerance_kg: int = parameter(40, unit="kg", zh="空秤允许示值", en="Idle reading allowed", minimum=0)
    clear_kg: int = parameter(20, unit="kg", zh="解除预警的示值", en="Idle reading that clears", minimum=0)
    high_kg: int = parameter(200, unit="kg", zh="高级预警的示值", en="Idle reading of high severity", minimum=0)


class _Weighing(msgspec.Struct, frozen=True):
    plate: str
    zero_kg: int | None = None


class IdleZero:
    """``weighing.measured`` with an idle reading beyond the tolerance raises ``idle-not-zero`` for its scale.

    An idle reading that is back at zero clears it; between the two limits nothing changes. A weighing without ``zero_kg`` says
    nothing: missing is not zero. Where the rule is retired, the next reading clears what is open.
    """

    name: Final = "idle-zero"
    version: Final = 1
    inputs: Final = frozenset({"weighing.measured"})
    emits: Final = frozenset({"warning.raised", "warning.updated", "warning.cleared"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_ZEROS: Life}

    _decoders: Final = {"weighing.measured": msgspec.json.Decoder(Event[_Weighing])}

    def __init__(self, policy: IdleZeroPolicy = IdleZeroPolicy()) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        events: list[Emit] = []
        for row, event in batch.decode(self._decoders):
            data: _Weighing = event.data
            if data.zero_kg is None:
                continue
            received = batch.received[row]
            time = time_of(event, received)
            before: Life = scratch.get(_ZEROS, event.source) or UNSEEN
            policy, version = policy_of(state, self._policy, time) or (None, 0)
            change, life = lived(before, moment(time, received), _severity(policy, abs(data.zero_kg), before.severity))
            scratch.put(_ZEROS, event.source, life)
            if change is None:
                continue
            parameters = {"zero_kg": str(data.zero_kg), "plate": data.plate}
            if policy is not None:
                parameters["tolerance_kg"] = str(policy.tolerance_kg)
            events.append(
                told(
                    self, change, before, life, "idle-not-zero", event.source, parameters, batch, row, time,
                    batch.origins[row], self._policy.rule, version,
                )
            )  # fmt: skip
        return Effects(events, scratch.changes)


def _severity(policy: IdleZeroPolicy | None, off_kg: int, now: str) -> str:
    """How bad an idle reading is, where the open warning has severity ``now``."""
    if policy is None:
        return ""
    if off_kg > policy.tolerance_kg:
        return "high" if off_kg > policy.high_kg else "medium"
    return "" if off_kg <= policy.clear_kg else now
