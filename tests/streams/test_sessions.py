"""Session windows: the same whatever the cuts, restored anywhere, corrected when late, equal to a plain recomputation."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kernel.ahead import FAR_PER_KEY
from streams.kernel.sessions import Session, SessionSpec, SessionTable
from streams.kernel.windows import Aside
from tests.streams.folding import END, Row, cut_up

BASE = 1_795_000_020_000
YEAR = 365 * 86_400_000


@st.composite
def inputs(draw: st.DrawFn, keep: int | None = None) -> tuple[SessionSpec, list[Row]]:
    spec = SessionSpec(
        1_000, draw(st.sampled_from([0, 500, 3_000])), draw(st.sampled_from([0, 2_000, 20_000])) if keep is None else keep
    )
    steps = draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-6_000, 2_500), st.integers(-5, 5)), max_size=40))
    now, rows = BASE, []
    for key, step, value in steps:
        rows.append((key, max(BASE, now + step), value))
        now = max(now, now + step)
    return spec, rows


def folded(spec: SessionSpec, rows: Sequence[Row], cuts: Sequence[tuple[int, bool]] = ()) -> tuple[list[Session], list[Aside]]:
    return cut_up(lambda: SessionTable(spec), rows, cuts)


def when_told(spec: SessionSpec, rows: Sequence[Row]) -> list[tuple[int, Session]]:
    """Each session with the number of the record at which it was told."""
    table = SessionTable(spec)
    return [(number, one) for number, row in enumerate(rows) for one in table.fold([row], [])]


@given(inputs(), st.integers(0, 40))
def test_a_restore_delays_nothing(given_: tuple[SessionSpec, list[Row]], cut: int) -> None:
    spec, rows = given_
    table, told = SessionTable(spec), list[tuple[int, Session]]()
    for number, row in enumerate(rows):
        if number == cut:
            entries = {name: blob for name, blob in table.checkpoint().items() if blob is not None}
            table = SessionTable(spec)
            table.restore(entries)
        told += [(number, one) for one in table.fold([row], [])]
    assert told == when_told(spec, rows)


@given(inputs(), st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=6))
def test_no_cut_and_no_restore_shows(given_: tuple[SessionSpec, list[Row]], cuts: list[tuple[int, bool]]) -> None:
    spec, rows = given_
    assert folded(spec, rows, cuts) == folded(spec, rows)


def standing(results: Sequence[Session]) -> dict[tuple[str, int], tuple[int, int, int]]:
    """What stands after all corrections: (key, start) to last, total and records."""
    found: dict[tuple[str, int], tuple[int, int, int]] = {}
    for one in results:
        for start, _ in one.corrects:
            del found[one.key, start]
        assert (one.key, one.start) not in found
        found[one.key, one.start] = (one.last, one.total, one.records)
    return found


def recomputed(spec: SessionSpec, rows: Sequence[Row]) -> dict[tuple[str, int], tuple[int, int, int]]:
    of: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for key, time, value in rows:
        of[key].append((time, value))
    found: dict[tuple[str, int], tuple[int, int, int]] = {}
    for key, times in of.items():
        start, last, total, count = 0, -END, 0, 0
        for time, value in [*sorted(times), (END, 0)]:
            if time - last > spec.gap_ms:
                if count:
                    found[key, start] = (last, total, count)
                start, total, count = time, 0, 0
            last, total, count = time, total + value, count + 1
    return found


@given(inputs(keep=10**9))
def test_sessions_that_are_kept_equal_a_recomputation(given_: tuple[SessionSpec, list[Row]]) -> None:
    spec, rows = given_
    results, late = folded(spec, rows)
    assert late == []
    assert standing(results) == recomputed(spec, rows)


@given(inputs())
def test_every_record_is_in_a_session_or_handed_back(given_: tuple[SessionSpec, list[Row]]) -> None:
    spec, rows = given_
    results, late = folded(spec, rows)
    assert sum(count for _, _, count in standing(results).values()) + len(late) == len(rows)


def test_a_late_record_joins_two_that_were_closed_and_names_both() -> None:
    table = SessionTable(SessionSpec(1_000))
    first = table.fold([("a", BASE, 1), ("a", BASE + 2_000, 2), ("b", BASE + 9_000, 1)], [])
    assert [(s.key, s.start, s.total, s.revision) for s in first] == [("a", BASE, 1, 0), ("a", BASE + 2_000, 2, 0)]
    assert table.fold([("a", BASE + 1_000, 4), ("b", BASE + 9_500, 1)], []) == [
        Session("a", BASE, BASE + 2_000, 7, 3, 1, 4, 1, ((BASE, 0), (BASE + 2_000, 0)))
    ]


class Walked(dict[str, Any]):
    """Sessions by key that count how often somebody goes through all of them."""

    walks = 0

    def items(self) -> Any:
        self.walks += 1
        return super().items()

    def values(self) -> Any:
        self.walks += 1
        return super().values()

    def __iter__(self) -> Any:
        self.walks += 1
        return super().__iter__()


def test_a_commit_walks_and_writes_what_changed_and_not_every_key() -> None:
    table = SessionTable(SessionSpec(1_000))
    table.fold([(f"device-{n}", BASE, n) for n in range(20_000)], [])
    first = table.checkpoint()
    table._sessions = walked = Walked(table._sessions)
    table.fold([("device-7", BASE + 1, 1)], [])
    second = table.checkpoint()
    assert table.oldest == BASE
    assert walked.walks == 0
    assert size(second) < 300 < size(first)


def size(entries: dict[bytes, bytes | None]) -> int:
    return sum(len(blob or b"") for blob in entries.values())


@given(inputs(), st.integers(0, 40))
def test_the_oldest_is_the_oldest(given_: tuple[SessionSpec, list[Row]], cut: int) -> None:
    spec, rows = given_
    table = SessionTable(spec)
    for number, row in enumerate(rows):
        table.fold([row], [])
        if number == cut:
            entries = {name: blob for name, blob in table.checkpoint().items() if blob is not None}
            table = SessionTable(spec)
            table.restore(entries)
        assert table.oldest == min(s.start for of in table._sessions.values() for s in of)


def test_wrong_clocks_open_no_more_sessions_than_there_is_room_for() -> None:
    rows = [("wrong", BASE + YEAR + n // 2 * 10_000, 1) if n % 2 else ("a", BASE, 1) for n in range(6 * FAR_PER_KEY)]
    spec = SessionSpec(1_000)
    results, aside = folded(spec, rows, [(50, True), (200, True), (300, False)])
    assert (results, aside) == folded(spec, rows)
    assert sum(s.key == "wrong" for s in results) == FAR_PER_KEY
    assert [one.cause for one in aside] == ["ahead"] * (2 * FAR_PER_KEY)


@pytest.mark.parametrize("gap", [0, -1])
def test_sessions_that_cannot_be_are_refused(gap: int) -> None:
    with pytest.raises(ValueError, match="gap"):
        SessionSpec(gap)
