"""Silence and supply, case by case."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from hengliu.events.envelope import iso_ms
from hengliu.events.families.registry import DeviceRegistered
from streams.kernel.reference import ClockResumed
from streams.operators.silence import Silence
from tests.operators.laws import Input, Run, check_laws, cuts, in_receive_order, run
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


def gap(start: float, end: float, partition: str = "registry/0") -> ClockResumed:
    return ClockResumed.model_validate(
        {
            "partition": partition,
            "valid_from": iso_ms(BASE + int(start * 1000)),
            "until": iso_ms(BASE + int(end * 1000)),
        }
    )


def watch_gaps(*inputs: Input, until: float, gaps: Sequence[ClockResumed]) -> Run:
    return run((Silence(),), in_receive_order(inputs), BASE + int(until * 1000), (DEVICE, *gaps))


def test_time_in_which_nobody_listened_is_nobodys_silence() -> None:
    """The platform was stopped for two hours; the device is heard again soon after, or is silent 600 s of listening later."""
    down = [gap(100, 7_300), gap(100.5, 7_299, "registry/1")]
    assert changes(watch_gaps(report(0), report(7_400), until=7_500, gaps=down)) == []
    assert changes(watch_gaps(report(0), until=7_799, gaps=down)) == []
    assert changes(watch_gaps(report(0), until=7_801, gaps=down)) == [("raised", "device-silent", 7_800)]
    assert changes(watch(report(0), report(7_400), until=7_500))[0] == ("raised", "device-silent", 600)


def test_several_gaps_add_up_and_one_before_the_last_record_does_not_count() -> None:
    down = [gap(-500, -20), gap(100, 400), gap(650, 900), gap(5_000, 6_000)]
    assert changes(watch_gaps(report(0), until=4_000, gaps=down)) == [("raised", "device-silent", 1_150)]


@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 900)), max_size=6),
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 900)), max_size=6),
    st.data(),
)
def test_the_laws_hold_with_gaps(one: list[tuple[int, int]], other: list[tuple[int, int]], data: st.DataObject) -> None:
    gaps: list[ClockResumed] = []
    for partition, found in (("registry/0", one), ("registry/1", other)):
        end = -1
        for start, length in sorted(found):
            if start > end:
                end = start + length
                gaps.append(gap(start, end, partition))
    inputs = in_receive_order([report(second) for second in data.draw(st.sets(st.integers(0, 4_000), max_size=5))])
    check_laws((Silence(),), inputs, BASE + 5_000_000, (DEVICE, *gaps), data.draw(cuts(len(inputs))))
