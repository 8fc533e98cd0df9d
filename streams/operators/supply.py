"""Cut supply: no weighbridge of a site is heard any more, and its gates go on counting vehicles.

A scale that says nothing while nothing drives is a quiet scale (``silence`` raises ``device-silent`` for it, if it should
report). One that says nothing while vehicles pass the gate was switched off, unplugged or cut from its network, and coal moves
unweighed. The two are told apart by what the cameras and the gates' terminals of the same site count.

Darkness is of recorded time, as silence is: a site's own outage takes its cameras along, so that what was counted in it comes
only together with what was weighed in it, and raises nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import msgspec

from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import Scratch, State
from streams.operators.records import Event, Scope, join_causes, time_of, warning, warning_id
from streams.operators.timers import TIMER_TABLE, TimerRow, Timers
from streams.rules.policy import parameter, policy_of

__all__ = ["Passage", "Scale", "SupplyCut", "SupplyCutPolicy", "Watch"]

_WATCH: Final = "watch"
_MAX_SCALES: Final = 16
_MAX_SEEN: Final = 32


@dataclass(frozen=True, slots=True)
class SupplyCutPolicy:
    """Parameters of rule ``supply-cut``."""

    rule: ClassVar[str] = "supply-cut"
    RULE_VERSION: ClassVar[int] = 1
    passages: int = parameter(3, zh="最少过车", en="Vehicles counted at least", minimum=1, maximum=1_000)
    grace_s: int = parameter(300, unit="s", zh="停秤后不计", en="Not counted after the last record", minimum=0, maximum=86_400)
    settle_s: int = parameter(
        600, unit="s", zh="应过磅的等待时限", en="Time in which they would be weighed", minimum=0, maximum=86_400
    )
    lost_after_s: int = parameter(120, unit="s", zh="报失电断网后", en="Dark after a reported loss", minimum=1, maximum=86_400)
    dark_after_s: int = parameter(
        3_600, unit="s", zh="无静默时限的设备", en="Dark, of devices without a silence limit", minimum=1, maximum=864_000
    )


class Scale(msgspec.Struct, frozen=True):
    """A weighbridge that was heard: when last (ms of recorded time), and the supply that it last reported as lost."""

    source: str
    last: int
    lost: str = ""


class Passage(msgspec.Struct, frozen=True):
    """A vehicle that was counted in the dark. ``plate`` is empty where a gate's terminal reads none."""

    origin: str
    plate: str = ""
    out: bool = False


class Watch(msgspec.Struct, frozen=True):
    """What is held of one site. ``seen`` are the first passages, ``counted`` and ``left`` all of them; ``reached`` is when
    there were enough. ``armed`` is the due time of the timer that counts, ``cut`` the start of the present cut (0: none),
    ``told`` the count last told and ``version`` the rule's at that time."""

    scales: tuple[Scale, ...]
    scope: Scope
    seen: tuple[Passage, ...] = ()
    counted: int = 0
    left: int = 0
    reached: int = 0
    armed: int = 0
    episode: int = 0
    cut: int = 0
    told: int = 0
    changes: int = 0
    version: int = 0

    @property
    def dark_from(self) -> int:
        """When the last of the scales was last heard."""
        return max(scale.last for scale in self.scales)

    @property
    def lost(self) -> str:
        return next((scale.lost for scale in self.scales if scale.lost), "none")


class _Report(msgspec.Struct, frozen=True):
    kind: str = "heartbeat"
    state: str = "ok"


class _Passed(msgspec.Struct, frozen=True):
    plate: str = ""
    direction: str | None = None


