"""Book stock by site and commodity: tickets and belts move it, a survey sets it.

The book is a function of event time: ``book(t)`` is what the last survey at or before ``t`` found, plus what moved after that
survey up to ``t``. A movement at the very time of a survey was seen by it. The deltas that are emitted always add up to
exactly this, for every ``t`` and whatever the order of receipt:

- a movement at ``t`` is emitted as it is; if a survey at or after ``t`` is known already, the next one takes it back out
  (a negative ``survey`` delta at the survey's time that names the survey's event in ``corrects``), since that survey had
  counted the coal as it lay there;
- a survey at ``t`` emits what is missing from ``book(t)``; the next later survey, if known, takes that back out.

So totals by reason stay true to tickets and belts, and late input rewrites history without moving what is surveyed since.

A survey of another site than the one its device is registered at sets nothing (scope comes from the registration, never from
the sender's claim); it raises ``survey-outside-scope``.

Movements are held per day, so that a survey can be placed among them; the oldest days are folded into an opening figure when
more than 62 are held. A survey from before it cannot be placed and is reported as ``late-beyond-horizon``.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from hengliu.events.envelope import derived_id, iso_ms, ms_of
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import Scratch, State
from streams.operators.records import DAY_MS, Event, Scope, hour_of, time_of, warning, warning_id
from streams.operators.registers import Finding, Register, RegisterPolicy, observe

__all__ = ["BELT_CODES", "Book", "Day", "Stock", "Survey"]

_BOOKS = "books"
_DAYS = "days"
_BELTS = "belts"

DAYS_KEPT: Final = 62
BELT_POLICY: Final = RegisterPolicy(zero_based=True)

BELT_CODES: Final[Mapping[str, tuple[str, str]]] = {
    "meter-replaced": ("totaliser-reset", "low"),
    "register-interleaved": ("register-interleaved", "medium"),
    "reading-implausible": ("reading-implausible", "low"),
    "late-beyond-horizon": ("late-beyond-horizon", "low"),
}


class _Ticket(msgspec.Struct, frozen=True):
    direction: str
    net_kg: int
    gross_time: datetime
    commodity: str


class _Survey(msgspec.Struct, frozen=True):
    site: str
    commodity: str
    mass_kg: int


class _Belt(msgspec.Struct, frozen=True):
    belt: str
    total_kg: int
    commodity: str = "raw"


class Survey(msgspec.Struct, frozen=True, array_like=True):
    """A survey in the book; ``number`` is that of the event which set the book to it."""

    time: int
    mass_kg: int
    number: int


class Book(msgspec.Struct, frozen=True, array_like=True):
    """One site and commodity.

    ``opening_kg`` is the book at ``opened`` (ms; the end of what has been folded). ``folded`` is the last survey that was
    folded into it. ``surveys`` after the opening and ``days`` (their starts, ms) with movements are ascending.
    """

    opened: int
    opening_kg: int = 0
    folded: Survey | None = None
    surveys: tuple[Survey, ...] = ()
    days: tuple[int, ...] = ()
    numbered: int = 0
    late: int = 0


class Day(msgspec.Struct, frozen=True, array_like=True):
    """Movements of one day in the order of receipt: event times, ms, and kilograms."""

    times: tuple[int, ...]
    kilograms: tuple[int, ...]


_EARLIEST: Final = -(2**62)


@dataclass(frozen=True, slots=True)
class _Cause:
    """What makes a movement: the row's times, scope and origin."""

    at: int
    known_at: int
    scope: Scope
    cause: str


