"""Plate match: the plate of a weighing against what the cameras saw (换牌, 套牌).

A vehicle that is weighed passes a camera: at a scale in the same minute, at the gate some minutes before or after. So captures
and weighings go in pairs, and this operator joins them twice:

1. by plate, one to one, within the bound of their camera. What meets its like is in order;
2. what stayed alone on either side for as long as the bound, with each other: first those that differ by one character, and
   after the bound once more whatever is nearest in time and on the right side of the gate. A weighing that nobody saw and a
   capture of a vehicle that nobody weighed, at the same place and about the same time, are one vehicle under two plates.

A queue makes the way from the gate to the scale longer than any bound, and then captures and weighings of different trucks
stand alone about the same time. So whoever the gate saw driving in, and not out again, is still there until it has been weighed
laden and empty: when it is weighed hours later it takes its own capture, and a weighing of it that stays alone accuses nobody,
though it may still be what a camera misread.

A *witness* is the gate cameras of a site together, or the cameras that a scale has to itself (registered with ``watches``); a
scale that has some is judged by those alone. A witness is heard only while most weighings meet a capture of their own with it:
a site with a camera on one side only does not accuse. Nor does what a camera saw while its clock ran ahead: when it arrives, it
counts as seen when it was received at the latest; when old files are loaded, the clock shows itself by going back.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from streams.kernel.joins import Alone, Bound, BoundedJoin, Pending, Waiting
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import Scratch, State
from streams.operators.plates import (
    OPEN,
    SKEW_MS,
    Capture,
    Clock,
    Inside,
    Mismatch,
    Passed,
    PlateMatchPolicy,
    Weighed,
    Witness,
    differing,
)
from streams.operators.records import DAY_MS, Event, join_causes, time_of, warning, warning_id
from streams.operators.timers import TIMER_TABLE, TimerRow, Timers
from streams.rules.policy import policy_of

__all__ = ["PlateMatch"]

_SAME, _OTHER, _WITNESS, _PASSED, _CLOCKS, _INSIDE = "same", "other", "witness", "passed", "clocks", "inside"
_PASSAGES = 6
"""Passages of one plate that are held, and as many weighings."""
_ALONE = 64
"""Captures and weighings without their like that wait for each other, each at most, of one witness."""


class _Passing(msgspec.Struct, frozen=True):
    """What this operator reads of a weighing or a capture."""

    plate: str
    mass_kg: int = 0
    direction: str | None = None
    confidence_percent: int | None = None


class PlateMatch:
    """``weighing.measured`` and ``plate.captured`` to warnings ``plate-mismatch`` about the plate that was weighed.

    Several weighings of one vehicle under the same two plates within a day are one warning, updated. What comes late counts
    where it happened: a capture of the weighed plate, or a weighing of the captured one, takes its part of the warning back
    and clears it when nothing is left.
    """

    name: Final = "plate-match"
    version: Final = 2
    inputs: Final = frozenset({"weighing.measured", "plate.captured"})
    emits: Final = frozenset({"warning.raised", "warning.updated", "warning.cleared"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {
        _SAME: Pending[Capture, Weighed],
        _OTHER: Pending[Capture, Weighed],
        _WITNESS: Witness,
        _PASSED: Passed,
        _CLOCKS: Clock,
        _INSIDE: Inside,
        TIMER_TABLE: TimerRow,
    }

    _decoders: Final = dict.fromkeys(sorted(inputs), msgspec.json.Decoder(Event[_Passing]))

    def __init__(self, policy: PlateMatchPolicy = PlateMatchPolicy()) -> None:  # noqa: B008 (frozen)
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        work = _Step(self, state, batch, self._policy)
        for row, event in batch.decode(self._decoders):
            work.fire(batch.received[row])
            work.arrive(row, event)
        work.fire(batch.clock)
        work.timers.save()
        return Effects(work.events, work.scratch.changes)


class _Step:
    """One step of the operator: its scratch, timers and joins, and what it emits."""

    def __init__(self, operator: PlateMatch, state: State, batch: Batch, default: PlateMatchPolicy) -> None:
        self.events: list[Emit] = []
        self.scratch: Scratch = state.scratch()
        self.timers = Timers(self.scratch)
        self._operator = operator
        self._state = state
        self._batch = batch
        self._default = default
        self._same = BoundedJoin[Capture, Weighed](_SAME, _around(default.gate_within_s, 8)).open(self.scratch, self.timers)
        self._other = BoundedJoin(_OTHER, _around(default.gate_within_s, _ALONE), self._rank).open(self.scratch, self.timers)

    def _rank(self, capture: Capture, weighed: Weighed) -> int | None:
        """In the second join only plates that differ by one character meet at once."""
        return 1 if differing(capture.plate, weighed.plate) == 1 and self._may_be(capture, weighed) else None

    def _may_be(self, capture: Capture, weighed: Weighed) -> bool:
        """Whether the two may be one vehicle: in before the scale, out after it, and seen by a camera whose clock was right."""
        after = weighed.time - capture.time
        if (capture.direction == "in" and after < -SKEW_MS) or (capture.direction == "out" and after > SKEW_MS):
            return False
        clock: Clock | None = self.scratch.get(_CLOCKS, capture.camera)
        return clock is None or clock.was_right(capture.time)

    def arrive(self, row: int, event: Event[Any]) -> None:
        batch, data = self._batch, event.data
        received, scope = batch.received[row], batch.scopes[row]
        # A camera whose clock runs ahead saw what it saw when that was received, at the latest.
        time = min(time_of(event, received), received)
        in_force = policy_of(self._state, self._default, time)
        if in_force is None or not scope[1]:
            return
        policy = in_force[0]
        weighed = batch.types[row] == "weighing.measured"
        witness = self._witness_of(event.source, time, scope[1], weighed)
        bound = _bound(policy, witness)
        key = f"{witness}\x1f{data.plate}"
        id_ = f"{event.source}\x1f{event.id}"
        gate = witness.endswith("\x1f")
        if weighed:
            if gate and self._is_again(key, time, data.mass_kg, bound, policy, received):
                return
        else:
            clock: Clock = self.scratch.get(_CLOCKS, event.source) or Clock(time)
            self.scratch.put(_CLOCKS, event.source, clock.read(time))
            passed: Passed | None = self.scratch.get(_PASSED, key)
            if passed is not None and passed.known:  # whoever passed the gate comes to be weighed another time
                self.scratch.put(_PASSED, key, Passed((), passed.until))
            if gate and data.direction is not None:
                self._passes(witness, key, time, data.direction == "in", policy, received)
        if self._take_back(witness, data.plate, time, bound, row, seen=weighed):
            return
        if weighed:
            weighing = Weighed(data.plate, time, batch.origins[row], scope)
            inside: Inside | None = self.scratch.get(_INSIDE, key)
            if inside is not None:
                times = tuple(sorted((*inside.weighed, time))[-_PASSAGES:])
                self.scratch.put(_INSIDE, key, msgspec.structs.replace(inside, weighed=times))
            if gate and not self._in_time(key, time, bound) and self._comes_from_queue(witness, data.plate, time, policy):
                self._put(witness, self._get(witness).with_verdict(True))
                return
            capture, out = self._same.right(key, Waiting(id_, time, received, weighing), bound)
            met = capture is not None
        else:
            read = Capture(data.plate, time, event.source, batch.origins[row], data.direction, data.confidence_percent)
            partner, out = self._same.left(key, Waiting(id_, time, received, read), bound)
            met = partner is not None
        if met:
            self._put(witness, self._get(witness).with_verdict(True))
        for alone in out:
            self._alone(alone)

    def _passes(self, witness: str, key: str, time: int, inwards: bool, policy: PlateMatchPolicy, received: int) -> None:
        """Note who drives in or out."""
        found: Inside | None = self.scratch.get(_INSIDE, key)
        until = received + policy.inside_s * 1_000 + 2 * _bound(policy, witness).latest_ms
        known = found or Inside((), (), until)
        passages = tuple(sorted({*known.passages, (time, inwards)})[-_PASSAGES:])
        self.scratch.put(_INSIDE, key, Inside(passages, known.weighed, until))
        if found is None:
            self.timers.set(until, f"{_INSIDE}\x1f{key}")
        row = self._get(witness)
        if not inwards and time > row.left:
            self._put(witness, msgspec.structs.replace(row, left=time))

    def _is_inside(self, witness: str, weighing: Waiting[Weighed], policy: PlateMatchPolicy) -> bool:
        """Whether the gates saw the vehicle drive in and not out again. They can tell only where they see vehicles leave."""
        within = policy.inside_s * 1_000
        known: Inside | None = self.scratch.get(_INSIDE, f"{witness}\x1f{weighing.item.plate}")
        seen_out = self._get(witness).left >= weighing.time - within
        return known is not None and seen_out and known.at(weighing.time, within)

    def _in_time(self, key: str, time: int, bound: Bound) -> bool:
        """Whether a capture of the same plate waits within the bound."""
        return any(bound.earliest_ms <= time - c.time <= bound.latest_ms for c in self._same.waiting(key).left)

    def _comes_from_queue(self, witness: str, plate: str, time: int, policy: PlateMatchPolicy) -> bool:
        """Whether the vehicle's own capture on the way in already stands alone, for want of a weighing in time: it takes it."""
        pending = self._other.waiting(witness)
        own = [
            c for c in pending.left
            if c.item.plate == plate and c.item.direction == "in" and -SKEW_MS <= time - c.time <= policy.inside_s * 1_000
        ]  # fmt: skip
        if not own:
            return False
        taken = max(own, key=lambda c: c.order)
        self._keep(witness, tuple(c for c in pending.left if c is not taken), pending.right)
        return True

    def _keep(self, witness: str, left: tuple[Waiting[Capture], ...], right: tuple[Waiting[Weighed], ...]) -> None:
        if left or right:
            self.scratch.put(_OTHER, witness, Pending(left, right))
        else:
            self.scratch.delete(_OTHER, witness)

    def _witness_of(self, source: str, time: int, site: str, weighed: bool) -> str:
        device = self._state.reference.device(source, time)
        if weighed:
            own = f"{site}\x1f{device.device}" if device is not None else ""
            return own if own and self.scratch.get(_WITNESS, own) is not None else f"{site}\x1f"
        if device is None or device.watches is None:
            return f"{site}\x1f"
        own = f"{site}\x1f{device.watches}"
        if self.scratch.get(_WITNESS, own) is None:
            self._put(own, Witness())
        return own

    def _get(self, witness: str) -> Witness:
        found: Witness | None = self.scratch.get(_WITNESS, witness)
        return found or Witness()

    def _put(self, witness: str, row: Witness) -> None:
        self.scratch.put(_WITNESS, witness, row)

    def _is_again(self, key: str, time: int, mass_kg: int, bound: Bound, policy: PlateMatchPolicy, received: int) -> bool:
        """Whether the vehicle was weighed just before with the same load, and has not passed the gate since: one visit's
        crossing, which one capture witnesses."""
        passed: Passed | None = self.scratch.get(_PASSED, key)
        known = passed.known if passed is not None else ()
        again = any(abs(t - time) <= bound.latest_ms and abs(kg - mass_kg) < policy.again_kg for t, kg in known)
        self.scratch.put(_PASSED, key, Passed((*known, (time, mass_kg))[-4:], received + bound.latest_ms))
        if passed is None:
            self.timers.set(received + bound.latest_ms, f"{_PASSED}\x1f{key}")
        return again

    def fire(self, until: int) -> None:
        while (timer := self.timers.pop(until)) is not None:
            due, subject = timer
            table, _, key = subject.partition("\x1f")
            if table == _SAME:
                for alone in self._same.expire(due, subject):
                    self._alone(alone)
            elif table == _OTHER:
                self._last_chance(key, self._other.expire(due, subject))
            elif table in (_PASSED, _INSIDE):
                row: Passed | Inside = self.scratch.get(table, key)
                if row.until > due:
                    self.timers.set(row.until, subject)
                else:
                    self.scratch.delete(table, key)

    def _alone(self, alone: Alone) -> None:
        """Neither side met its like: the second join."""
        witness, _, _ = alone.key.rpartition("\x1f")
        policy, version = policy_of(self._state, self._default, alone.one.time) or (self._default, 0)
        bound = _bound(policy, witness, _ALONE)
        one = msgspec.structs.replace(alone.one, received=alone.at)
        if alone.side == "left":
            weighing, out = self._other.left(witness, one, bound)
            pair = (one, weighing) if weighing is not None else None
        else:
            capture, out = self._other.right(witness, one, bound)
            pair = (capture, one) if capture is not None else None
        if pair is not None:
            self._differ(witness, pair[0], pair[1], policy, version, alone.at)
        self._last_chance(witness, out)

    def _last_chance(self, witness: str, leaving: Sequence[Alone]) -> None:
        """Those who leave the second join take the nearest that is left. A weighing that finds nothing counts against the
        witness; a capture that does was of somebody who is not weighed."""
        if not leaving:
            return
        pending = self._other.waiting(witness)
        captures = [*pending.left, *(a.one for a in leaving if a.side == "left")]
        weighings = [*pending.right, *(a.one for a in leaving if a.side == "right")]
        for alone in leaving:
            if not any(alone.one is w for w in (*captures, *weighings)):
                continue  # taken by one before it
            policy, version = policy_of(self._state, self._default, alone.one.time) or (self._default, 0)
            within = _bound(policy, witness).latest_ms
            if alone.side == "right" and self._is_inside(witness, alone.one, policy):
                weighings = [w for w in weighings if w is not alone.one]
                self._put(witness, self._get(witness).with_verdict(True))
                continue
            strangers = [w for w in weighings if not self._is_inside(witness, w, policy)]
            pairs = [(alone.one, w) for w in strangers] if alone.side == "left" else [(c, alone.one) for c in captures]
            near = [(abs(c.time - w.time), c.order, w.order, c, w) for c, w in pairs if self._may_be(c.item, w.item)]
            fitting = [n for n in near if n[0] <= within]
            capture, weighing = min(fitting, key=lambda f: f[:3])[3:] if fitting else (alone.one, alone.one)
            captures = [c for c in captures if c is not capture]
            weighings = [w for w in weighings if w is not weighing]
            if fitting:
                self._differ(witness, capture, weighing, policy, version, alone.at)
            elif alone.side == "right":
                self._put(witness, self._get(witness).with_verdict(False))
        gone = [a.one for a in leaving]
        left = tuple(c for c in pending.left if any(c is other for other in captures) and c not in gone)
        right = tuple(w for w in pending.right if any(w is other for other in weighings) and w not in gone)
        self._keep(witness, left, right)

    def _differ(
        self,
        witness: str,
        capture: Waiting[Capture],
        weighing: Waiting[Weighed],
        policy: PlateMatchPolicy,
        version: int,
        at: int,
    ) -> None:
        """One vehicle, two plates."""
        seen, named = capture.item, weighing.item
        sure = seen.confidence is not None and seen.confidence >= policy.sure_percent
        characters = differing(seen.plate, named.plate)
        misread = characters == 1 and not sure
        row = self._get(witness)
        if misread and differing(seen.plate, named.plate, policy.alike) == 0:
            self._put(witness, row.with_verdict(True))
            return
        row = row.with_verdict(False)
        if row.heard(policy):
            severity = "low" if misread else "medium" if characters == 1 else "high"
            known = next((m for m in row.open if m.plate == named.plate and m.seen == seen.plate), None)
            if known is None:
                id_ = warning_id(self._operator.name, self._operator.version, witness, capture.id, weighing.id)
                now = Mismatch(
                    id_, named.plate, seen.plate, severity, named.scope, (weighing.time,), (capture.time,), version, at
                )
                rest = row.open[-OPEN + 1 :]
            else:
                now = msgspec.structs.replace(
                    known,
                    weighed_at=(*known.weighed_at, weighing.time)[-8:],
                    seen_at=(*known.seen_at, capture.time)[-8:],
                    changes=known.changes + 1,
                )
                rest = tuple(m for m in row.open if m is not known)
            row = msgspec.structs.replace(row, open=tuple(m for m in (*rest, now) if m.received > at - DAY_MS))
            cause = join_causes((named.origin, seen.origin))
            self._emit("raised" if known is None else "updated", now, weighing.time, at, at, cause, seen.confidence)
        self._put(witness, row)

    def _take_back(self, witness: str, plate: str, time: int, bound: Bound, row: int, *, seen: bool) -> bool:
        """Whether what arrives late explains a part of an open warning: a weighing of the captured plate (``seen``), or a
        capture of the weighed one."""
        known = self._get(witness)
        received = self._batch.received[row]
        for mismatch in known.open:
            times = mismatch.seen_at if seen else mismatch.weighed_at
            near = [t for t in times if abs(t - time) <= bound.latest_ms]
            if plate != (mismatch.seen if seen else mismatch.plate) or not near:
                continue
            at = times.index(min(near, key=lambda t: abs(t - time)))
            left = msgspec.structs.replace(
                mismatch,
                weighed_at=mismatch.weighed_at[:at] + mismatch.weighed_at[at + 1 :],
                seen_at=mismatch.seen_at[:at] + mismatch.seen_at[at + 1 :],
                changes=mismatch.changes + 1,
            )
            rest = tuple(left if m is mismatch else m for m in known.open if m is not mismatch or left.weighed_at)
            self._put(witness, msgspec.structs.replace(known, open=rest).with_verdict(True))
            change = "updated" if left.weighed_at else "cleared"
            self._emit(change, left, time, received, self._batch.known_at(row), self._batch.origins[row], None)
            return True
        return False

    def _emit(
        self, change: str, about: Mismatch, time: int, at: int, known_at: int, cause: str, confidence: int | None
    ) -> None:
        parameters = {"seen": about.seen, "weighings": str(len(about.weighed_at))}
        if confidence is not None:
            parameters["confidence_percent"] = str(confidence)
        self.events.append(
            warning(
                change,
                about.warning,
                "plate-mismatch",
                severity=about.severity,
                subject=about.plate,
                scope=about.scope,
                parameters=parameters,
                since=min(about.weighed_at, default=time),
                time=time,
                at=at,
                known_at=known_at,
                cause=cause,
                rule=self._default.rule,
                rule_version=about.rule_version,
                sequence=about.changes,
            )
        )


def _bound(policy: PlateMatchPolicy, witness: str, keep: int = 8) -> Bound:
    """Of the gates of a site (``site``, separator, nothing) or of the cameras of one scale."""
    scale = witness.split("\x1f")[1]
    return _around(policy.scale_within_s if scale else policy.gate_within_s, keep)


def _around(seconds: int, keep: int) -> Bound:
    return Bound.around(seconds * 1_000, seconds * 1_000, keep)
