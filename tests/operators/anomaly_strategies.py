"""Loads for the laws: intervals of two meters, in order or late, estimated, repeated, with steps and spikes."""

from collections.abc import Sequence

from hypothesis import strategies as st

from hengliu.events.envelope import iso_ms
from hengliu.events.families.registry import RulePublished
from hengliu.events.family import EventData
from tests.operators.laws import Input, in_receive_order
from tests.operators.strategies import BASE, DAY, HOUR, MINUTE

__all__ = ["ANOMALY_REFERENCE", "EAGER", "consumption", "loads"]

EAGER = {"limit": "1.5", "warm_samples": "20", "rest_samples": "8", "accept_samples": "12", "horizon_s": "3600"}
ANOMALY_REFERENCE: Sequence[EventData] = (
    RulePublished(rule="anomaly", version=2, parameters=EAGER),
    RulePublished(
        rule="anomaly", version=3, parameters={**EAGER, "detector": "spike"}, valid_from=iso_ms(BASE + 2 * DAY)  # type: ignore[arg-type]
    ),
    RulePublished(rule="anomaly", version=4, parameters={}, status="retired", valid_from=iso_ms(BASE + 4 * DAY)),  # type: ignore[arg-type]
    RulePublished(
        rule="anomaly", version=5, parameters={**EAGER, "detector": "flat-line"}, valid_from=iso_ms(BASE + 5 * DAY)  # type: ignore[arg-type]
    ),
)  # fmt: skip


def consumption(
    number: int, received: int, end: int, amount: str, *, meter: str = "em-1", minutes: int = 60, quality: str = "measured"
) -> Input:
    """One ``consumption.recorded`` as the meters' operator emits it."""
    data = {
        "enterprise": "m01", "site": "m01", "division": "150303", "meter": meter, "quantity": "electricity", "flow": "import",
        "start": iso_ms(end - minutes * MINUTE), "end": iso_ms(end), "amount": amount, "unit": "kWh", "reading": "interval",
        "quality": quality,
    }  # fmt: skip
    return Input("consumption.recorded", received, end, data, "/streams/meters", f"c{number}", meter)


@st.composite
def loads(draw: st.DrawFn) -> list[Input]:
    """Up to a hundred intervals over up to a week, half-hours to hours."""
    end, found = BASE, []
    level = 10
    number = 0
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["plain", "plain", "still", "high", "late", "gap"]))
        for at in range(draw(st.integers(1, 24))):
            number += 1
            end += HOUR
            amount = {"still": 5, "high": level * 40}.get(kind, level) + (0 if kind == "still" else at * 7 % 5)
            lag = draw(st.sampled_from([0, 0, 1_000, 20 * MINUTE]))
            if kind == "late":
                lag = draw(st.sampled_from([0, HOUR, 2 * HOUR, 9 * HOUR, -HOUR]))
            quality = "estimated" if kind == "gap" else "measured"
            meter = "em-2" if draw(st.integers(0, 9)) == 0 else "em-1"
            found.append(consumption(number, end + lag, end, f"{amount}.5", meter=meter, quality=quality))
        end += 30 * HOUR if kind == "gap" else 0
    return in_receive_order(found)
