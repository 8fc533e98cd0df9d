"""Meters, case by case, and the sums that must hold whatever the order."""

import csv
import io
import os
import zipfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.events.envelope import iso_ms
from hengliu.events.families.registry import DeviceRegistered
from hengliu.events.family import EventData
from hengliu.reference.units import to_base
from streams.kernel.reference import ClockResumed
from streams.operators.meters import Meters
from streams.operators.registers import Finding, Register, RegisterPolicy, Step, observe
from tests.operators.laws import Input, Run, check_laws, cuts, in_receive_order, run
from tests.operators.strategies import BASE, HOUR, METER_REFERENCE, meter_readings

SOURCE = "urn:x:wm-1"


def shown(hour: float, value: str, received: float | None = None, unit: str = "L", **more: str) -> Input:
    """A register reading of the water meter at ``hour``."""
    at = BASE + int((hour if received is None else received) * HOUR)
    data = {"meter": "wm-1", "quantity": "water", "reading": "register", "value": value, "unit": unit, **more}
    return Input("meter.read", at, BASE + int(hour * HOUR), data, SOURCE, f"{hour}-{value}-{received}")


def used(start: float, value: str, received: float, hours: float = 0.5) -> Input:
    """An interval reading of the electricity meter."""
    data = {
        "meter": "em-1", "quantity": "electricity", "reading": "interval", "value": value, "unit": "kWh",
        "start": iso_ms(BASE + int(start * HOUR)), "end": iso_ms(BASE + int((start + hours) * HOUR)),
    }  # fmt: skip
    return Input("meter.read", BASE + int(received * HOUR), BASE, data, SOURCE, f"{start}-{value}-{received}")


def metered(*inputs: Input, registered: Sequence[EventData] = (), policy: RegisterPolicy | None = None) -> Run:
    ordered = in_receive_order(inputs)
    return run((Meters(policy),), ordered, ordered[-1].received, registered)


def hour_of(text: str) -> float:
    return (datetime.fromisoformat(text).timestamp() * 1000 - BASE) / HOUR


def counted(found: Run) -> list[tuple[float, float, str]]:
    return [(hour_of(d["start"]), hour_of(d["end"]), d["amount"]) for d in found.data("consumption.recorded")]


def total(found: Run) -> Decimal:
    return sum((Decimal(d["amount"]) for d in found.data("consumption.recorded")), Decimal(0))


def codes(found: Run) -> list[tuple[str, str]]:
    return [(e.emit.type[8:], e.emit.data["code"]) for e in found.emitted if e.emit.type.startswith("warning.")]


def readings(*values: int, start: float = 0) -> list[Input]:
    return [shown(start + n, str(v)) for n, v in enumerate(values)]


def test_neighbouring_readings_are_subtracted_in_the_base_unit() -> None:
    found = metered(*readings(68_321, 68_331, 68_331))
    assert counted(found) == [(0, 1, "0.010000"), (1, 2, "0.000000")], "no use is a true zero, not a missing one"
    assert found.data("consumption.recorded")[0]["unit"] == "m3"


def test_a_late_reading_splits_the_interval_and_names_what_it_corrects() -> None:
    found = metered(shown(0, "100"), shown(2, "160"), shown(1, "110", received=3))
    assert counted(found) == [(0, 2, "0.060000"), (0, 2, "-0.060000"), (0, 1, "0.010000"), (1, 2, "0.050000")]
    first, back, *_ = found.of("consumption.recorded")
    assert back.emit.corrects == first.id
    assert back.emit.known_at == BASE + 3 * HOUR, "before the late reading came, nobody knew better"


def test_an_older_reading_than_the_first_extends_backwards() -> None:
    assert counted(metered(shown(5, "500"), shown(1, "100", received=6))) == [(1, 5, "0.400000")]


def test_back_flow_counts_negative_without_a_warning() -> None:
    found = metered(*readings(1_000, 1_020, 1_011, 1_030))
    assert counted(found)[1] == (1, 2, "-0.009000")
    assert codes(found) == []
    assert total(found) == Decimal("0.030")


def test_a_stale_value_that_returns_is_no_finding() -> None:
    """A reading stamped too late: the register falls by less than it has just risen, and comes back."""
    values = [0, 40, 130, 170, 300, 460, 348, 460, 475]
    found = metered(*readings(*values))
    assert codes(found) == []
    assert total(found) == Decimal("0.475")


def test_a_wrap_goes_on_counting() -> None:
    device = DeviceRegistered(device="wm-1", source=SOURCE, kind="meter", site="m01", register_digits=5)
    found = metered(*readings(99_900, 99_960, 20, 60), registered=(device,))
    assert [a for _, _, a in counted(found)] == ["0.060000", "0.060000", "0.040000"]
    late = metered(*readings(99_900, 99_960, 20), shown(1.5, "99990", received=4), registered=(device,))
    assert total(late) == Decimal("0.120")
    assert codes(found) == codes(late) == []


