"""Gross-mass limits and the warnings made of them."""

import os
from pathlib import Path

import pytest

from hengliu.events.envelope import iso_ms
from hengliu.events.families.registry import RulePublished, VehicleRegistered
from hengliu.events.family import EventData
from hengliu.reference.mass_limits import LIMITS, gross_limit_kg
from streams.operators.overload import Overload
from tests.operators.laws import Input, Run, in_receive_order, run
from tests.operators.strategies import BASE


def judge(gross_kg: int, axles: int | None = None, *registered: EventData) -> Run:
    data = {
        "enterprise": "m01", "site": "m01", "division": "150303", "plate": "蒙C12345", "direction": "out",
        "gross_kg": gross_kg, "tare_kg": 0, "net_kg": gross_kg, "gross_time": iso_ms(BASE), "tare_source": "measured",
        "commodity": "raw", "use": "power", **({"axles": axles} if axles is not None else {}),
    }  # fmt: skip
    ticket = Input("weighing.recorded", BASE, BASE, data, "/streams/tickets", "t1")
    return run((Overload(),), in_receive_order([ticket]), BASE, registered)


@pytest.mark.parametrize(
    ("axles", "kind", "limit"),
    [(2, "rigid", 18), (3, "rigid", 25), (3, "combination", 27), (4, "rigid", 31), (4, "combination", 36),
     (5, "combination", 43), (6, "combination", 49), (7, "combination", 49), (12, "combination", 49)],
)  # fmt: skip
def test_limits_of_article_3(axles: int, kind: str, limit: int) -> None:
    assert gross_limit_kg(LIMITS, axles, kind) == limit * 1_000  # type: ignore[arg-type]


def test_exceptions_of_article_3() -> None:
    assert gross_limit_kg(LIMITS, 6, "combination", single_drive_axle=True) == 46_000
    assert gross_limit_kg(LIMITS, 5, "combination", single_drive_axle=True) == 43_000
    assert gross_limit_kg(LIMITS, 3, "rigid", single_tyre=True) == 22_000
    assert gross_limit_kg(LIMITS, 4, "rigid", air_suspension=True) is None
    assert gross_limit_kg(LIMITS, 4, "rigid", air_suspension=True, licence_mass_kg=32_000) == 32_000
    assert gross_limit_kg(LIMITS, 5, "rigid") is None, "the table has no rigid vehicle of five axles: a person looks"
    assert gross_limit_kg(LIMITS, None, "unknown") is None


def test_an_unregistered_vehicle_gets_the_milder_limit() -> None:
    assert gross_limit_kg(LIMITS, 3, "unknown") == 27_000
    assert gross_limit_kg(LIMITS, 2, "unknown") == 18_000
    assert judge(27_000, 3).emitted == []
    assert len(judge(27_001, 3).emitted) == 1
    assert judge(90_000).emitted == [], "unknown axles: no verdict"


def test_the_registered_vehicle_decides_before_the_scale() -> None:
    vehicle = VehicleRegistered(plate="蒙C12345", kind="combination", axles=6, single_drive_axle=True)
    (warning,) = judge(52_300, 4, vehicle).data("warning.raised")
    assert warning["parameters"] == {
        "gross_kg": "52300", "limit_kg": "46000", "over_kg": "6300", "axles": "6", "kind": "combination", "ticket": "t1",
    }  # fmt: skip
    assert (warning["code"], warning["severity"], warning["rule"], warning["rule_version"]) == (
        "overload",
        "high",
        "overload",
        1,
    )
    assert judge(47_000, 4, vehicle).data("warning.raised")[0]["severity"] == "medium"


def test_a_published_rule_replaces_the_table_and_its_version_is_kept() -> None:
    rule = RulePublished(rule="overload", version=4, parameters={**LIMITS, "combination-6": "50000"})
    assert judge(50_000, 6, rule).emitted == []
    (warning,) = judge(50_001, 6, rule).data("warning.raised")
    assert (warning["parameters"]["limit_kg"], warning["rule_version"]) == ("50000", 4)


def test_a_version_that_names_one_row_keeps_the_others() -> None:
    rule = RulePublished(rule="overload", version=4, parameters={"rigid-2": "17000"})
    (warning,) = judge(49_001, 6, rule).data("warning.raised")
    assert (warning["parameters"]["limit_kg"], warning["rule_version"]) == ("49000", 4)
    assert judge(18_000, 2, rule).data("warning.raised")[0]["parameters"]["limit_kg"] == "17000"


def test_a_retired_rule_raises_nothing() -> None:
    retired = RulePublished(rule="overload", version=4, parameters={}, status="retired")
    assert judge(90_000, 6, retired).emitted == []


@pytest.mark.realdata
def test_vectors_of_the_regulation() -> None:
    """Every row of the gross-mass vectors."""
    rows = Path(os.environ["HENGLIU_REAL_DATA"], "vectors", "overload.tsv").read_text(encoding="utf-8").splitlines()
    judged = 0
    for line in rows:
        if line.startswith("#") or not line.strip():
            continue
        axles, kind, limit, *_ = line.split("\t")
        found = gross_limit_kg(
            LIMITS,
            int(axles.rstrip("+")),
            "rigid" if kind.startswith("货车") else "combination",
            single_drive_axle="单轴" in kind,
        )
        assert found == int(limit) * 1_000, line
        judged += 1
    assert judged == 8