class Stock:
    """``weighing.recorded``, ``belt.metered`` (by the device's ``belt_role``) and ``stock.surveyed`` to ``stock.moved``."""

    name: Final = "stock"
    version: Final = 1
    inputs: Final = frozenset({"weighing.recorded", "belt.metered", "stock.surveyed"})
    emits: Final = frozenset({"stock.moved", "warning.raised", "warning.updated", "warning.cleared"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_BOOKS: Book, _DAYS: Day, _BELTS: Register}

    _tickets: Final = msgspec.json.Decoder(Event[_Ticket])
    _surveys: Final = msgspec.json.Decoder(Event[_Survey])
    _belts: Final = msgspec.json.Decoder(Event[_Belt])

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        events: list[Emit] = []
        for row, type_ in enumerate(batch.types):
            value = batch.values[row]
            why = _Cause(batch.received[row], batch.known_at(row), batch.scopes[row], batch.origins[row])
            if type_ == "weighing.recorded":
                ticket = self._tickets.decode(value).data
                received = ticket.direction == "in"
                delta, reason = (ticket.net_kg, "received") if received else (-ticket.net_kg, "dispatched")
                events += self._move(scratch, why, why.scope[1], ticket.commodity, ms_of(ticket.gross_time), delta, reason)
            elif type_ == "stock.surveyed":
                survey = self._surveys.decode(value)
                events += self._survey(scratch, why, survey.data, time_of(survey, why.at))
            elif type_ == "belt.metered":
                events += self._belt(scratch, state, why, self._belts.decode(value))
        return Effects(events, scratch.changes)

    def _belt(self, scratch: Scratch, state: State, why: _Cause, event: Event[_Belt]) -> Iterator[Emit]:
        time = time_of(event, why.at)
        device = state.reference.device(event.source, time)
        role = device.belt_role if device is not None else None
        if role not in ("produced", "consumed"):
            return
        data, site = event.data, why.scope[1]
        key = f"{site}\x1f{data.belt}"
        register, out = observe(
            scratch.get(_BELTS, key) or Register(),
            BELT_POLICY,
            time,
            Decimal(data.total_kg),
            known_at=why.known_at,
            cause=why.cause,
            tag=f"{role}/{data.commodity}",
        )
        scratch.put(_BELTS, key, register)
        for item in out:
            if isinstance(item, Finding):
                code, severity = BELT_CODES[item.code]
                yield warning(
                    item.change,
                    warning_id(self.name, self.version, item.code, key, item.number),
                    code,
                    severity=severity,
                    subject=data.belt,
                    scope=why.scope,
                    parameters={**item.parameters, "unit": "kg"},
                    since=item.since,
                    time=time,
                    at=why.at,
                    known_at=why.known_at,
                    cause=why.cause,
                    sequence=item.sequence,
                )
                continue
            reason, commodity = item.tag.split("/")
            delta = int(item.amount) if reason == "produced" else -int(item.amount)
            if delta:
                yield from self._move(scratch, why, site, commodity, item.end, delta, reason)

    def _move(
        self, scratch: Scratch, why: _Cause, site: str, commodity: str, time: int, delta: int, reason: str
    ) -> Iterator[Emit]:
        key = f"{site}\x1f{commodity}"
        book: Book = scratch.get(_BOOKS, key) or Book(_EARLIEST)
        book = _numbered(book)
        yield self._moved(key, why, commodity, book.numbered, time, delta, reason)
        if time <= book.opened:
            following = book.folded if book.folded is not None and time <= book.folded.time else None
            if following is None:
                book = msgspec.structs.replace(book, opening_kg=book.opening_kg + delta)
                following = _at_or_after(book, time)
        else:
            following = _at_or_after(book, time)
            book = self._hold(scratch, key, book, time, delta)
        if following is not None:
            book = _numbered(book)
            yield self._moved(key, why, commodity, book.numbered, following.time, -delta, "survey", following.number)
        scratch.put(_BOOKS, key, book)

    def _survey(self, scratch: Scratch, why: _Cause, data: _Survey, time: int) -> Iterator[Emit]:
        if data.site != why.scope[1]:
            yield self._outside(why, data, time)
            return
        key = f"{data.site}\x1f{data.commodity}"
        book: Book = scratch.get(_BOOKS, key) or Book(_EARLIEST)
        if time <= book.opened:
            book = msgspec.structs.replace(book, late=book.late + 1)
            scratch.put(_BOOKS, key, book)
            yield self._late(key, why, data, time, book.late)
            return
        at = bisect_left([s.time for s in book.surveys], time)
        same = book.surveys[at] if at < len(book.surveys) and book.surveys[at].time == time else None
        before = book.surveys[at - 1] if at else Survey(book.opened, book.opening_kg, 0)
        found = same.mass_kg if same is not None else before.mass_kg + _moved_between(scratch, key, book, before.time, time)
        delta = data.mass_kg - found
        book = _numbered(book)
        yield self._moved(
            key, why, data.commodity, book.numbered, time, delta, "survey", same.number if same is not None else 0
        )
        rest = book.surveys[at + (same is not None) :]
        book = msgspec.structs.replace(book, surveys=(*book.surveys[:at], Survey(time, data.mass_kg, book.numbered), *rest))
        if rest and delta:
            book = _numbered(book)
            yield self._moved(key, why, data.commodity, book.numbered, rest[0].time, -delta, "survey", rest[0].number)
        scratch.put(_BOOKS, key, book)

    @staticmethod
    def _hold(scratch: Scratch, key: str, book: Book, time: int, delta: int) -> Book:
        """Keep the movement with its day; fold the oldest day when there are too many."""
        start = time // DAY_MS * DAY_MS
        name = f"{key}\x1f{start}"
        day: Day = scratch.get(_DAYS, name) or Day((), ())
        scratch.put(_DAYS, name, Day((*day.times, time), (*day.kilograms, delta)))
        if start not in book.days:
            book = msgspec.structs.replace(book, days=tuple(sorted((*book.days, start))))
        if len(book.days) > DAYS_KEPT:
            end = book.days[0] + DAY_MS - 1
            passed = [s for s in book.surveys if s.time <= end]
            last = passed[-1] if passed else Survey(book.opened, book.opening_kg, 0)
            opening = last.mass_kg + _moved_between(scratch, key, book, last.time, end)
            scratch.delete(_DAYS, f"{key}\x1f{book.days[0]}")
            book = msgspec.structs.replace(
                book,
                opened=end,
                opening_kg=opening,
                folded=passed[-1] if passed else book.folded,
                surveys=book.surveys[len(passed) :],
                days=book.days[1:],
            )
        return book

    def _moved(
        self,
        key: str,
        why: _Cause,
        commodity: str,
        number: int,
        time: int,
        delta: int,
        reason: str,
        corrects: int = 0,
    ) -> Emit:
        return Emit(
            type="stock.moved",
            identity=("moved", key, number),
            time=time,
            at=why.at,
            known_at=why.known_at,
            data={
                "enterprise": why.scope[0],
                "site": why.scope[1],
                "division": why.scope[2],
                "commodity": commodity,
                "delta_kg": delta,
                "reason": reason,
                "start": iso_ms(hour_of(time)),
            },
            cause=why.cause,
            corrects=derived_id(self.name, self.version, "moved", key, corrects) if corrects else "",
            scope=why.scope,
        )

    def _outside(self, why: _Cause, data: _Survey, time: int) -> Emit:
        return warning(
            "raised",
            warning_id(self.name, self.version, "survey-outside-scope", why.cause),
            "survey-outside-scope",
            severity="medium",
            subject=data.site,
            scope=why.scope,
            parameters={"site": data.site, "commodity": data.commodity, "mass_kg": str(data.mass_kg)},
            since=time,
            time=time,
            at=why.at,
            known_at=why.known_at,
            cause=why.cause,
        )

    def _late(self, key: str, why: _Cause, data: _Survey, time: int, late: int) -> Emit:
        return warning(
            "raised" if late == 1 else "updated",
            warning_id(self.name, self.version, "late-beyond-horizon", key),
            "late-beyond-horizon",
            severity="low",
            subject=data.site,
            scope=why.scope,
            parameters={"commodity": data.commodity, "mass_kg": str(data.mass_kg), "surveys": str(late)},
            since=time,
            time=time,
            at=why.at,
            known_at=why.known_at,
            cause=why.cause,
            sequence=late,
        )


def _numbered(book: Book) -> Book:
    return msgspec.structs.replace(book, numbered=book.numbered + 1)


def _at_or_after(book: Book, time: int) -> Survey | None:
    at = bisect_left([s.time for s in book.surveys], time)
    return book.surveys[at] if at < len(book.surveys) else None


def _moved_between(scratch: Scratch, key: str, book: Book, after: int, until: int) -> int:
    """Kilograms moved with ``after < time <= until``."""
    total = 0
    for start in book.days:
        if start + DAY_MS > after and start <= until:
            day: Day = scratch.get(_DAYS, f"{key}\x1f{start}")
            total += sum(kg for time, kg in zip(day.times, day.kilograms, strict=True) if after < time <= until)
    return total