def test_a_replaced_meter_is_a_new_baseline_and_nothing_negative() -> None:
    found = metered(*readings(307_000, 307_040, 307_100, 307_130, 307_150, 307_190, 3, 20, 50, 90))
    assert codes(found) == [("raised", "meter-replaced")]
    assert found.data("warning.raised")[0]["parameters"] == {"before": "307.190000", "after": "0.003000", "unit": "m3"}
    assert min(Decimal(a) for _, _, a in counted(found)) >= 0
    assert total(found) == Decimal("0.190") + Decimal("0.087")


def test_one_impossible_reading_counts_nothing_and_is_reported_in_the_end() -> None:
    steady = [307_000 + 20 * n for n in range(8)]
    found = metered(*readings(*steady), shown(8.5, "0"), *readings(*(307_160 + 20 * n for n in range(70)), start=9))
    assert codes(found) == [("raised", "reading-implausible")]
    assert total(found) == Decimal(307_160 + 20 * 69 - 307_000) / 1000


@pytest.mark.parametrize("pattern", ["ababab", "abbaabab", "aababbab"])
@pytest.mark.parametrize("other", [456_017, 3_000, 217_774])
def test_two_registers_under_one_name_are_one_finding_and_each_is_counted(pattern: str, other: int) -> None:
    """Whichever way they alternate, and wherever the second register stands."""
    one = [207_000 + 30 * n for n in range(10)]
    a, b = 207_300, other
    inputs = readings(*one)
    used = 30
    for n, which in enumerate(pattern):
        if which == "a":
            a += 35
            inputs.append(shown(10 + n * 0.5, str(a)))
            used += 35
        else:
            b += 45
            inputs.append(shown(10 + n * 0.5, str(b)))
    found = metered(*inputs)
    assert codes(found) == [("raised", "register-interleaved")]
    assert total(found) * 1000 == 9 * 30 + 30 + 35 * pattern.count("a") + 45 * (pattern.count("b") - 1)


def test_the_same_interval_again_with_another_value_corrects_the_first() -> None:
    found = metered(used(0, "1.5", 1), used(0, "1.5", 2), used(0, "1.75", 3))
    assert counted(found) == [(0, 0.5, "1.500000"), (0, 0.5, "-1.500000"), (0, 0.5, "1.750000")]
    first, back, _ = found.of("consumption.recorded")
    assert back.emit.corrects == first.id


def stopped(start: float, end: float, partition: str = "registry/0") -> ClockResumed:
    """The platform received nothing between two hours."""
    since, until = (iso_ms(BASE + int(hour * HOUR)) for hour in (start, end))
    return ClockResumed.model_validate({"partition": partition, "valid_from": since, "until": until})


WATCHED = DeviceRegistered(device="wm-1", source=SOURCE, kind="meter", site="m01", silence_after_s=7_200)


def test_a_stop_of_the_platform_is_nobody_s_gap() -> None:
    """Every meter's next reading comes hours later: estimated, since it spans long, and no warning."""
    inputs = [*readings(*range(0, 100, 10)), shown(21, "200")]
    away = [stopped(9.2, 20.8), stopped(9.3, 20.5, "registry/1")]
    found = metered(*inputs, registered=(WATCHED, *away))
    assert codes(found) == []
    assert [d["quality"] for d in found.data("consumption.recorded")][9] == "estimated"
    assert codes(metered(*inputs, registered=(WATCHED,))) == [("raised", "meter-gap")]


def test_a_gap_beyond_the_stop_is_still_one() -> None:
    inputs = [*readings(*range(0, 100, 10)), shown(21, "200")]
    short = metered(*inputs, registered=(WATCHED, stopped(9.5, 16)))
    assert codes(short) == [("raised", "meter-gap")], "5.5 of 12 hours were listened to, and four usual ones are allowed"
    assert codes(metered(*inputs, registered=(WATCHED, stopped(9.5, 17.5)))) == []
    assert codes(metered(*inputs, registered=(WATCHED, stopped(-20, -2), stopped(30, 50)))) == [("raised", "meter-gap")]


@settings(max_examples=40)
@given(meter_readings(), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=4), st.data())
def test_the_laws_hold_with_stops(inputs: list[Input], stops: list[tuple[int, int]], data: st.DataObject) -> None:
    away: list[ClockResumed] = []
    end = -1
    for start, length in sorted(stops):
        if start > end:
            end = start + length
            away.append(stopped(start, end))
    until = max((i.received for i in inputs), default=BASE) + 1
    meters = Meters(RegisterPolicy(gap_known=1, gap_factor=2))
    check_laws((meters,), inputs, until, (*METER_REFERENCE, *away), data.draw(cuts(len(inputs))))


