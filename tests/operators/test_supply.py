"""A cut supply told apart from quiet, case by case."""

from collections.abc import Sequence
from datetime import UTC, datetime

from hengliu.events.envelope import iso_ms
from hengliu.events.families.registry import DeviceRegistered, RulePublished
from hengliu.events.family import EventData
from streams.kernel.reference import ClockResumed
from streams.operators.supply import SupplyCut, SupplyCutPolicy
from tests.operators.laws import Input, Run, in_receive_order, run
from tests.operators.strategies import BASE

SCALES = (
    DeviceRegistered(device="a", source="urn:x:a", kind="weighbridge", site="m01", silence_after_s=600),
    DeviceRegistered(device="b", source="urn:x:b", kind="weighbridge", site="m01", silence_after_s=600),
    DeviceRegistered(device="cam", source="urn:x:cam", kind="camera", site="m01"),
)


def report(second: int, source: str = "urn:x:a", kind: str = "heartbeat", state: str = "ok") -> Input:
    at = BASE + second * 1000
    return Input("device.reported", at, at, {"kind": kind, "state": state}, source, f"{source}-{second}-{kind}")


def capture(second: int, plate: str, direction: str = "in", late: int = 0) -> Input:
    at = BASE + second * 1000
    data = {"plate": plate, "lane": "1", "direction": direction}
    return Input("plate.captured", at + late * 1000, at, data, "urn:x:cam", f"c{second}-{plate}")


def weighed(second: int, plate: str, late: int = 0) -> Input:
    at = BASE + second * 1000
    return Input("weighing.measured", at + late * 1000, at, {"plate": plate, "mass_kg": 30_000}, "urn:x:a", f"w{second}")


def passed(second: int) -> Input:
    at = BASE + second * 1000
    return Input("gate.passed", at, at, {"gate": "g", "terminal": "t"}, "urn:x:term", f"g{second}")


def watch(*inputs: Input, until: int, registered: Sequence[EventData] = SCALES) -> Run:
    return run((SupplyCut(SupplyCutPolicy(settle_s=60)),), in_receive_order(inputs), BASE + until * 1000, registered)


