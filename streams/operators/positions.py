"""Positions against weighings: a vehicle whose own position says that it was elsewhere when it was weighed here.

A fix contradicts a weighing where nothing that drives could have been at both: it is farther from the scale than ``near_m`` and
than ``speed_kmh`` covers in the time between them. The last fix before a weighing and the first one after it are asked, each
within ``window_s``:

1. either of them fits: the weighing stands;
2. both contradict: ``position-contradiction`` is raised;
3. only one is there, and it contradicts: it is raised after ``wait_s`` of recorded time, if no other comes. One fix may be
   wrong, and a terminal sends what it could not send later (盲区补报);
4. none is there: no verdict. A vehicle without a terminal contradicts nothing.

All weighings of a vehicle at one site within a day are one visit, with one warning: further contradictions update it. It is
cleared when fixes that came later fit every weighing that it was raised for.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter
from typing import Any, ClassVar, Final

import msgspec

from hengliu.events.envelope import iso_ms
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import Scratch, State
from streams.operators.places import Place, distance_m, place_at, place_of
from streams.operators.records import DAY_MS, Event, Scope, time_of, warning, warning_id
from streams.operators.timers import TIMER_TABLE, TimerRow, Timers
from streams.rules.policy import parameter, policy_of

__all__ = ["Fix", "PositionPolicy", "Positions", "Seen", "Whereabouts"]

_PLATES = "plates"
_KEEP_FIXES = 40
_SLOT_MS = 120_000
"""One fix is kept of two minutes: with terminals that report every ten seconds 40 of them are 80 minutes, which is what a scale
that was off line may be late by."""
_KEEP_SEEN = 8
_AHEAD_MS = 60_000
"""A time that lies farther ahead of its receipt than this is a clock's fault, and says where nothing was."""
_WINDOW_MS = 7_200_000
"""The widest ``window_s``."""


@dataclass(frozen=True, slots=True)
class PositionPolicy:
    """Parameters of rule ``position``; all are this platform's choice.

    ``near_m`` covers the size of a works, a fix's error, and coordinates in GCJ-02 or BD-09, which lie up to about a kilometre
    off those of WGS 84 and are not converted.
    """

    rule: ClassVar[str] = "position"
    RULE_VERSION: ClassVar[int] = 1

    near_m: int = parameter(3_000, unit="m", zh="场所范围", en="Extent of a site", minimum=100, maximum=1_000_000)
    speed_kmh: int = parameter(100, unit="km/h", zh="最高行驶速度", en="Greatest speed", minimum=1, maximum=300)
    window_s: int = parameter(900, unit="s", zh="定位与过磅最长间隔", en="Longest time between fix and weighing", minimum=1,
                              maximum=7_200)  # fmt: skip
    wait_s: int = parameter(1_800, unit="s", zh="等待后续定位的时间", en="How long a later fix is waited for", minimum=0,
                            maximum=86_400)  # fmt: skip


class _Located(msgspec.Struct, frozen=True):
    plate: str
    latitude: Decimal
    longitude: Decimal


class _Weighing(msgspec.Struct, frozen=True):
    plate: str
    mass_kg: int


class Fix(msgspec.Struct, frozen=True, array_like=True):
    """Where a vehicle was. ``time`` in ms, degrees times ten million."""

    time: int
    latitude_e7: int
    longitude_e7: int
    origin: str
    known_at: int

    @property
    def place(self) -> Place:
        return Place(self.latitude_e7, self.longitude_e7)


class Seen(msgspec.Struct, frozen=True):
    """A weighing at a site that lies somewhere.

    ``until``: when a verdict by one fix falls, ms of recorded time; ``far``: it was found to contradict.
    """

    source: str
    id: str
    time: int
    place: Place
    scope: Scope
    origin: str
    known_at: int
    until: int
    mass_kg: int
    far: bool = False

    @property
    def site(self) -> str:
        return self.scope[1]


class Visit(msgspec.Struct, frozen=True):
    """An open warning of one site: its id, since when (ms), how many changes, and the rule version that it names."""

    site: str
    warning: str
    since: int
    rule_version: int
    changes: int = 0


