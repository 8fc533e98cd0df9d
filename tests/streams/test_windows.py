"""Windows of event time: the same whatever the cuts, restored anywhere, corrected when late, equal to a plain recomputation."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kernel.ahead import AHEAD_PANES, FAR_MOST, FAR_PER_KEY
from streams.kernel.windows import Aside, Result, WindowSpec, WindowTable
from tests.streams.folding import Row, cut_up

BASE = 1_795_000_020_000
"""A full minute."""
YEAR = 365 * 86_400_000


@st.composite
def inputs(draw: st.DrawFn, hopping: bool = True) -> tuple[WindowSpec, list[Row]]:
    size = draw(st.sampled_from([1_000, 60_000]))
    hops = draw(st.sampled_from([0, 1, 2, 4])) if hopping else 0
    spec = WindowSpec(
        size,
        size // hops if hops else 0,
        draw(st.sampled_from([0, 500, size, 3 * size])),
        draw(st.sampled_from([0, size, 9 * size])),
    )
    steps = draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-6 * size, 3 * size), st.integers(-5, 5)), max_size=40))
    now, rows = BASE, []
    for key, step, value in steps:
        rows.append((key, max(BASE, now + step), value))
        now = max(now, now + step)
    return spec, rows


def folded(spec: WindowSpec, rows: Sequence[Row], cuts: Sequence[tuple[int, bool]] = ()) -> tuple[list[Result], list[Aside]]:
    return cut_up(lambda: WindowTable(spec), rows, cuts)


@given(inputs(), st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=6))
def test_no_cut_and_no_restore_shows(given_: tuple[WindowSpec, list[Row]], cuts: list[tuple[int, bool]]) -> None:
    spec, rows = given_
    assert folded(spec, rows, cuts) == folded(spec, rows)


def figures(results: Sequence[Result]) -> dict[tuple[str, int], tuple[int, int, int, int]]:
    """What stands after the last revision."""
    return {(r.key, r.start): (r.total, r.records, r.minimum, r.maximum) for r in results}


def recomputed(spec: WindowSpec, rows: Sequence[Row]) -> dict[tuple[str, int], tuple[int, int, int, int]]:
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    for key, time, value in rows:
        pane = time - time % spec.pane_ms
        for start in range(pane - spec.size_ms + spec.pane_ms, pane + 1, spec.pane_ms):
            found[key, start].append(value)
    return {at: (sum(v), len(v), min(v), max(v)) for at, v in found.items()}


@given(inputs(hopping=False))
def test_every_record_is_in_its_window_or_handed_back(given_: tuple[WindowSpec, list[Row]]) -> None:
    spec, rows = given_
    results, late = folded(spec, rows)
    counted = list(rows)
    for one in late:
        counted.remove((one.key, one.time, one.value))
    assert figures(results) == recomputed(spec, counted)


@given(inputs())
def test_hopping_windows_that_are_kept_equal_a_recomputation(given_: tuple[WindowSpec, list[Row]]) -> None:
    spec = replace(given_[0], keep_ms=1_000 * given_[0].size_ms)
    results, late = folded(spec, given_[1])
    assert late == []
    assert figures(results) == recomputed(spec, given_[1])


@given(inputs())
def test_revisions_count_up_from_the_first(given_: tuple[WindowSpec, list[Row]]) -> None:
    spec, rows = given_
    seen: dict[tuple[str, int], int] = {}
    for result in folded(spec, rows)[0]:
        assert result.revision == seen.get((result.key, result.start), -1) + 1
        seen[result.key, result.start] = result.revision


def test_a_late_record_corrects_and_one_that_is_too_late_is_handed_back() -> None:
    table, late = WindowTable(WindowSpec(60_000, keep_ms=60_000)), list[Aside]()
    assert table.fold([("a", BASE, 5), ("a", BASE + 61_000, 7)], late) == [Result("a", BASE, 5, 1, 5, 5, 0)]
    assert table.fold([("a", BASE + 1, 2), ("b", BASE + 2, 3), ("a", BASE + 121_000, 1)], late) == [
        Result("a", BASE, 7, 2, 2, 5, 1),
        Result("b", BASE, 3, 1, 3, 3, 0),
        Result("a", BASE + 60_000, 7, 1, 7, 7, 0),
    ]
    assert table.fold([("a", BASE + 3, 4)], late) == []
    assert late == [Aside("late", "a", BASE + 3, 4, 0)]
    assert table.late == 1


def test_one_wrong_clock_closes_nothing_but_a_stream_that_has_jumped_is_believed() -> None:
    table, late = WindowTable(WindowSpec(60_000)), list[Aside]()
    year = YEAR
    assert table.fold([("a", BASE, 1), ("wrong", BASE + year, 1), ("a", BASE + 1, 1)], late) == []
    assert table.clock == BASE + 1
    jumped = [(f"device-{n}", BASE + year + n, 1) for n in range(AHEAD_PANES)]
    assert table.fold(jumped[:-1], late) == []
    results = table.fold(jumped[-1:], late)
    assert [(r.key, r.records) for r in results] == [("a", 2)]
    assert late == []


def test_one_fast_device_is_not_the_stream() -> None:
    """However many it sends: it counts once a pane. What it alone says for as many panes as would be needed is believed."""
    table = WindowTable(WindowSpec(60_000))
    table.fold([("a", BASE, 1)], [])
    assert table.fold([("wrong", BASE + YEAR + n, 1) for n in range(10 * AHEAD_PANES)], []) == []
    assert table.clock == BASE
    results = table.fold([("wrong", BASE + YEAR + n * 60_000, 1) for n in range(AHEAD_PANES)], [])
    assert results[0] == Result("a", BASE, 1, 1, 1, 1, 0)
    assert table.clock == BASE + YEAR + (AHEAD_PANES - 1) * 60_000


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 900), st.booleans()), max_size=8))
def test_wrong_clocks_open_no_more_panes_than_there_is_room_for(cuts: list[tuple[int, bool]]) -> None:
    """A device whose clock is a year ahead and runs fast, beside one that is right; wherever the state is read back."""
    rows = [("wrong", BASE + YEAR + n // 2 * 60_000, 1) if n % 2 else ("a", BASE, 1) for n in range(6 * FAR_PER_KEY)]
    results, aside = folded(WindowSpec(60_000), rows, cuts)
    assert (results, aside) == folded(WindowSpec(60_000), rows)
    assert [r.records for r in results if r.key == "wrong"] == [1] * FAR_PER_KEY
    assert [one.cause for one in aside] == ["ahead"] * (2 * FAR_PER_KEY)


def test_so_many_records_far_ahead_wait_wherever_the_state_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.kernel.ahead.FAR_RECORDS", 100)
    rows = [row for _ in range(150) for row in (("a", BASE, 1), ("wrong", BASE + YEAR, 1))]
    results, aside = folded(WindowSpec(60_000), rows, [(40, True), (120, True), (210, True)])
    assert (results, aside) == folded(WindowSpec(60_000), rows)
    assert [r.records for r in results] == [150, 100]
    assert len(aside) == 50


def test_all_keys_together_have_so_many_panes_far_ahead() -> None:
    table, aside = WindowTable(WindowSpec(60_000)), list[Aside]()
    table.fold([("a", BASE, 1)], [])
    for n in range(FAR_MOST + 100):
        table.fold([(f"wrong-{n}", BASE + YEAR, 1), (f"wrong-{n}", BASE + YEAR + 1, 1), ("a", BASE, 1)], aside)
    assert len(table) == FAR_MOST + 1
    assert len(aside) == table.ahead.refused == 200
    # Once the clock is near, they are like any other, and there is room again.
    table.advance(BASE + YEAR)
    table.fold([("a", BASE + YEAR, 1), ("late-riser", BASE + 3 * YEAR, 1)], aside)
    assert len(aside) == 200


def test_good_records_between_are_not_in_a_row() -> None:
    table, late = WindowTable(WindowSpec(60_000)), list[Aside]()
    for number in range(2 * AHEAD_PANES):
        assert table.fold([("a", BASE, 1), (f"wrong-{number}", BASE + YEAR, 1)], late) == [], number
    assert table.clock == BASE


def test_a_first_record_from_the_future_does_not_make_the_rest_late() -> None:
    table, late = WindowTable(WindowSpec(60_000)), list[Aside]()
    table.ceiling = BASE + 86_400_000
    assert table.fold([("wrong", BASE + YEAR, 1), ("a", BASE, 1), ("a", BASE + 60_000, 1)], late) == [
        Result("a", BASE, 1, 1, 1, 1, 0)
    ]
    assert late == []


def test_a_correction_is_told_when_nothing_else_is_open() -> None:
    table, late = WindowTable(WindowSpec(60_000)), list[Aside]()
    table.fold([("a", BASE, 1)], late)
    table.advance(BASE + 60_000)
    table.fold([("a", BASE + 1, 2)], late)
    assert table.advance(table.last_close) == [Result("a", BASE, 3, 2, 1, 2, 1)]


def test_a_silent_partition_gets_its_last_windows_by_advancing() -> None:
    table, late = WindowTable(WindowSpec(60_000, lateness_ms=5_000)), list[Aside]()
    assert table.fold([("a", BASE + 10, 4)], late) == []
    assert table.last_close == BASE + 65_000
    assert table.advance(BASE + 64_999) == []
    assert table.advance(BASE + 65_000) == [Result("a", BASE, 4, 1, 4, 4, 0)]


def test_a_commit_writes_what_changed_and_not_the_whole() -> None:
    table = WindowTable(WindowSpec(60_000))
    table.fold([(f"device-{n}", BASE, n) for n in range(10_000)], [])
    first = table.checkpoint()
    table.fold([("device-7", BASE + 1, 1)], [])
    second = table.checkpoint()
    assert size(second) < 200 < size(first)


def test_a_commit_writes_what_was_corrected_since_and_not_every_correction() -> None:
    devices = [f"device-{n}" for n in range(10_000)]
    table = WindowTable(WindowSpec(60_000))
    table.fold([(device, BASE, 1) for device in devices], [])
    table.fold([("clock", BASE + 60_000, 1), *((device, BASE, 1) for device in devices)], [])
    whole = table.checkpoint()  # every one of them is pending
    table.fold([("device-7", BASE, 1), ("new", BASE, 1)], [])
    pending = table.checkpoint()
    assert len(table.advance(BASE + 120_000)) == len(devices) + 2
    corrected = table.checkpoint()  # every one of them has a revision
    table.fold([("device-7", BASE, 1)], [])
    table.advance(BASE + 121_000)
    last = table.checkpoint()
    assert size(pending) < 300
    assert size(last) < 300
    assert min(size(whole), size(corrected)) > 100_000
    entries: dict[bytes, bytes] = {}
    for written in (whole, pending, corrected, last):
        entries |= {name: blob for name, blob in written.items() if blob is not None}
        entries = {name: blob for name, blob in entries.items() if written.get(name, blob) is not None}
    again = WindowTable(table.spec)
    again.restore(entries)
    late = [("device-7", BASE, 5), ("device-8", BASE, 5), ("new", BASE, 5)]
    for one in (table, again):
        one.fold(late, [])
    assert [r.revision for r in again.advance(BASE + 122_000)] == [3, 2, 1]
    assert [r.revision for r in table.advance(BASE + 122_000)] == [3, 2, 1]


def size(entries: dict[bytes, bytes | None]) -> int:
    return sum(len(blob or b"") for blob in entries.values())


def test_sums_beyond_64_bits_stay_exact() -> None:
    spec = WindowSpec(60_000)
    results, _ = folded(spec, [("a", BASE, 1 << 62)] * 4, [(2, True), (3, True)])
    assert results == [Result("a", BASE, 1 << 64, 4, 1 << 62, 1 << 62, 0)]


@pytest.mark.parametrize(("size", "hop"), [(0, 0), (60_000, 7_000), (60_000, -1)])
def test_windows_that_cannot_be_are_refused(size: int, hop: int) -> None:
    with pytest.raises(ValueError, match="window"):
        WindowSpec(size, hop)
