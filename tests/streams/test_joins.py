"""The bounded join: one to one, within the bound, by stated ties, and alone when the recorded clock says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.kernel.joins import Alone, Bound, BoundedJoin, Pending, Waiting
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.reference import Reference
from streams.kernel.state import State, StateStore
from streams.operators.records import Event, time_of, warning, warning_id
from streams.operators.timers import TIMER_TABLE, TimerRow, Timers
from tests.operators.laws import Input, check_laws, cuts, in_receive_order, run
from tests.operators.strategies import BASE, MINUTE

PAIRS = "pairs"
BOUND = Bound(-2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 3 * MINUTE, keep=3)


class _Data(msgspec.Struct, frozen=True):
    key: str
    rank: int = 0


def by_rank(one: int, other: int) -> int | None:
    """Equal is best, 9 is for nobody."""
    return None if 9 in (one, other) else abs(one - other)


class Pairing:
    """An operator that does nothing but join: a warning per pair and per one alone."""

    name: Final = "pairing"
    version: Final = 1
    inputs: Final = frozenset({"weighing.measured", "plate.captured"})
    emits: Final = frozenset({"warning.raised"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {PAIRS: Pending[int, int], TIMER_TABLE: TimerRow}

    _decoders: Final = {t: msgspec.json.Decoder(Event[_Data]) for t in ("weighing.measured", "plate.captured")}

    def __init__(self, bound: Bound = BOUND) -> None:
        self.join: BoundedJoin[int, int] = BoundedJoin(PAIRS, bound, by_rank)

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        timers = Timers(scratch)
        meet = self.join.open(scratch, timers)
        events: list[Emit] = []

        def fire(until: int) -> None:
            while (timer := timers.pop(until)) is not None:
                events.extend(_alone(alone) for alone in meet.expire(*timer))

        for row, event in batch.decode(self._decoders):
            received = batch.received[row]
            fire(received)
            one = Waiting(event.id, time_of(event, received), received, event.data.rank)
            left = batch.types[row] == "weighing.measured"
            partner, out = meet.left(event.data.key, one) if left else meet.right(event.data.key, one)
            events += [_alone(alone) for alone in out]
            if partner is not None:
                pair = (event.id, partner.id) if left else (partner.id, event.id)
                events.append(_told("pair", "+".join(pair), event.data.key, received))
            assert all(len(side) <= BOUND.keep for side in (meet.waiting("a").left, meet.waiting("a").right))
        fire(batch.clock)
        timers.save()
        return Effects(events, scratch.changes)


def _alone(alone: Alone) -> Emit:
    return _told(f"alone-{alone.side}", alone.one.id, alone.key, alone.at)


def _told(code: str, what: str, key: str, at: int) -> Emit:
    return warning(
        "raised", warning_id("pairing", 1, code, what), code, severity="low", subject=what, scope=("", "", ""),
        parameters={"key": key}, since=at, time=at, at=at, known_at=at,
    )  # fmt: skip


@st.composite
def both_sides(draw: st.DrawFn) -> list[Input]:
    """Two keys, equal times and receipts, early and late ones, more than may wait."""
    received = BASE
    found = []
    for number in range(draw(st.integers(0, 18))):
        received += draw(st.sampled_from([0, 0, 1, 20_000, MINUTE, 3 * MINUTE, 10 * MINUTE, 10 * MINUTE + 1]))
        time = received + draw(
            st.sampled_from([0, 0, 0, -1, -MINUTE, -2 * MINUTE, -5 * MINUTE, -5 * MINUTE - 1, -900 * MINUTE, MINUTE])
        )
        type_ = draw(st.sampled_from(["weighing.measured", "plate.captured"]))
        data = {"key": draw(st.sampled_from("aab")), "rank": draw(st.sampled_from([0, 0, 0, 1, 9]))}
        found.append(Input(type_, received, time, data, id=f"i{number}"))
    return in_receive_order(found)


@dataclass
class Model:
    """The join in the plainest words: everybody stands in one list; every arrival looks at all of them."""

    standing: list[Input] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)

    def until(self, clock: int) -> None:
        due = [(self.deadline(i), i.data["key"], i.type != "weighing.measured", i.time, i.id, i) for i in self.standing]
        for deadline, _, _, _, _, one in sorted(due, key=lambda d: d[:5]):
            if deadline <= clock:
                self.leave(one)

    @staticmethod
    def deadline(one: Input) -> int:
        return one.received + (BOUND.left_waits_ms if one.type == "weighing.measured" else BOUND.right_waits_ms)

    def leave(self, one: Input) -> None:
        self.standing.remove(one)
        self.told.append(("alone-left" if one.type == "weighing.measured" else "alone-right", one.id))

    def arrive(self, one: Input) -> None:
        self.until(one.received)
        fitting = []
        for other in self.standing:
            if other.type == one.type or other.data["key"] != one.data["key"] or 9 in (one.data["rank"], other.data["rank"]):
                continue
            left, right = (one, other) if one.type == "weighing.measured" else (other, one)
            if BOUND.earliest_ms <= right.time - left.time <= BOUND.latest_ms:
                rank = abs(one.data["rank"] - other.data["rank"])
                fitting.append((rank, abs(one.time - other.time), other.time, other.id, f"{left.id}+{right.id}", other))
        if fitting:
            *_, pair, other = min(fitting, key=lambda f: f[:4])
            self.standing.remove(other)
            self.told.append(("pair", pair))
            return
        self.standing.append(one)
        beside = [o for o in self.standing if o.type == one.type and o.data["key"] == one.data["key"]]
        if len(beside) > BOUND.keep:
            self.leave(min(beside, key=lambda o: (o.time, o.id)))


def told(inputs: Sequence[Input], until: int) -> list[tuple[str, str]]:
    found = run((Pairing(),), inputs, until)
    if until > (inputs[-1].received if inputs else 0) + 20 * MINUTE:
        assert not any(found.state.values()), "after the last deadline nothing waits and no row is left"
    return [(e.emit.data["code"], e.emit.data["subject"]) for e in found.emitted]


def end(inputs: Sequence[Input]) -> int:
    return inputs[-1].received if inputs else BASE


@given(both_sides(), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_cuts_replays_and_restores_do_not_show(inputs: list[Input], data: st.DataObject) -> None:
    until = end(inputs) + data.draw(st.sampled_from([0, 3 * MINUTE, 30 * MINUTE]))
    check_laws((Pairing(),), inputs, until, (), data.draw(cuts(len(inputs))))


@given(both_sides(), st.sampled_from([0, 1, 3 * MINUTE, 30 * MINUTE]))
@settings(max_examples=300, deadline=None)
def test_it_does_what_the_plain_words_say(inputs: list[Input], after: int) -> None:
    model = Model()
    for one in inputs:
        model.arrive(one)
    model.until(end(inputs) + after)
    assert told(inputs, end(inputs) + after) == model.told


@given(both_sides())
@settings(max_examples=150, deadline=None)
def test_everyone_ends_once_in_a_pair_within_the_bound_or_alone(inputs: list[Input]) -> None:
    by_id = {i.id: i for i in inputs}
    ended: list[str] = []
    for code, subject in told(inputs, end(inputs) + 30 * MINUTE):
        ended += subject.split("+")
        if code == "pair":
            left, right = (by_id[i] for i in subject.split("+"))
            assert (left.type, right.type) == ("weighing.measured", "plate.captured")
            assert left.data["key"] == right.data["key"]
            assert BOUND.earliest_ms <= right.time - left.time <= BOUND.latest_ms
    assert sorted(ended) == sorted(by_id)


@given(both_sides())
@settings(max_examples=100, deadline=None)
def test_the_mirror_image_of_a_join_is_a_join(inputs: list[Input]) -> None:
    """Sides and bound exchanged, nothing else changes: neither side is preferred."""
    swap = {"weighing.measured": "plate.captured", "plate.captured": "weighing.measured"}
    mirrored = [Input(swap[i.type], i.received, i.time, i.data, i.source, i.id) for i in inputs]
    bound = Bound(-BOUND.latest_ms, -BOUND.earliest_ms, BOUND.right_waits_ms, BOUND.left_waits_ms, BOUND.keep)
    until = end(inputs) + 30 * MINUTE
    found = [(e.emit.at, e.emit.data["code"], e.emit.data["subject"]) for e in run((Pairing(bound),), mirrored, until).emitted]
    other = {"pair": "pair", "alone-left": "alone-right", "alone-right": "alone-left"}
    back = [(at, other[code], "+".join(reversed(subject.split("+")))) for at, code, subject in found]
    straight = [(e.emit.at, e.emit.data["code"], e.emit.data["subject"]) for e in run((Pairing(),), inputs, until).emitted]
    assert sorted(back) == sorted(straight)


TEN_MINUTES = Bound.around(10 * MINUTE, 60 * MINUTE)


class Desk:
    """A join on a table of its own, for cases by hand. Times in minutes."""

    def __init__(self, bound: Bound = TEN_MINUTES, rank: bool = False) -> None:
        self.store = StateStore({("desk", PAIRS): Pending[int, int], ("desk", TIMER_TABLE): TimerRow})
        self.scratch = State("desk", self.store, Reference({})).scratch()
        self.timers = Timers(self.scratch)
        self.meet = BoundedJoin(PAIRS, bound, by_rank if rank else None).open(self.scratch, self.timers)

    @staticmethod
    def one(id_: str, time: float, received: float | None = None, item: int = 0) -> Waiting[int]:
        return Waiting(id_, int(time * MINUTE), int((time if received is None else received) * MINUTE), item)

    def left(self, id_: str, time: float, received: float | None = None, item: int = 0) -> str | None:
        partner, _ = self.meet.left("k", self.one(id_, time, received, item))
        return partner.id if partner else None

    def right(self, id_: str, time: float, received: float | None = None, item: int = 0) -> str | None:
        partner, _ = self.meet.right("k", self.one(id_, time, received, item))
        return partner.id if partner else None

    def alone(self, until: float) -> list[tuple[str, float]]:
        found = []
        while (timer := self.timers.pop(int(until * MINUTE))) is not None:
            found += [(a.one.id, a.at / MINUTE) for a in self.meet.expire(*timer)]
        return found


def test_the_nearest_in_event_time_is_taken_whichever_came_first() -> None:
    desk = Desk()
    assert [desk.left("far", 0), desk.left("near", 5), desk.left("after", 9)] == [None] * 3
    assert desk.right("r", 6) == "near"
    assert desk.right("r2", 6) == "after"
    assert desk.right("r3", 6) == "far"
    assert desk.right("r4", 6) is None


def test_of_two_equally_near_the_earlier_and_of_two_at_once_the_smaller_id() -> None:
    desk = Desk()
    for id_, time in (("later", 8), ("earlier", 4), ("b", 6), ("a", 6)):
        desk.left(id_, time)
    assert [desk.right(f"r{n}", 6) for n in range(4)] == ["a", "b", "earlier", "later"]


def test_the_bound_is_included_and_a_millisecond_more_is_not() -> None:
    desk = Desk(Bound(0, 5 * MINUTE, 60 * MINUTE, 60 * MINUTE))
    desk.left("l", 0)
    assert desk.right("before", -1 / MINUTE, 0) is None
    assert desk.right("past", 5 + 1 / MINUTE) is None
    assert desk.right("last", 5) == "l"
    assert desk.left("l2", 0, 7) is None, "neither of those who wait fits it either"
    assert desk.right("at once", 0, 8) == "l2"
    for id_, time in (("too late", 20 + 1 / MINUTE), ("in time", 20), ("too early", 15 - 1 / MINUTE)):
        desk.right(id_, time)
    assert [desk.left("l3", 15), desk.left("l4", 15)] == ["in time", None]


def test_a_better_rank_beats_a_nearer_time_and_none_never_meets() -> None:
    desk = Desk(rank=True)
    for id_, time, item in (("near", 6, 1), ("equal", 2, 0), ("never", 6, 9)):
        desk.left(id_, time, item=item)
    assert desk.right("r", 6) == "equal"
    assert desk.right("r2", 6) == "near"
    assert desk.right("r3", 6) is None


def test_a_pair_is_not_broken_up_by_a_better_one_that_comes_later() -> None:
    desk = Desk()
    desk.left("first", 0)
    assert desk.right("r", 5) == "first"
    assert desk.left("better", 5, 6) is None


def test_waiting_ends_by_the_recorded_clock_not_by_event_time() -> None:
    """A year-old file: its events are long past, their partners have just as long to come as any."""
    desk = Desk()
    desk.left("old", -525_600, 0)
    assert desk.alone(59.9) == []
    assert desk.right("old too", -525_595, 59.9) == "old"
    desk.left("lone", 0, 60)
    assert desk.alone(119.9) == []
    assert desk.alone(200) == [("lone", 120)]
    assert desk.right("too late", 0, 201) is None


def test_one_more_than_may_wait_sends_the_oldest_away_at_once() -> None:
    desk = Desk(Bound.around(MINUTE, 60 * MINUTE, keep=2))
    desk.left("b", 20)
    desk.left("c", 30)
    partner, out = desk.meet.left("k", desk.one("a", 10, 40))
    assert (partner, [(a.side, a.key, a.one.id, a.at) for a in out]) == (None, [("left", "k", "a", 40 * MINUTE)])
    _, out = desk.meet.left("k", desk.one("d", 40, 41))
    assert [a.one.id for a in out] == ["b"]
    assert desk.alone(500) == [("c", 90), ("d", 101)], "who has left is not told of again"


def test_the_bound_of_the_day_of_arrival_holds_and_other_timers_are_left_alone() -> None:
    desk = Desk()
    desk.meet.left("k", desk.one("short", 0), Bound.around(MINUTE, 5 * MINUTE))
    desk.left("long", 0)
    desk.timers.set(4 * MINUTE, "another\x1fk")
    assert desk.alone(5) == [("short", 5)]
    assert desk.alone(60) == [("long", 60)]


@pytest.mark.parametrize("nonsense", [(1, 0, 0, 0, 1), (0, 0, -1, 0, 1), (0, 0, 0, -1, 1), (0, 0, 0, 0, 0)])
def test_a_bound_that_can_never_be_met_is_refused(nonsense: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="no such bound"):
        Bound(*nonsense)