def changes(found: Run) -> list[tuple[str, int]]:
    return [(e.emit.type[8:], (e.emit.at - BASE) // 1000) for e in found.emitted]


TRAFFIC = [capture(400 + 30 * n, f"蒙C0000{n}") for n in range(3)]


def test_vehicles_counted_while_every_scale_is_dark() -> None:
    found = watch(report(0), report(10, "urn:x:b"), *TRAFFIC, report(2_000), until=2_500)
    assert changes(found) == [("raised", 610), ("cleared", 2_000)]
    raised, cleared = (e.emit.data for e in found.emitted)
    assert raised["warning"] == cleared["warning"]
    assert (raised["subject"], raised["code"], raised["severity"]) == ("m01", "supply-cut", "medium")
    assert raised["parameters"] == {"passages": "3", "left": "0", "scales": "2", "lost": "none"}
    assert (raised["rule"], raised["rule_version"], raised["since"]) == ("supply-cut", 1, iso_ms(BASE + 10_000))
    assert found.emitted[0].emit.cause.count("#c") == 3


def test_no_traffic_is_quiet_not_cut() -> None:
    assert changes(watch(report(0), until=10**6)) == []
    assert changes(watch(report(0), *TRAFFIC[:2], until=10**6)) == []


def test_one_living_scale_weighs_for_the_site() -> None:
    beats = [report(second, "urn:x:b") for second in range(0, 5_000, 300)]
    assert changes(watch(report(0), *TRAFFIC, *beats, until=5_000)) == []


def test_the_same_plate_is_one_vehicle_a_direction() -> None:
    again = [capture(400 + n, "蒙C00001") for n in range(9)]
    assert changes(watch(report(0), *again, until=5_000)) == []


def test_vehicles_that_leave_right_after_the_last_weighing_were_weighed() -> None:
    leaving = [capture(30 + 60 * n, f"蒙C0000{n}", "out") for n in range(4)]
    assert changes(watch(weighed(0, "蒙C00000"), *leaving, until=5_000)) == []


def test_an_outage_of_the_whole_site_brings_counts_and_weighings_together() -> None:
    """The camera's buffer comes first, the scale's a second later: nothing was cut."""
    late = [capture(400 + 60 * n, f"蒙C0000{n}", late=2_190 - 60 * n) for n in range(6)]
    buffered = [weighed(420 + 60 * n, f"蒙C0000{n}", late=2_200 - 60 * n) for n in range(6)]
    assert changes(watch(report(0), report(10, "urn:x:a", "network", "lost"), *late, *buffered, until=9_000)) == []


def test_a_works_that_opens_again_has_ten_minutes_to_weigh_who_waited_at_its_gate() -> None:
    opened = [capture(9_000 + n, f"蒙C0000{n}") for n in range(5)]
    until = BASE + 9_601_000
    inputs = in_receive_order([report(0), *opened, report(9_120)])
    assert run((SupplyCut(),), inputs, until, SCALES).emitted == []
    assert changes(run((SupplyCut(),), in_receive_order([report(0), *opened]), BASE + 9_602_000, SCALES)) == [("raised", 9_602)]


def test_leaving_unweighed_or_a_reported_loss_is_severe_and_a_loss_is_dark_sooner() -> None:
    found = watch(report(0), *(capture(400 + n, f"蒙C0000{n}", "out") for n in range(3)), until=900)
    assert found.emitted[0].emit.data["severity"] == "high"
    lost = watch(report(0), report(5, kind="power", state="lost"), *TRAFFIC, until=900)
    assert changes(lost) == [("raised", 520)], "two minutes after the report, a minute after the third vehicle"
    assert lost.emitted[0].emit.data["parameters"]["lost"] == "power"
    assert lost.emitted[0].emit.data["severity"] == "high"
    back = watch(report(0, kind="power", state="lost"), report(5, kind="power"), *TRAFFIC, until=900)
    assert changes(back) == [("raised", 605)]


def test_gate_terminals_count_too_and_the_count_is_told_when_it_doubles() -> None:
    found = watch(report(0), *(passed(400 + 50 * n) for n in range(26)), report(3_000), until=3_000)
    assert [c for c, _ in changes(found)] == ["raised", "updated", "updated", "cleared"]
    assert [e.emit.data["parameters"]["passages"] for e in found.emitted] == ["4", "8", "16", "26"]
    assert len({e.id for e in found.emitted}) == 4


def test_a_scale_without_a_silence_limit_is_dark_after_an_hour() -> None:
    plain = (DeviceRegistered(device="a", source="urn:x:a", kind="weighbridge", site="m01"),)
    assert changes(watch(weighed(0, "蒙C1"), *TRAFFIC, until=3_599, registered=plain)) == []
    assert changes(watch(weighed(0, "蒙C1"), *TRAFFIC, until=3_600, registered=plain)) == [("raised", 3_600)]


def test_a_reported_loss_is_not_held_up_by_what_was_waited_for_before() -> None:
    plain = (DeviceRegistered(device="a", source="urn:x:a", kind="weighbridge", site="m01"),)
    again = [capture(1_400 + n, f"蒙C0000{n}") for n in range(3)]
    found = watch(report(0), *TRAFFIC, report(1_000, kind="power", state="lost"), *again, until=3_700, registered=plain)
    assert changes(found) == [("raised", 1_462)]


def test_a_scale_that_stands_elsewhere_now_keeps_no_site_alive() -> None:
    moved = DeviceRegistered(
        device="b", source="urn:x:b", kind="weighbridge", site="p01", silence_after_s=10**6,
        valid_from=datetime.fromtimestamp(BASE / 1000 + 100, UTC),
    )  # fmt: skip
    assert changes(watch(report(0), report(0, "urn:x:b"), *TRAFFIC, until=900, registered=(*SCALES, moved)))[0][0] == "raised"


def test_each_cut_is_a_warning_of_its_own() -> None:
    second = [capture(3_000 + n, f"蒙C0000{n}") for n in range(3)]
    found = watch(report(0), *TRAFFIC, report(2_000), *second, report(4_000), until=4_000)
    assert [c for c, _ in changes(found)] == ["raised", "cleared", "raised", "cleared"]
    assert len({e.emit.data["warning"] for e in found.emitted}) == 2


def test_time_in_which_nobody_listened_darkens_no_scale() -> None:
    gap = ClockResumed.model_validate(
        {"partition": "registry/0", "valid_from": iso_ms(BASE + 500_000), "until": iso_ms(BASE + 7_500_000)}
    )
    assert changes(watch(report(0), *TRAFFIC, report(7_590), until=7_600, registered=(*SCALES, gap))) == []
    assert changes(watch(report(0), *TRAFFIC, until=7_600, registered=(*SCALES, gap))) == [("raised", 7_600)]


def test_a_published_rule_decides_and_a_retired_one_raises_nothing() -> None:
    two = RulePublished(rule="supply-cut", version=7, parameters={"passages": "2", "settle_s": "0"})
    found = watch(report(0), *TRAFFIC[:2], until=900, registered=(*SCALES, two))
    assert [(e.emit.data["rule_version"]) for e in found.emitted] == [7]
    retired = RulePublished(rule="supply-cut", version=8, parameters={}, status="retired")
    assert changes(watch(report(0), *TRAFFIC, until=900, registered=(*SCALES, retired))) == []