class SupplyCut:
    """Warning ``supply-cut`` of a site, raised and cleared.

    A weighbridge is dark when nothing of it was received for its registered ``silence_after_s`` (``dark_after_s`` where it has
    none, ``lost_after_s`` after it reported power or network lost). When all weighbridges of a site that were ever heard are
    dark, and since the last of their records the site's cameras and gates counted at least ``passages`` vehicles (each plate
    once a direction, the first ``grace_s`` left out: these were weighed), the site is cut. Severity is high when vehicles were
    counted leaving or a loss was reported, else medium. The next record of any of its scales clears it.

    An update is given whenever the count doubles, so one cut costs at most a few dozen events. Known limits: a vehicle that
    goes round a living scale is not seen here; a site with no camera and no gate terminal is only ever silent.
    """

    name: Final = "supply-cut"
    version: Final = 1
    inputs: Final = frozenset({"weighing.measured", "device.reported", "plate.captured", "gate.passed"})
    emits: Final = frozenset({"warning.raised", "warning.updated", "warning.cleared"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {_WATCH: Watch, TIMER_TABLE: TimerRow}

    _decoders: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
        "weighing.measured": msgspec.json.Decoder(Event[_Passed]),
        "device.reported": msgspec.json.Decoder(Event[_Report]),
        "plate.captured": msgspec.json.Decoder(Event[_Passed]),
        "gate.passed": msgspec.json.Decoder(Event[_Passed]),
    }

    def __init__(self, policy: SupplyCutPolicy = SupplyCutPolicy()) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        timers = Timers(scratch)
        events: list[Emit] = []
        for row, event in batch.decode(self._decoders):
            site = batch.scopes[row][1]
            if not site:
                continue
            events += self._fire(scratch, timers, state, batch.received[row])
            type_ = batch.types[row]
            if type_ in ("plate.captured", "gate.passed"):
                events += self._pass(scratch, timers, state, batch, row, event)
            elif type_ == "weighing.measured" or self._is_scale(state, event.source, batch.received[row]):
                report = event.data if type_ == "device.reported" else None
                events += self._hear(scratch, batch, row, event.source, report)
        events += self._fire(scratch, timers, state, batch.clock)
        timers.save()
        return Effects(events, scratch.changes)

    @staticmethod
    def _is_scale(state: State, source: str, at: int) -> bool:
        device = state.reference.device(source, at)
        return device is not None and device.kind == "weighbridge"

    def _hear(self, scratch: Scratch, batch: Batch, row: int, source: str, report: _Report | None) -> Iterator[Emit]:
        """A scale lives: whatever was counted since its last record has been explained."""
        received, scope = batch.received[row], batch.scopes[row]
        watch: Watch = scratch.get(_WATCH, scope[1]) or Watch((), scope)
        if watch.cut:
            yield self._warning("cleared", watch, received, received, batch.known_at(row), batch.origins[row])
        known = next((s for s in watch.scales if s.source == source), Scale(source, received))
        lost = known.lost
        if report is not None and report.kind != "heartbeat":
            lost = report.kind if report.state == "lost" else "" if lost == report.kind else lost
        others = tuple(s for s in watch.scales if s.source != source)[-(_MAX_SCALES - 1) :]
        scratch.put(
            _WATCH,
            scope[1],
            Watch((*others, Scale(source, received, lost)), scope, armed=watch.armed, episode=watch.episode),
        )

    def _pass(
        self, scratch: Scratch, timers: Timers, state: State, batch: Batch, row: int, event: Event[_Passed]
    ) -> Iterator[Emit]:
        received, site = batch.received[row], batch.scopes[row][1]
        watch: Watch | None = scratch.get(_WATCH, site)
        if watch is None:
            return  # no scale of the site was ever heard: nothing is known to have gone dark
        time = time_of(event, received)
        rule = policy_of(state, self._policy, time)
        if rule is None or time < watch.dark_from + rule[0].grace_s * 1000:
            return
        policy = rule[0]
        passage = Passage(batch.origins[row], event.data.plate, event.data.direction == "out")
        if passage.plate and any((s.plate, s.out) == (passage.plate, passage.out) for s in watch.seen):
            return
        watch = msgspec.structs.replace(
            watch,
            seen=(*watch.seen, passage)[:_MAX_SEEN],
            counted=watch.counted + 1,
            left=watch.left + passage.out,
            reached=received if watch.counted + 1 == policy.passages else watch.reached,
        )
        if watch.cut and watch.counted >= 2 * watch.told:
            watch = msgspec.structs.replace(watch, told=watch.counted, changes=watch.changes + 1, version=rule[1])
            yield self._warning("updated", watch, time, received, batch.known_at(row), passage.origin)
        elif not watch.cut and watch.counted >= policy.passages:
            due = self._due(state, watch, policy, received)
            if not watch.armed or due < watch.armed:
                watch = msgspec.structs.replace(watch, armed=due)
                timers.set(due, site)
        scratch.put(_WATCH, site, watch)

    @staticmethod
    def _due(state: State, watch: Watch, policy: SupplyCutPolicy, now: int) -> int:
        """When the site is cut if nothing more is heard: every scale dark, time not listened to left out, and settled."""
        due = max(now, watch.reached + policy.settle_s * 1000)
        for scale in watch.scales:
            device = state.reference.device(scale.source, now)
            if device is not None and device.site != watch.scope[1]:
                continue  # it stands elsewhere now
            after_s = device.silence_after_s if device is not None and device.silence_after_s else policy.dark_after_s
            dark = scale.last + min(after_s, policy.lost_after_s if scale.lost else after_s) * 1000
            due = max(due, dark + (state.reference.unheard_ms(scale.last, now) if dark <= now else 0))
        return due

    def _fire(self, scratch: Scratch, timers: Timers, state: State, until: int) -> Iterator[Emit]:
        while (timer := timers.pop(until)) is not None:
            at, site = timer
            watch: Watch | None = scratch.get(_WATCH, site)
            if watch is None or at != watch.armed:
                continue  # an earlier one was set since
            watch = msgspec.structs.replace(watch, armed=0)
            rule = policy_of(state, self._policy, at)
            if rule is not None and not watch.cut and watch.counted >= rule[0].passages:
                due = self._due(state, watch, rule[0], at)
                if due > at:
                    watch = msgspec.structs.replace(watch, armed=due)
                    timers.set(due, site)
                else:
                    watch = msgspec.structs.replace(
                        watch, cut=watch.dark_from, told=watch.counted, episode=watch.episode + 1, version=rule[1]
                    )
                    causes = join_causes(tuple(p.origin for p in watch.seen))
                    yield self._warning("raised", watch, at, at, at, causes)
            scratch.put(_WATCH, site, watch)

    def _warning(
        self,
        change: str,
        watch: Watch,
        time: int,
        at: int,
        known_at: int,
        cause: str,
    ) -> Emit:
        return warning(
            change,
            warning_id(self.name, self.version, "cut", watch.scope[1], watch.episode),
            "supply-cut",
            severity="high" if watch.left or watch.lost != "none" else "medium",
            subject=watch.scope[1],
            scope=watch.scope,
            parameters={
                "passages": str(watch.counted),
                "left": str(watch.left),
                "scales": str(len(watch.scales)),
                "lost": watch.lost,
            },
            since=watch.cut,
            time=time,
            at=at,
            known_at=known_at,
            cause=cause,
            rule=self._policy.rule,
            rule_version=watch.version,
            sequence=watch.changes,
        )