def test_a_gap_is_estimated_and_a_warning_only_where_silence_matters() -> None:
    watched = DeviceRegistered(device="wm-1", source=SOURCE, kind="meter", site="m01", silence_after_s=7_200)
    inputs = [*readings(*range(0, 100, 10)), shown(20, "200"), shown(15, "150", received=21)]
    found = metered(*inputs, registered=(watched,))
    assert codes(found) == [("raised", "meter-gap"), ("cleared", "meter-gap"), ("raised", "meter-gap"), ("raised", "meter-gap")]
    assert [d["quality"] for d in found.data("consumption.recorded")][9] == "estimated"
    assert codes(metered(*inputs)) == []
    assert total(found) == Decimal("0.200")


def test_a_reading_beyond_the_horizon_changes_no_sum_and_is_said() -> None:
    found = metered(*readings(*range(0, 1_000, 10)), shown(3.5, "33", received=200), policy=RegisterPolicy(keep=8))
    assert codes(found) == [("raised", "late-beyond-horizon")]
    assert total(found) == Decimal("0.990")


def test_units_convert_exactly() -> None:
    assert to_base(Decimal(1), "kWh", "heat") == (Decimal("0.003600"), "GJ")
    assert to_base(Decimal("0.000001"), "kWh", "heat") == (Decimal(0), "GJ")
    assert to_base(Decimal(1_500), "kg", "steam") == (Decimal("1.5"), "t")
    assert to_base(Decimal("0.0005"), "L", "water")[0] == Decimal(0), "half to even"
    with pytest.raises(KeyError):
        to_base(Decimal(1), "kWh", "water")


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=40), st.randoms(use_true_random=False), st.integers(3, 48))
@settings(max_examples=150, deadline=None)
def test_consumption_is_last_minus_first_in_any_order(steps: list[int], random: Random, keep: int) -> None:
    """No resets: whatever the order of receipt, and even where late readings fall beyond the horizon."""
    values = [10_000]
    for step in steps:
        values.append(values[-1] + step)
    order = list(range(len(values)))
    random.shuffle(order)
    inputs = [shown(n, str(values[n]), received=100 + at) for at, n in enumerate(order)]
    found = metered(*inputs, policy=RegisterPolicy(keep=keep))
    assert total(found) * 1000 == values[-1] - values[0]
    assert [c for c in codes(found) if c[1] != "late-beyond-horizon"] == []


@pytest.mark.realdata
@pytest.mark.slow
def test_alicante_back_flow_is_no_alarm_and_two_registers_are_one_finding() -> None:
    """Every meter with a drop of more than 10 litres, and every twelfth of all: one pair of interleaved registers, one burst
    of garbage, and dozens of stale readings and back-flows that are neither."""
    path = Path(os.environ["HENGLIU_REAL_DATA"], "water-alicante-hourly-register.zip")
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as raw:
        meters: dict[str, list[tuple[int, Decimal]]] = defaultdict(list)
        for row in csv.DictReader(io.TextIOWrapper(raw, "utf-8"), delimiter=";"):
            at = datetime.strptime(row["datetime"], "%d/%m/%Y %H:%M:%S").replace(tzinfo=UTC)
            meters[row["user key"]].append((int(at.timestamp()) * 1000, Decimal(row["meter reading"]) / 1000))
    dropping = {m for m, rows in meters.items() if any(b[1] - a[1] < Decimal("-0.010") for a, b in pairwise(sorted(rows)))}
    assert len(dropping) == 7
    chosen = dropping | set(sorted(meters)[::12])
    policy = RegisterPolicy(backflow=Decimal("0.010"))
    found: Counter[tuple[str, str, str]] = Counter()
    sums: dict[str, Decimal] = {}
    for meter in sorted(chosen):
        rows = meters[meter]
        register = Register()
        sums[meter] = Decimal(0)
        for time, value in rows:
            register, out = observe(register, policy, time, value, known_at=time, cause="")
            for item in out:
                if isinstance(item, Step):
                    sums[meter] += item.amount
                else:
                    assert isinstance(item, Finding)
                    found[meter[:8], item.change, item.code] += 1
    assert found == {
        ("9348c9bb", "raised", "register-interleaved"): 1,
        ("9348c9bb", "cleared", "register-interleaved"): 1,
        ("1de2cf65", "raised", "reading-implausible"): 1,
    }
    for meter in chosen:
        rows = meters[meter]
        first, last = min(rows), max(rows)
        second = Decimal("0.410") if meter.startswith("9348c9bb") else Decimal(0)
        assert sums[meter] == last[1] - first[1] + second, meter
