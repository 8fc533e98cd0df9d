"""Every operator under the laws that every operator obeys."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hengliu.events.family import EventData
from streams.kernel.operator import Operator
from streams.operators.anomaly import Anomalies
from streams.operators.calibration import Calibration
from streams.operators.catalog import GROUPS
from streams.operators.flows import Flows
from streams.operators.idle_zero import IdleZero
from streams.operators.legs import Legs
from streams.operators.meters import Meters
from streams.operators.overload import Overload
from streams.operators.plate_match import PlateMatch
from streams.operators.positions import Positions
from streams.operators.prices import PricePolicy, Prices
from streams.operators.registers import RegisterPolicy
from streams.operators.repeated import RepeatedWeighing
from streams.operators.sales import Sales
from streams.operators.shipments import Shipments
from streams.operators.silence import Silence
from streams.operators.stock import Stock
from streams.operators.supply import SupplyCut
from streams.operators.tare_drift import TareDrift, TareDriftPolicy
from streams.operators.tickets import Tickets
from streams.operators.weight_curve import WeightCurve
from tests.operators.anomaly_strategies import ANOMALY_REFERENCE, loads
from tests.operators.journey_strategies import CITY, journeys, movements
from tests.operators.laws import Input, check_laws, cuts, run
from tests.operators.passage_strategies import PASSAGE_REFERENCE, passages, tares
from tests.operators.strategies import (
    BASE,
    DAY,
    DEVICE_REFERENCE,
    METER_REFERENCE,
    SALES_REFERENCE,
    STOCK_REFERENCE,
    WEIGHING_REFERENCE,
    meter_readings,
    quotes,
    reports,
    sold,
    stock_inputs,
    tickets,
    weighings,
)
from tests.operators.supply_strategies import SUPPLY_REFERENCE, site_traffic


@dataclass(frozen=True)
class Case:
    """Operators that run in one group, what they are fed, and what is registered."""

    operators: tuple[Operator, ...]
    inputs: st.SearchStrategy[list[Input]]
    registered: Sequence[EventData] = ()


CASES = {
    "tickets": Case((Tickets(),), weighings(), WEIGHING_REFERENCE),
    "overload": Case((Overload(),), tickets(), WEIGHING_REFERENCE),
    "flows": Case((Flows(),), tickets()),
    "shipments": Case((Legs(), Shipments()), journeys(), CITY),
    "positions": Case((Positions(),), movements(), CITY),
    "meters": Case((Meters(),), meter_readings(), METER_REFERENCE),
    "meters keeping few": Case((Meters(RegisterPolicy(keep=4)),), meter_readings(), METER_REFERENCE),
    "anomalies": Case((Anomalies(),), loads(), ANOMALY_REFERENCE),
    "meter": Case((Meters(), Anomalies()), meter_readings(), METER_REFERENCE),
    "silence": Case((Silence(),), reports(), DEVICE_REFERENCE),
    "sales": Case((Sales(),), sold(), SALES_REFERENCE),
    "prices": Case((Prices(PricePolicy(min_peers=2, index_raw=60_000)),), quotes()),
    "supply-cut": Case((SupplyCut(),), site_traffic(), SUPPLY_REFERENCE),
    "plates": Case((PlateMatch(),), passages(), PASSAGE_REFERENCE),
    "repeated": Case((RepeatedWeighing(),), passages(), PASSAGE_REFERENCE),
    "tare drift": Case((TareDrift(TareDriftPolicy(least=2)),), tares(), PASSAGE_REFERENCE),
    "scales": Case((IdleZero(), Calibration(), WeightCurve()), passages(), PASSAGE_REFERENCE),
    "stock": Case((Stock(),), stock_inputs(), STOCK_REFERENCE),
    "vehicle": Case((Tickets(), Overload(), Flows()), weighings(), WEIGHING_REFERENCE),
}


@pytest.mark.parametrize("name", CASES)
@given(data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_cut_replay_restore_and_identity(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    inputs = data.draw(case.inputs)
    last = inputs[-1].received if inputs else BASE
    until = last + data.draw(st.sampled_from([0, 1, 1_000, 6 * 3_600_000, 3 * DAY]))
    check_laws(case.operators, inputs, until, case.registered, data.draw(cuts(len(inputs))))


def test_every_operator_has_a_case() -> None:
    """A new operator is not finished before it stands under the laws."""
    listed = {operator.name for group in GROUPS for operator in group.operators}
    tested = {operator.name for case in CASES.values() for operator in case.operators}
    assert listed == tested


@given(tickets())
@settings(max_examples=80, deadline=None)
def test_panes_of_flow_sum_to_the_tickets(inputs: list[Input]) -> None:
    until = (inputs[-1].received if inputs else BASE) + 1_000
    panes = run((Flows(),), inputs, until).data("flow.summed")
    assert sum(p["net_kg"] for p in panes) == sum(i.data["net_kg"] for i in inputs)
    assert sum(p["tickets"] for p in panes) == len(inputs)


@given(weighings())
@settings(max_examples=80, deadline=None)
def test_every_crossing_ends_in_a_ticket_a_warning_or_a_repeat(inputs: list[Input]) -> None:
    """Nothing vanishes: after the last time-out nothing waits, and causes name no crossing twice."""
    until = (inputs[-1].received if inputs else BASE) + 2 * DAY
    found = run((Tickets(),), inputs, until, WEIGHING_REFERENCE)
    causes = [c for e in found.emitted for c in e.emit.cause.split(",")]
    assert len(set(causes)) == len(causes)
    assert set(causes) <= {i.origin for i in inputs}
    assert not found.state["tickets", "waiting"]
    assert not found.state["tickets", "timers"]
    for ticket in found.data("weighing.recorded"):
        assert ticket["net_kg"] == ticket["gross_kg"] - ticket["tare_kg"] >= 500


@given(tickets())
@settings(max_examples=40, deadline=None)
def test_two_partitions_never_share_an_identity(inputs: list[Input]) -> None:
    """The same panes summed by two tasks of one group stay two panes."""
    until = (inputs[-1].received if inputs else BASE) + 1_000
    ids = [e.id for lane in (0, 1) for e in run((Flows(),), inputs, until, lane=lane).emitted]
    assert len(set(ids)) == len(ids)
