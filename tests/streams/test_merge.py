"""The deterministic merge: one released sequence for every interleaving, every slicing and every restart."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.ports.log import CLOCK_TYPE, Headers, Slice, TopicPartition
from streams.kernel.merge import GAP_TYPE, Arrival, Merge, MergeGuards
from streams.kernel.reference import read_reference

WRITERS = ("exchange-0", "exchange-1", "exchange-2")
BY = TopicPartition("by-vehicle", 1)
REGISTRY = TopicPartition("registry", 0)
ALL_GUARDS = MergeGuards()


def new_merge(guards: MergeGuards = ALL_GUARDS) -> Merge:
    return Merge({"by-vehicle": WRITERS}, ["registry"], {"by-vehicle": [1], "registry": [0]}, guards)


def piece(tp: TopicPartition, start: int, rows: Sequence[tuple[int, Headers, bytes]]) -> Slice:
    """A slice of (offset, headers, value); offsets have holes."""
    end = rows[-1][0] + 1 if rows else start
    return Slice(
        tp.topic, tp.partition, start, end, [r[0] for r in rows], [b"k"] * len(rows), [r[2] for r in rows], [r[1] for r in rows]
    )


@st.composite
def upstreams(draw: st.DrawFn) -> dict[str, list[tuple[int, bool]]]:
    """For each writer, and the registry: non-decreasing receive times; True marks a clock record. Ends with a late clock."""
    out = {}
    for writer in (*WRITERS, "registry"):
        steps = draw(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=8))
        time, rows = 0, []
        for step, mark in steps:
            time += step
            rows.append((time, mark))
        rows.append((1_000, True))
        out[writer] = rows
    return out


def log_of(order: Sequence[str], rows: dict[str, list[tuple[int, bool]]]) -> tuple[list[tuple[int, Headers, bytes]], ...]:
    """The exchange partition with the writers interleaved as ``order`` says, and the registry partition."""
    left = {w: list(r) for w, r in rows.items()}
    mixed: list[tuple[int, Headers, bytes]] = []
    sequence = dict.fromkeys(rows, 0)

    def take(writer: str, into: list[tuple[int, Headers, bytes]]) -> None:
        if left[writer]:
            time, mark = left[writer].pop(0)
            upstream = "" if writer == "registry" else writer
            value = b"" if mark else f"{writer}#{sequence[writer]}".encode()
            sequence[writer] += 1
            offset = (into[-1][0] + 2) if into else 0
            into.append((offset, Headers(received=time, type=CLOCK_TYPE if mark else "t", upstream=upstream), value))

    for writer in order:
        take(writer, mixed)
    for writer in WRITERS:
        while left[writer]:
            take(writer, mixed)
    registry: list[tuple[int, Headers, bytes]] = []
    while left["registry"]:
        take("registry", registry)
    return mixed, registry


def names(arrivals: Sequence[Arrival]) -> list[tuple[int, bytes]]:
    return [(a.received, a.value) for a in arrivals]


def run(
    mixed: list[tuple[int, Headers, bytes]], registry: list[tuple[int, Headers, bytes]], cuts: Sequence[int]
) -> list[tuple[int, bytes]]:
    merge = new_merge()
    released: list[tuple[int, bytes]] = []
    edges = sorted({min(c, len(mixed)) for c in cuts} | {0, len(mixed)})
    position = 0
    merge.offer(piece(REGISTRY, 0, registry))
    for a, b in pairwise(edges):
        part = piece(BY, position, mixed[a:b])
        merge.offer(part)
        position = part.next_position
        got, _ = merge.release()
        released += names(got)
    return released


@settings(max_examples=200, deadline=None)
@given(upstreams(), st.lists(st.sampled_from(WRITERS), max_size=24), st.lists(st.integers(0, 30), max_size=6))
def test_every_interleaving_and_slicing_releases_the_same_sequence(
    rows: dict[str, list[tuple[int, bool]]], order: list[str], cuts: list[int]
) -> None:
    mixed, registry = log_of([], rows)
    plain = run(mixed, registry, [])
    mixed, registry = log_of(order, rows)
    assert run(mixed, registry, cuts) == plain
    assert [t for t, _ in plain] == sorted(t for t, _ in plain)
    assert len(plain) == sum(1 for r in rows.values() for t, mark in r if not mark and t < 1_000)


@settings(max_examples=200, deadline=None)
@given(upstreams(), st.lists(st.sampled_from(WRITERS), max_size=24), st.integers(0, 30))
def test_a_restart_at_any_point_goes_on_without_loss_or_repetition(
    rows: dict[str, list[tuple[int, bool]]], order: list[str], at: int
) -> None:
    mixed, registry = log_of(order, rows)
    at = min(at, len(mixed))
    first = new_merge()
    first.offer(piece(REGISTRY, 0, registry))
    first.offer(piece(BY, 0, mixed[:at]))
    released = names(first.release()[0])
    positions, state = first.positions(), first.state()

    second = new_merge()
    second.restore(state, positions)
    second.offer(piece(REGISTRY, positions[REGISTRY], [r for r in registry if r[0] >= positions[REGISTRY]]))
    second.offer(piece(BY, positions[BY], [r for r in mixed if r[0] >= positions[BY]]))
    released += names(second.release()[0])
    mixed, registry = log_of([], rows)
    assert released == run(mixed, registry, [])


def test_nothing_is_released_while_one_upstream_has_not_been_heard() -> None:
    merge = new_merge()
    merge.offer(piece(BY, 0, [(0, Headers(received=5, type="t", upstream="exchange-0"), b"a")]))
    assert merge.release() == ([], 0)
    assert merge.positions()[BY] == 0


def test_a_writer_that_was_not_declared_is_an_error() -> None:
    merge = new_merge()
    with pytest.raises(ValueError, match="exchange-9"):
        merge.offer(piece(BY, 0, [(0, Headers(received=5, type="t", upstream="exchange-9"), b"a")]))


def _mark(received: int, upstream: str) -> tuple[Headers, bytes]:
    return Headers(received=received, type=CLOCK_TYPE, upstream=upstream), b""


def _record(received: int, upstream: str, value: bytes) -> tuple[Headers, bytes]:
    return Headers(received=received, type="t", upstream=upstream), value


def _slice(rows: Sequence[tuple[Headers, bytes]], first: int = 0) -> Slice:
    return piece(BY, first, [(first + i, headers, value) for i, (headers, value) in enumerate(rows)])


CLOCKS = [_mark(100, w) for w in WRITERS]
REGISTRY_CLOCK = piece(REGISTRY, 0, [(0, Headers(received=100, type=CLOCK_TYPE), b"")])


@pytest.mark.parametrize("guarded", [True, False])
def test_guard_ordered(guarded: bool) -> None:
    """Two interleavings of the same upstreams; without the guard they differ."""
    a, b = _record(2, "exchange-0", b"a"), _record(1, "exchange-1", b"b")
    seen = []
    for order in ([a, b], [b, a]):
        merge = new_merge(MergeGuards(ordered=guarded))
        merge.offer(REGISTRY_CLOCK)
        merge.offer(_slice([*order, *CLOCKS]))
        seen.append([x.value for x in merge.release()[0]])
    assert (seen[0] == seen[1]) is guarded


@pytest.mark.parametrize("guarded", [True, False])
def test_guard_once(guarded: bool) -> None:
    """One record is released, a later one held back: a restart reads both again."""
    rows = [
        _record(9, "exchange-1", b"later"),
        _record(1, "exchange-0", b"early"),
        _mark(5, "exchange-0"),
        _mark(5, "exchange-2"),
    ]
    first = new_merge()
    first.offer(REGISTRY_CLOCK)
    first.offer(_slice(rows))
    assert [x.value for x in first.release()[0]] == [b"early"]
    second = new_merge(MergeGuards(once=guarded))
    second.restore(first.state(), first.positions())
    second.offer(_slice([*rows, *CLOCKS]))
    again = [x.value for x in second.release()[0]]
    assert again == ([b"later"] if guarded else [b"early", b"later"])


@pytest.mark.parametrize("guarded", [True, False])
def test_guard_contiguous(guarded: bool) -> None:
    """A slice is lost on the way; without the guard nobody notices and its record is missing."""
    merge = new_merge(MergeGuards(contiguous=guarded))
    merge.offer(REGISTRY_CLOCK)
    behind = _slice([_record(3, "exchange-0", b"second"), *CLOCKS], first=1)
    if guarded:
        with pytest.raises(ValueError, match="expected 0"):
            merge.offer(behind)
    else:
        merge.offer(behind)
        assert [x.value for x in merge.release()[0]] == [b"second"]


@pytest.mark.parametrize("restart_after", range(5))
def test_a_clock_that_stood_still_is_released_as_a_gap_once_whatever_restarts(restart_after: int) -> None:
    """Intake was down from 1,300 to 90,000; the task may be restarted anywhere without losing or repeating that."""
    clocks = [1_000, 1_300, 90_000, 90_500]
    registry = [(n, Headers(received=at, type=CLOCK_TYPE), b"") for n, at in enumerate(clocks)]
    rows = [(n, Headers(received=at, type=CLOCK_TYPE, upstream="exchange-0"), b"") for n, at in enumerate(clocks)]

    def build() -> Merge:
        return Merge({"by-vehicle": WRITERS[:1]}, ["registry"], {"by-vehicle": [1], "registry": [0]}, gap_ms=10_000)

    merge, found = build(), []
    for n in range(len(clocks)):
        merge.offer(piece(REGISTRY, merge.positions()[REGISTRY], registry[merge.positions()[REGISTRY] : n + 1]))
        if n == restart_after:
            state, positions = merge.state(), merge.positions()
            merge = build()
            merge.restore(state, positions)
            start = positions[REGISTRY]
            if start <= n:
                merge.offer(piece(REGISTRY, start, registry[start : n + 1]))
        merge.offer(piece(BY, n, rows[n : n + 1]))
        found += merge.release()[0]
    assert [(a.received, a.headers.type) for a in found] == [(1_300, GAP_TYPE)]
    table, key, since, payload = read_reference(GAP_TYPE, found[0].value)
    assert (table, key, since) == ("gaps", "registry/0", 1_300)
    assert b"1970-01-01T00:01:30.000Z" in payload


@settings(max_examples=200, deadline=None)
@given(upstreams(), st.lists(st.sampled_from(WRITERS), max_size=24), st.integers(0, 30), st.booleans())
def test_a_restart_may_read_its_inputs_in_any_order(
    rows: dict[str, list[tuple[int, bool]]], order: list[str], at: int, registry_first: bool
) -> None:
    """A restarted merge reads its partitions one after the other and releases in between, as a log may have it."""
    mixed, registry = log_of(order, rows)
    at = min(at, len(mixed))
    first = new_merge()
    first.offer(piece(REGISTRY, 0, registry))
    first.offer(piece(BY, 0, mixed[:at]))
    released = names(first.release()[0])
    positions, state = first.positions(), first.state()

    second = new_merge()
    second.restore(state, positions)
    inputs = [
        piece(REGISTRY, positions[REGISTRY], [r for r in registry if r[0] >= positions[REGISTRY]]),
        piece(BY, positions[BY], [r for r in mixed if r[0] >= positions[BY]]),
    ]
    for part in inputs if registry_first else reversed(inputs):
        second.offer(part)
        released += names(second.release()[0])
    plain_mixed, plain_registry = log_of([], rows)
    assert released == run(plain_mixed, plain_registry, [])


def test_a_restart_does_not_believe_that_what_is_pending_has_arrived() -> None:
    """One input is behind at the checkpoint, so the other's records are pending; the restart reads the one behind first."""
    a, b = TopicPartition("metering", 1), TopicPartition("telemetry", 1)

    def fresh() -> Merge:
        return Merge({}, ["metering", "telemetry"], {"metering": [1], "telemetry": [1]})

    first = fresh()
    first.offer(piece(a, 0, [(0, Headers(received=7, type="t"), b"m7"), (1, Headers(received=9, type="t"), b"m9")]))
    first.offer(piece(b, 0, [(0, Headers(received=5, type=CLOCK_TYPE), b"")]))
    assert first.release() == ([], 5)
    state, positions = first.state(), first.positions()

    second = fresh()
    second.restore(state, positions)
    second.offer(piece(b, 1, [(1, Headers(received=100, type=CLOCK_TYPE), b"")]))
    released = names(second.release()[0])
    second.offer(piece(a, positions[a], [(0, Headers(received=7, type="t"), b"m7"), (1, Headers(received=9, type="t"), b"m9"),
                                         (2, Headers(received=100, type=CLOCK_TYPE), b"")]))  # fmt: skip
    released += names(second.release()[0])
    assert released == [(7, b"m7"), (9, b"m9")]
