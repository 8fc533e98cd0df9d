"""Silence and supply, case by case."""

from hengliu.events.families.registry import DeviceRegistered
from streams.operators.silence import Silence
from tests.operators.laws import Input, Run, in_receive_order, run
from tests.operators.strategies import BASE

DEVICE = DeviceRegistered(device="a", source="urn:x:a", kind="weighbridge", site="m01", silence_after_s=600)


def report(second: float, kind: str = "heartbeat", state: str = "ok", delay: float = 0, source: str = "urn:x:a") -> Input:
    at = BASE + int(second * 1000)
    data = {"kind": kind, "state": state}
    return Input("device.reported", at, at - int(delay * 1000), data, source, f"{second}-{kind}-{source}")


def watch(*inputs: Input, until: float) -> Run:
    return run((Silence(),), in_receive_order(inputs), BASE + int(until * 1000), (DEVICE,))


def changes(found: Run) -> list[tuple[str, str, int]]:
    return [(e.emit.type[8:], e.emit.data["code"], (e.emit.at - BASE) // 1000) for e in found.emitted]


def test_raised_when_the_clock_passes_and_cleared_by_the_next_record() -> None:
    found = watch(report(0), report(500), report(2_000), report(2_100), until=2_500)
    assert changes(found) == [("raised", "device-silent", 1_100), ("cleared", "device-silent", 2_000)]
    raised, cleared = found.emitted
    assert raised.emit.data["warning"] == cleared.emit.data["warning"]
    assert raised.emit.data["since"] == cleared.emit.data["since"] == "2026-03-01T02:08:20.000Z"


def test_exactly_at_the_limit() -> None:
    assert changes(watch(report(0), until=599.999)) == []
    assert changes(watch(report(0), until=600)) == [("raised", "device-silent", 600)]


def test_each_silence_is_a_warning_of_its_own() -> None:
    found = watch(report(0), report(1_000), report(2_000), until=2_000)
    assert [c[0] for c in changes(found)] == ["raised", "cleared", "raised", "cleared"]
    assert len({e.emit.data["warning"] for e in found.emitted}) == 2


def test_any_record_counts_as_heard_whatever_its_event_time() -> None:
    weighed = Input("weighing.measured", BASE + 550_000, BASE - 10**9, {"plate": "蒙C1", "mass_kg": 1}, "urn:x:a", "w")
    assert changes(watch(report(0), weighed, until=1_000)) == []


def test_an_unregistered_or_unwatched_device_is_never_silent() -> None:
    found = watch(report(0, source="urn:x:other"), until=10**6)
    assert found.emitted == []
    assert found.state["silence", "heard"] == {}


def test_supply_lost_on_backup_and_back() -> None:
    found = watch(
        report(0, "power", "lost"), report(10, "power", "backup"), report(20, "network", "lost"), report(30, "power", "ok"),
        until=60,
    )  # fmt: skip
    assert changes(found) == [
        ("raised", "power-lost", 0), ("updated", "power-lost", 10),
        ("raised", "network-lost", 20), ("cleared", "power-lost", 30),
    ]  # fmt: skip
    assert [e.emit.data["severity"] for e in found.emitted] == ["high", "low", "high", "low"]


def test_an_old_report_that_comes_late_changes_nothing() -> None:
    found = watch(report(100, "power", "ok"), report(110, "power", "lost", delay=60), until=120)
    assert changes(found) == []


def test_a_warning_that_changes_often_never_repeats_an_identity() -> None:
    states = ["lost", "backup", "lost", "backup", "ok"]
    found = watch(*(report(n, "power", state) for n, state in enumerate(states)), until=10)
    assert [c[0] for c in changes(found)] == ["raised", "updated", "updated", "updated", "cleared"]
    assert len({e.id for e in found.emitted}) == 5