class Whereabouts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is held of one plate: fixes and weighings by event time, open warnings, when last touched, and the due time of the
    one timer that will forget it (0: none yet)."""

    fixes: tuple[Fix, ...] = ()
    seen: tuple[Seen, ...] = ()
    visits: tuple[Visit, ...] = ()
    touched: int = 0
    armed: int = 0


_NOTHING: Final = Whereabouts()


class Positions:
    """``vehicle.located`` against ``weighing.measured``: warning ``position-contradiction``, subject the plate.

    Sites without coordinates in the registry give no verdict, nor do times that lie in the future when they are received. Per
    plate 40 fixes, one of two minutes, and the weighings of a day, 8 at most, are kept, the newest by event time; a day of
    recorded time after the last of either, nothing.
    """

    name: Final = "positions"
    version: Final = 1
    inputs: Final = frozenset({"vehicle.located", "weighing.measured"})
    emits: Final = frozenset({"warning.raised", "warning.updated", "warning.cleared"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_PLATES: Whereabouts, TIMER_TABLE: TimerRow}

    _decoders: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
        "vehicle.located": msgspec.json.Decoder(Event[_Located]),
        "weighing.measured": msgspec.json.Decoder(Event[_Weighing]),
    }

    def __init__(self, policy: PositionPolicy = PositionPolicy()) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        timers = Timers(scratch)
        events: list[Emit] = []
        for row, event in batch.decode(self._decoders):
            received = batch.received[row]
            events += self._fire(state, scratch, timers, received)
            time = time_of(event, received)
            if time > received + _AHEAD_MS:
                continue
            plate = event.data.plate
            known: Whereabouts = scratch.get(_PLATES, plate) or _NOTHING
            weighed = isinstance(event.data, _Weighing)
            found = (
                self._weighed(state, timers, known, batch, row, event, time)
                if weighed
                else _located(known, batch, row, event, time)
            )
            if found is None:
                continue
            if not found.armed:
                found = msgspec.structs.replace(found, armed=received + DAY_MS)
                timers.set(found.armed, plate)
            found, told = self._settle(state, plate, msgspec.structs.replace(found, touched=received), received, time)
            scratch.put(_PLATES, plate, found)
            events += told
        events += self._fire(state, scratch, timers, batch.clock)
        timers.save()
        return Effects(events, scratch.changes)

    def _weighed(
        self, state: State, timers: Timers, known: Whereabouts, batch: Batch, row: int, event: Event[_Weighing], time: int
    ) -> Whereabouts | None:
        """With one more weighing; None where it cannot be judged: nobody knows where its site lies, or the rule is retired."""
        received, scope = batch.received[row], batch.scopes[row]
        place, found = place_of(state.reference.site(scope[1], time)), policy_of(state, self._policy, time)
        if place is None or found is None:
            return None
        until = received + found[0].wait_s * 1000
        timers.set(until, event.data.plate)
        one = Seen(
            event.source, event.id, time, place, scope, batch.origins[row], batch.known_at(row), until, event.data.mass_kg
        )
        seen = sorted((*known.seen, one), key=lambda s: (s.time, s.source, s.id))
        return msgspec.structs.replace(known, seen=tuple(s for s in seen[-_KEEP_SEEN:] if s.time > seen[-1].time - DAY_MS))

    def _fire(self, state: State, scratch: Scratch, timers: Timers, until: int) -> Iterator[Emit]:
        while (timer := timers.pop(until)) is not None:
            due, plate = timer
            known: Whereabouts | None = scratch.get(_PLATES, plate)
            if known is None:
                continue
            if known.armed <= due:
                if known.touched + DAY_MS <= due:
                    scratch.delete(_PLATES, plate)
                    continue
                known = msgspec.structs.replace(known, armed=known.touched + DAY_MS)
                timers.set(known.armed, plate)
            found, told = self._settle(state, plate, known, due, None)
            scratch.put(_PLATES, plate, found)
            yield from told

    def _settle(
        self, state: State, plate: str, known: Whereabouts, at: int, around: int | None
    ) -> tuple[Whereabouts, list[Emit]]:
        """Judge the weighings again; of those that are farther than any window from ``around`` nothing can have changed."""
        told: list[Emit] = []
        visits = {v.site: v for v in known.visits}
        seen = list(known.seen)
        for n, one in enumerate(seen):
            if around is not None and abs(one.time - around) > _WINDOW_MS:
                continue
            found = policy_of(state, self._policy, one.time)
            if found is None:
                continue
            policy, version = found
            if around is not None and abs(one.time - around) > policy.window_s * 1000:
                continue
            verdict, fixes = _verdict(policy, known.fixes, one, at)
            if verdict == one.far or verdict is None:
                continue
            seen[n] = msgspec.structs.replace(one, far=verdict)
            visit = visits.get(one.site)
            if verdict:
                change = "raised" if visit is None else "updated"
                id_ = warning_id(self.name, self.version, plate, one.source, one.id)
                visit = Visit(one.site, id_, one.time, version) if visit is None else _changed(visit)
                visits[one.site] = visit
            elif visit is None or any(s.far and s.site == one.site for s in seen):
                continue
            else:
                change, visit = "cleared", _changed(visit)
                del visits[one.site]
            told.append(_tell(change, plate, visit, one, fixes, at))
        still = {s.site for s in seen if s.far}
        kept = tuple(v for v in visits.values() if v.site in still)
        return msgspec.structs.replace(known, seen=tuple(seen), visits=kept), told


_time: Final = attrgetter("time")


def _located(known: Whereabouts, batch: Batch, row: int, event: Event[_Located], time: int) -> Whereabouts | None:
    """With one more fix; None where one of its two minutes is there already, or it is older than all that may be kept."""
    at = bisect_right(known.fixes, time, key=_time)
    if any(f.time // _SLOT_MS == time // _SLOT_MS for f in known.fixes[max(0, at - 1) : at + 1]):
        return None
    if len(known.fixes) == _KEEP_FIXES:
        if at == 0:
            return None
        fixes, at = known.fixes[1:], at - 1
    else:
        fixes = known.fixes
    place = place_at(event.data.latitude, event.data.longitude)
    fix = Fix(time, place.latitude_e7, place.longitude_e7, batch.origins[row], batch.known_at(row))
    return msgspec.structs.replace(known, fixes=(*fixes[:at], fix, *fixes[at:]))


def _verdict(policy: PositionPolicy, fixes: tuple[Fix, ...], one: Seen, at: int) -> tuple[bool | None, tuple[Fix, ...]]:
    """Whether the fixes on either side contradict a weighing (None: nobody can say, yet), and those fixes, the nearer first."""
    window = policy.window_s * 1000
    cut = bisect_right(fixes, one.time, key=_time)
    before = fixes[cut - 1] if cut and one.time - fixes[cut - 1].time <= window else None
    after = fixes[cut] if cut < len(fixes) and fixes[cut].time - one.time <= window else None
    beside = tuple(sorted((f for f in (before, after) if f is not None), key=lambda f: (abs(f.time - one.time), f.time)))
    if any(not _too_far(policy, f, one) for f in beside):
        return False, beside
    return (True, beside) if len(beside) == 2 or (beside and at >= one.until) else (None, beside)


def _too_far(policy: PositionPolicy, fix: Fix, one: Seen) -> bool:
    reach = policy.near_m + abs(fix.time - one.time) * policy.speed_kmh // 3_600
    return distance_m(fix.place, one.place) > reach


def _changed(visit: Visit) -> Visit:
    return msgspec.structs.replace(visit, changes=visit.changes + 1)


def _tell(change: str, plate: str, visit: Visit, one: Seen, fixes: tuple[Fix, ...], at: int) -> Emit:
    known = [one.known_at, *(f.known_at for f in fixes)]
    if change != "cleared" and len(fixes) == 1:
        known.append(one.until)  # that no other fix came is known when the clock says so
    return warning(
        change,
        visit.warning,
        "position-contradiction",
        severity="high",
        subject=plate,
        scope=one.scope,
        parameters={
            "weighed_at": iso_ms(one.time), "mass_kg": str(one.mass_kg), "located_at": iso_ms(fixes[0].time),
            "distance_m": str(distance_m(fixes[0].place, one.place)),
        },
        since=visit.since,
        time=one.time,
        at=at,
        known_at=max(known),
        cause=",".join((one.origin, *(f.origin for f in fixes))),
        rule=PositionPolicy.rule,
        rule_version=visit.rule_version,
        sequence=visit.changes,
    )  # fmt: skip
