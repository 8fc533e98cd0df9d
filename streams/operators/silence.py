"""Silence and supply of devices: nothing heard for too long, power or network lost.

Silence is of recorded time: how long nothing was *received*. A device whose clock is wrong, or which sends its buffer late,
is not silent while it sends; one that sends old readings is heard. Time in which the platform itself did not receive (it was
stopped, or its log was away) counts for nobody: what was not listened to cannot be called silent.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import Scratch, State
from streams.operators.records import Event, Scope, time_of, warning, warning_id
from streams.operators.timers import TIMER_TABLE, TimerRow, Timers

__all__ = ["Heard", "Silence", "Supply"]

_HEARD = "heard"
_SUPPLY = "supply"


class _Report(msgspec.Struct, frozen=True):
    kind: str = "heartbeat"
    state: str = "ok"


class Heard(msgspec.Struct, frozen=True):
    """When a device was last heard, ms of recorded time, and in which silence it is.

    ``armed`` is the due time of its one timer (0: none), ``episode`` counts silences, ``silent`` is the start of the
    present one (0: not silent).
    """

    last: int
    scope: Scope
    armed: int = 0
    episode: int = 0
    silent: int = 0


class Supply(msgspec.Struct, frozen=True):
    """State of one supply (power or network) of one device, as of event time ``time``."""

    time: int
    state: str = "ok"
    episode: int = 0
    since: int = 0
    changes: int = 0


class Silence:
    """Warnings ``device-silent``, ``power-lost`` and ``network-lost``, raised and cleared.

    A device registered with ``silence_after_s`` that was heard once and then not for that long of recorded time is silent,
    until the next record of any kind. A device that was never heard has nothing to be silent about yet: the registry page
    lists it as never heard. Backup supply (双网双电 with one of two gone) is the same warning at low severity.
    A report older than the last one of its supply changes nothing.
    """

    name: Final = "silence"
    version: Final = 1
    inputs: Final = frozenset({"device.reported", "weighing.measured", "plate.captured", "meter.read", "belt.metered"})
    emits: Final = frozenset({"warning.raised", "warning.updated", "warning.cleared"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_HEARD: Heard, _SUPPLY: Supply, TIMER_TABLE: TimerRow}

    _decoder: Final = msgspec.json.Decoder(Event[_Report])

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        timers = Timers(scratch)
        events: list[Emit] = []
        for row, type_ in enumerate(batch.types):
            if type_ not in self.inputs:
                continue
            events += self._fire(scratch, timers, state, batch.received[row])
            event = self._decoder.decode(batch.values[row])
            events += self._hear(scratch, timers, state, batch, row, event.source)
            if type_ == "device.reported" and event.data.kind != "heartbeat":
                events += self._supply(scratch, batch, row, event)
        events += self._fire(scratch, timers, state, batch.clock)
        timers.save()
        return Effects(events, scratch.changes)

    def _hear(self, scratch: Scratch, timers: Timers, state: State, batch: Batch, row: int, source: str) -> Iterator[Emit]:
        received, scope = batch.received[row], batch.scopes[row]
        heard: Heard | None = scratch.get(_HEARD, source)
        after = self._after_ms(state, source, received)
        if heard is None and after is None:
            return
        heard = Heard(received, scope) if heard is None else msgspec.structs.replace(heard, last=received, scope=scope)
        if heard.silent:
            yield self._silent("cleared", source, heard, received, batch.known_at(row), {}, batch.origins[row])
            heard = msgspec.structs.replace(heard, silent=0)
        if after is not None and not heard.armed:
            heard = msgspec.structs.replace(heard, armed=received + after)
            timers.set(heard.armed, source)
        scratch.put(_HEARD, source, heard)

    def _fire(self, scratch: Scratch, timers: Timers, state: State, until: int) -> Iterator[Emit]:
        while (timer := timers.pop(until)) is not None:
            due, source = timer
            heard: Heard | None = scratch.get(_HEARD, source)
            if heard is None:
                continue
            after = self._after_ms(state, source, due)
            if after is None:
                scratch.delete(_HEARD, source)
                continue
            deadline = heard.last + after
            if deadline <= due:
                deadline += state.reference.unheard_ms(heard.last, due)
            if deadline > due:  # heard since the timer was set, or not listened to
                timers.set(deadline, source)
                scratch.put(_HEARD, source, msgspec.structs.replace(heard, armed=deadline))
            else:
                heard = msgspec.structs.replace(heard, armed=0, episode=heard.episode + 1, silent=heard.last)
                scratch.put(_HEARD, source, heard)
                yield self._silent("raised", source, heard, due, due, {"silence_after_s": str(after // 1000)}, "")

    @staticmethod
    def _after_ms(state: State, source: str, at: int) -> int | None:
        device = state.reference.device(source, at)
        return None if device is None or device.silence_after_s is None else device.silence_after_s * 1000

    def _silent(
        self, change: str, source: str, heard: Heard, at: int, known_at: int, parameters: Mapping[str, str], cause: str
    ) -> Emit:
        return warning(
            change,
            warning_id(self.name, self.version, "silent", source, heard.episode),
            "device-silent",
            severity="medium",
            subject=source,
            scope=heard.scope,
            parameters=parameters,
            since=heard.silent,
            time=at,
            at=at,
            known_at=known_at,
            cause=cause,
        )

    def _supply(self, scratch: Scratch, batch: Batch, row: int, event: Event[_Report]) -> Iterator[Emit]:
        kind, now = event.data.kind, event.data.state
        time = time_of(event, batch.received[row])
        key = f"{event.source}\x1f{kind}"
        supply: Supply = scratch.get(_SUPPLY, key) or Supply(time)
        if time < supply.time:
            return
        was = supply.state
        if was == "ok" and now != "ok":
            change = "raised"
            supply = Supply(time, now, supply.episode + 1, time)
        elif now == "ok" and was != "ok":
            change = "cleared"
            supply = msgspec.structs.replace(supply, time=time, state=now, changes=supply.changes + 1)
        elif now != was:
            change = "updated"
            supply = msgspec.structs.replace(supply, time=time, state=now, changes=supply.changes + 1)
        else:
            change = ""
            supply = msgspec.structs.replace(supply, time=time)
        scratch.put(_SUPPLY, key, supply)
        if not change:
            return
        yield warning(
            change,
            warning_id(self.name, self.version, kind, event.source, supply.episode),
            f"{kind}-lost",
            severity="high" if now == "lost" else "low",
            subject=event.source,
            scope=batch.scopes[row],
            parameters={"state": now},
            since=supply.since,
            time=time,
            at=batch.received[row],
            known_at=batch.known_at(row),
            cause=batch.origins[row],
            sequence=supply.changes,
        )
