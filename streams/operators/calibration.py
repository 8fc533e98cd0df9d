"""Calibration: weighing on a scale whose verification has run out, or was never registered where the rule demands it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from hengliu.events.envelope import iso_ms, ms_of
from hengliu.events.families.registry import DeviceRegistered
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import State
from streams.operators.lives import UNSEEN, Life, lived, moment, told
from streams.operators.records import DAY_MS, Event, time_of
from streams.rules.policy import parameter, policy_of

__all__ = ["Calibration", "CalibrationPolicy"]

_SCALES = "scales"


@dataclass(frozen=True, slots=True)
class CalibrationPolicy:
    """Parameters of rule ``calibration``.

    A working instrument for trade settlement that was not submitted for verification, or failed it, must not be used
    (《中华人民共和国计量法》 Article 9). Whether a scale without any registered certificate is taken for such a one is this
    platform's choice; by default it is not, since certificates reach a register later than scales do.
    """

    rule: ClassVar[str] = "calibration"
    RULE_VERSION: ClassVar[int] = 1

    unregistered: str = parameter("ignore", zh="未登记检定", en="Scales without a certificate", choices=("ignore", "warn"))
    grace_days: int = parameter(0, unit="d", zh="宽限天数", en="Days of grace", minimum=0, maximum=366)


class _Nothing(msgspec.Struct, frozen=True):
    pass


class Calibration:
    """``weighing.measured`` and ``belt.metered`` of a scale that is out of calibration raise ``scale-not-calibrated``.

    The registration valid at the reading's time says until when the scale's verification holds (``calibrated_until``, that
    instant included). One warning lasts until the first reading under a valid certificate. A scale that nobody uses raises
    nothing.
    """

    name: Final = "calibration"
    version: Final = 1
    inputs: Final = frozenset({"weighing.measured", "belt.metered"})
    emits: Final = frozenset({"warning.raised", "warning.updated", "warning.cleared"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_SCALES: Life}

    _decoders: Final = dict.fromkeys(sorted(inputs), msgspec.json.Decoder(Event[_Nothing]))

    def __init__(self, policy: CalibrationPolicy = CalibrationPolicy()) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        events: list[Emit] = []
        for row, event in batch.decode(self._decoders):
            received = batch.received[row]
            time = time_of(event, received)
            device = state.reference.device(event.source, time)
            policy, version = policy_of(state, self._policy, time) or (None, 0)
            before: Life = scratch.get(_SCALES, event.source) or UNSEEN
            severity, parameters = _judged(policy, device, time)
            if not severity and before is UNSEEN:
                continue  # a scale that was never out of calibration needs no row
            change, life = lived(before, moment(time, received), severity)
            scratch.put(_SCALES, event.source, life)
            if change is None:
                continue
            events.append(
                told(
                    self, change, before, life, "scale-not-calibrated", event.source, parameters, batch, row, time,
                    batch.origins[row], self._policy.rule, version,
                )
            )  # fmt: skip
        return Effects(events, scratch.changes)


def _judged(policy: CalibrationPolicy | None, device: DeviceRegistered | None, time: int) -> tuple[str, dict[str, str]]:
    """Severity (empty: nothing is wrong) and parameters of a reading at ``time``, ms."""
    until = None if device is None or device.calibrated_until is None else ms_of(device.calibrated_until)
    parameters = {} if until is None else {"calibrated_until": iso_ms(until)}
    if policy is None:
        return "", parameters
    if until is None:
        return ("medium" if policy.unregistered == "warn" else ""), parameters
    return ("high" if time > until + policy.grace_days * DAY_MS else ""), parameters
