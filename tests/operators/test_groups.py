"""The declared groups run by the kernel's own task: cuts, registrations in between, and all types that they declare."""

from collections.abc import Mapping, Sequence
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.events.envelope import encode_event, iso_ms
from hengliu.ports.log import EventLog, Headers, LogReader, Record, TaskId, TopicPartition
from streams.kernel.merge import Arrival
from streams.kernel.operator import Operator
from streams.kernel.task import OperatorTask, Outputs, Wiring
from streams.operators.catalog import GROUPS
from streams.operators.flows import Flows
from streams.operators.overload import Overload
from streams.operators.tickets import Tickets
from tests.operators.journey_strategies import legs, movements
from tests.operators.laws import Input, in_receive_order
from tests.operators.passage_strategies import passages
from tests.operators.strategies import BASE, DAY, HOUR, meter_readings, quotes, reports, sold, stock_inputs, weighings
from tests.operators.supply_strategies import site_traffic

CATALOG = Catalog()


def mixed(*inputs: list[Input]) -> list[Input]:
    return in_receive_order([one for some in inputs for one in some])


INPUTS = {
    "vehicle": st.one_of(st.builds(mixed, weighings(), movements()), passages()),
    "meter": meter_readings(),
    "device": st.one_of(reports(), passages()),
    "site": st.one_of(st.builds(mixed, stock_inputs(), legs()), passages(), site_traffic()),
    "enterprise": sold(),
    "market": quotes(),
}


def arrival(item: Input, offset: int) -> Arrival:
    headers = Headers(
        received=item.received, type=item.type, enterprise=item.scope[0], site=item.scope[1], division=item.scope[2],
        known_at=item.known, upstream="exchange-0", origin=item.origin,
    )  # fmt: skip
    return Arrival(item.received, 0, "t", 0, offset, item.key.encode(), item.value, headers)


def registration(received: int, number: int, type_: str, data: dict[str, object]) -> Input:
    return Input(type_, received, received, data, "/aggregates/registry", f"g{number}")


REGISTRATIONS: Sequence[tuple[str, dict[str, object]]] = (
    ("vehicle.registered", {"plate": "蒙C00001", "kind": "combination", "axles": 6, "tare_kg": 15_000, "tare_usable": True}),
    ("vehicle.registered", {"plate": "蒙C00002", "kind": "rigid", "axles": 4}),
    ("device.registered", {"device": "a", "source": "urn:x:a", "kind": "weighbridge", "site": "m01", "silence_after_s": 600}),
    ("device.registered", {"device": "b1", "source": "urn:x:b1", "kind": "belt-scale", "site": "m01", "belt_role": "produced"}),
    ("device.registered", {"device": "w", "source": "urn:x:wm-1", "kind": "meter", "site": "m01", "register_digits": 6}),
    ("rule.published", {"rule": "tickets", "version": 2, "parameters": {"timeout_s": "3600"}}),
    ("rule.published", {"rule": "overload", "version": 2, "parameters": {}, "status": "retired"}),
    ("rule.published", {"rule": "price", "version": 2, "parameters": {"index_raw": "60000", "min_peers": "2"}}),
    ("rule.published", {"rule": "sales-volume", "version": 2, "parameters": {"recent_days": "3", "min_baseline_t": "0"}}),
)


async def _no_reader(positions: Mapping[TopicPartition, int]) -> LogReader:
    raise AssertionError("nothing is read here")


