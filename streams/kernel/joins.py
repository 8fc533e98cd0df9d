"""Joining two streams within a time bound: what is on the left meets what is on the right, one to one, or turns out alone.

A join keeps, per key, what waits on either side. Who arrives takes the best that waits on the other side within the bound:

1. the lowest rank, where the join was given one (equal plates before near-equal ones); what ranks None is no pair at all;
2. then the nearest in event time;
3. then the earlier one, then the smaller id.

So with a bound that starts at zero the nearest is "the last loading before this unloading". Whatever was taken is taken: a
better partner that arrives later does not break up a pair, because the pair has been acted upon. Arrivals come in the kernel's
total order (receive time, upstream, order within it), so the pairs are the same in every run, wherever a batch was cut.

Who meets nobody waits for a stated time *of the recorded clock* since it was received, then it is handed back as alone.
Recorded time, not event time, for two reasons: loading old files times nothing out before its partner was read, and a source
that stops keeps nobody waiting. The join sets its timers with the operator's own and is asked when one fires::

    join = BoundedJoin(_TABLE, bound)
    meet = join.open(scratch, timers)
    partner = meet.left(key, Waiting(id, time, received, item))     # or meet.right(...)
    ...
    while (timer := timers.pop(until)) is not None:
        due, subject = timer
        for alone in meet.expire(due, subject):
            ...

Memory: at most ``keep`` wait per key and side; one more, and the oldest by event time is handed back as alone at once. A key
with nothing waiting has no row.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from streams.kernel.state import Scratch

__all__ = ["Alone", "Bound", "BoundedJoin", "Meeting", "Pending", "TimerSet", "Waiting"]

L = TypeVar("L")
R = TypeVar("R")
T = TypeVar("T")
Side = Literal["left", "right"]


class TimerSet(Protocol):
    """What a join needs of the operator's timers (``streams.operators.timers.Timers``)."""

    def set(self, due: int, subject: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Bound:
    """When two may meet, and how long each waits. All in ms.

    Attributes:
        earliest_ms, latest_ms: the right one's event time less the left one's lies between them, both included.
        left_waits_ms, right_waits_ms: recorded time from its receipt after which one that met nobody is alone.
        keep: how many wait at most, per key and side.
    """

    earliest_ms: int
    latest_ms: int
    left_waits_ms: int
    right_waits_ms: int
    keep: int = 8

    def __post_init__(self) -> None:
        if self.earliest_ms > self.latest_ms or self.left_waits_ms < 0 or self.right_waits_ms < 0 or self.keep < 1:
            raise ValueError(f"no such bound: {self}")

    @classmethod
    def around(cls, within_ms: int, waits_ms: int, keep: int = 8) -> "Bound":
        """Either may come first: not more than ``within_ms`` apart."""
        return cls(-within_ms, within_ms, waits_ms, waits_ms, keep)


class Waiting(msgspec.Struct, Generic[T], frozen=True):
    """One that waits: its identity within the stream, event time and receive time (ms), and what the operator needs of it.

    ``until`` is when it is alone; the join sets it once, by the bound that held when it arrived.
    """

    id: str
    time: int
    received: int
    item: T
    until: int = 0

    @property
    def order(self) -> tuple[int, str]:
        """Event time first; the identity breaks ties the same way in every run."""
        return self.time, self.id


class Pending(msgspec.Struct, Generic[L, R], frozen=True):
    """Row of a join's table: who waits under one key, by event time.

    An operator declares the table with the items' types filled in: ``tables = {"pairs": Pending[Loading, Unloading]}``.
    """

    left: tuple[Waiting[L], ...] = ()
    right: tuple[Waiting[R], ...] = ()


class Alone(NamedTuple):
    """One that met nobody: since ``at`` (ms of recorded time) it waits no more."""

    side: Side
    key: str
    one: Waiting[Any]
    at: int


class BoundedJoin(Generic[L, R]):
    """Configuration of one join; ``open`` makes it work on a step's scratch.

    Args:
        table: name of its table. Its timers' subjects begin with the same name, so that several joins share one ``Timers``.
        bound: when two may meet.
        rank: of a possible pair, lower is better; None: these two never meet. None for all of them: nearness alone decides.
    """

    def __init__(self, table: str, bound: Bound, rank: Callable[[L, R], int | None] | None = None) -> None:
        self.table = table
        self.bound = bound
        self.rank = rank

    def open(self, scratch: Scratch, timers: TimerSet) -> "Meeting[L, R]":
        return Meeting(self, scratch, timers)


class Meeting(Generic[L, R]):
    """A join within one step."""

    def __init__(self, join: BoundedJoin[L, R], scratch: Scratch, timers: TimerSet) -> None:
        self._join = join
        self._scratch = scratch
        self._timers = timers

    def waiting(self, key: str) -> Pending[L, R]:
        """Who waits under a key."""
        return self._scratch.get(self._join.table, key) or Pending()

    def left(self, key: str, one: Waiting[L], bound: Bound | None = None) -> tuple[Waiting[R] | None, list[Alone]]:
        """One arrives on the left. Returns whom it takes from the right, and who had to leave to make room for it.

        ``bound``: the one in force for this arrival, where a rule changes it; else that of the join.
        """
        pending, bound, rank = self.waiting(key), bound or self._join.bound, self._join.rank
        near = [o for o in pending.right if bound.earliest_ms <= o.time - one.time <= bound.latest_ms]
        partner = _best(one.time, [(o, rank(one.item, o.item) if rank else 0) for o in near])
        if partner is not None:
            self._put(key, Pending(pending.left, _without(pending.right, partner)))
            return partner, []
        left, out = _with(pending.left, self._waits(key, one, bound.left_waits_ms), bound.keep)
        self._put(key, Pending(left, pending.right))
        return None, [Alone("left", key, o, one.received) for o in out]

    def right(self, key: str, one: Waiting[R], bound: Bound | None = None) -> tuple[Waiting[L] | None, list[Alone]]:
        """One arrives on the right; otherwise like ``left``."""
        pending, bound, rank = self.waiting(key), bound or self._join.bound, self._join.rank
        near = [o for o in pending.left if bound.earliest_ms <= one.time - o.time <= bound.latest_ms]
        partner = _best(one.time, [(o, rank(o.item, one.item) if rank else 0) for o in near])
        if partner is not None:
            self._put(key, Pending(_without(pending.left, partner), pending.right))
            return partner, []
        right, out = _with(pending.right, self._waits(key, one, bound.right_waits_ms), bound.keep)
        self._put(key, Pending(pending.left, right))
        return None, [Alone("right", key, o, one.received) for o in out]

    def expire(self, due: int, subject: str) -> list[Alone]:
        """Who has waited long enough at ``due``, a timer's time: the left ones, then the right ones, by event time.

        Nothing for timers of others.
        """
        table, _, key = subject.partition("\x1f")
        if table != self._join.table:
            return []
        pending = self.waiting(key)
        out = [Alone("left", key, o, due) for o in pending.left if o.until <= due]
        out += [Alone("right", key, o, due) for o in pending.right if o.until <= due]
        if out:
            left = tuple(o for o in pending.left if o.until > due)
            self._put(key, Pending(left, tuple(o for o in pending.right if o.until > due)))
        return out

    def _waits(self, key: str, one: Waiting[T], ms: int) -> Waiting[T]:
        until = one.received + ms
        self._timers.set(until, f"{self._join.table}\x1f{key}")
        return msgspec.structs.replace(one, until=until)

    def _put(self, key: str, pending: Pending[L, R]) -> None:
        if pending.left or pending.right:
            self._scratch.put(self._join.table, key, pending)
        else:
            self._scratch.delete(self._join.table, key)


def _best(time: int, ranked: Iterable[tuple[Waiting[T], int | None]]) -> Waiting[T] | None:
    """The lowest rank, then the nearest to ``time``, then the earlier, then the smaller id."""
    fitting = [(rank, abs(o.time - time), o.order, o) for o, rank in ranked if rank is not None]
    return min(fitting, key=lambda f: f[:3])[3] if fitting else None


def _without(waiting: tuple[Waiting[T], ...], one: Waiting[T]) -> tuple[Waiting[T], ...]:
    return tuple(w for w in waiting if w is not one)


def _with(waiting: tuple[Waiting[T], ...], one: Waiting[T], keep: int) -> tuple[tuple[Waiting[T], ...], tuple[Waiting[T], ...]]:
    """Who waits now, and who leaves for want of room."""
    every = tuple(sorted((*waiting, one), key=lambda w: w.order))
    return every[max(0, len(every) - keep) :], every[: max(0, len(every) - keep)]