class Released:
    """A group's task, fed with what a merge would release."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        # Only ``transform`` is under test: it touches neither log nor reader.
        no_log, inputs = cast("EventLog", None), {topics.BY_DEVICE: ["exchange-0"]}
        self._task = OperatorTask(TaskId("test", 0), Wiring(no_log, open_reader=_no_reader), CATALOG, 1, operators, inputs)
        self.written: list[tuple[str, Record]] = []

    def feed(self, arrivals: Sequence[Arrival], clock: int) -> None:
        outputs = Outputs()
        self._task.transform(arrivals, clock, outputs)
        self.written += [(append.topic, record) for append in outputs.appends() for record in append.records]

    @property
    def by_topic(self) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = {}
        for topic, record in self.written:
            found.setdefault(topic, []).append(record)
        return found


@pytest.mark.parametrize("group", [g.name for g in GROUPS])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_release_gives_the_same_records(group: str, data: st.DataObject) -> None:
    """Registrations arrive among the records, also for the first time and between two releases."""
    operators = next(g.operators for g in GROUPS if g.name == group)
    inputs = list(data.draw(INPUTS[group]))
    for number, (type_, payload) in enumerate(REGISTRATIONS):
        at = BASE + data.draw(st.sampled_from([-1_000, 0, 1, 600_000, HOUR, DAY]))
        inputs.append(registration(at, number, type_, payload))
    # Plain topics rank before clocked ones, so a registration comes first among equals.
    ordered = sorted(inputs, key=lambda i: (i.received, i.source != "/aggregates/registry"))
    arrivals = [arrival(item, n) for n, item in enumerate(ordered)]
    until = ordered[-1].received + data.draw(st.sampled_from([1, 2_000, 2 * DAY]))

    whole = Released(operators)
    whole.feed(arrivals, until)
    pieces = Released(operators)
    cuts = sorted(data.draw(st.lists(st.integers(ordered[0].received, until), max_size=5)))
    at = 0
    for clock in [*cuts, until]:
        upto = next((n for n in range(at, len(arrivals)) if arrivals[n].received >= clock), len(arrivals))
        pieces.feed(arrivals[at:upto], clock)
        at = upto
    assert pieces.by_topic == whole.by_topic
    assert topics.QUARANTINE not in whole.by_topic, "an operator raised"


def test_a_timer_does_not_see_a_registration_received_after_it() -> None:
    """The vehicle becomes known, with a usable tare, an hour after its lone crossing timed out; both are released at once."""
    crossing = Input("weighing.measured", BASE, BASE, {"plate": "蒙C00001", "mass_kg": 48_000}, "urn:x:wb", "w1")
    late = registration(BASE + DAY + HOUR, 0, *REGISTRATIONS[0])
    operators = GROUPS[0].operators
    found = Released(operators)
    found.feed([arrival(crossing, 0)], BASE + 1)
    found.feed([arrival(late, 1)], BASE + 2 * DAY)
    assert list(found.by_topic) == [topics.WARNING]


@pytest.mark.logs_errors
def test_a_record_that_breaks_an_operator_is_quarantined_and_the_rest_goes_on() -> None:
    good = Input("weighing.measured", BASE, BASE, {"plate": "蒙C00001", "mass_kg": 15_000}, "urn:x:wb", "w1")
    bad = Input("weighing.measured", BASE + 1, BASE, {"plate": 7}, "urn:x:wb", "w2")
    more = Input("weighing.measured", BASE + 2, BASE + HOUR, {"plate": "蒙C00001", "mass_kg": 48_000}, "urn:x:wb", "w3")
    found = Released((Tickets(), Overload(), Flows()))
    found.feed([arrival(i, n) for n, i in enumerate(in_receive_order([good, bad, more]))], BASE + 10_000)
    assert {t: len(r) for t, r in found.by_topic.items()} == {topics.QUARANTINE: 1, topics.TICKET: 1, topics.FLOW: 1}


def test_derived_records_say_when_they_were_known() -> None:
    ticket = {
        "enterprise": "m01", "site": "m01", "division": "150303", "plate": "蒙C1", "direction": "out", "gross_kg": 20_000,
        "tare_kg": 10_000, "net_kg": 10_000, "gross_time": iso_ms(BASE), "tare_source": "register",
        "commodity": "raw", "use": "power",
    }  # fmt: skip
    value = encode_event("weighing.recorded", "/streams/tickets", "t1", BASE, ticket)
    headers = Headers(
        received=BASE + 500, type="weighing.recorded", enterprise="m01", site="m01", division="150303", known_at=BASE + 9
    )
    found = Released(next(g.operators for g in GROUPS if g.name == "site"))
    found.feed([Arrival(BASE + 500, 0, "ticket", 0, 0, b"m01", value, headers)], BASE + 1_000)
    (record,) = found.by_topic[topics.STOCK]
    assert (record.headers.received, record.headers.known_at) == (BASE + 500, BASE + 9)
