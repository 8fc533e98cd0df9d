"""Shipments: what the two ends of one load say of each other, and loads that have no second end.

Loading and unloading of one shipment (``streams.operators.legs`` says which) are compared once, when both are known:

``shipment-quantity``
    the net masses differ by more than the tolerance: the greater of a share of the loaded mass and a number of kilograms, and
    more where a tare was not measured but taken from the register.
``shipment-commodity``
    both say what the coal is, and not the same.
``shipment-plate``
    another vehicle unloaded what this one loaded (same waybill).
``shipment-late``
    the way from gross weighing to gross weighing took longer than the distance of the sites and a slack explain.
``shipment-missing``
    loaded for a destination inside the city, and nothing unloaded within the limit, of recorded time. Cleared when it turns up.

The subject is the plate that loaded, the scope that of the loading site: one shipment, one owner of its warnings.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, Final

import msgspec

from hengliu.events.envelope import iso_ms, ms_of
from streams.kernel.joins import Alone, Bound, BoundedJoin, Meeting, Pending, Waiting
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import Scratch, State
from streams.operators.places import distance_m, inside, lies_in, place_of
from streams.operators.records import Event, Scope, warning, warning_id
from streams.operators.timers import TIMER_TABLE, TimerRow, Timers
from streams.rules.policy import parameter, policy_of

__all__ = ["Missing", "ShipmentPolicy", "Shipments", "Weighed"]

_PAIRS = "pairs"
_MISSING = "missing"
_KEEP = 4
"""Loadings under one waybill that wait: enterprises number their waybills alike, and more than a few at once are none."""
_SKEW_MS = 3_600_000
"""Two scales' clocks may differ by an hour before an unloading counts as older than its loading."""


@dataclass(frozen=True, slots=True)
class ShipmentPolicy:
    """Parameters of rule ``shipment``.

    ``tolerance_kg`` is 200 kg by which two scales in service may differ without either being wrong (class III, 20 kg intervals:
    3 e for a gross of up to 49 t and 2 e for a tare of up to 40 t, on each side), and 100 kg for a driver who sits in the cab
    at one weighing and not at the next. The share is what coal commonly loses on the road (wind, water), no regulation's
    figure. The other defaults are this platform's choice.
    """

    rule: ClassVar[str] = "shipment"
    RULE_VERSION: ClassVar[int] = 1

    tolerance_percent: Decimal = parameter(
        Decimal("1.0"), unit="%", zh="途耗允差（装车净重的比例）", en="Loss or gain allowed, of the loaded net mass",
        minimum=0, maximum=100,
    )  # fmt: skip
    tolerance_kg: int = parameter(
        300, unit="kg", zh="计量允差", en="Difference allowed in any case", minimum=0, maximum=100_000,
        citation="JJG 539-2016 使用中检验最大允许误差（OIML R 76-1:2006, 3.5.1, 3.5.2）",
    )  # fmt: skip
    register_tare_kg: int = parameter(
        400, unit="kg", zh="皮重取自登记时增加的允差", en="Added where a tare is the registered one", minimum=0, maximum=100_000
    )
    high_percent: Decimal = parameter(
        Decimal("5.0"), unit="%", zh="高级预警的差值比例", en="Difference of high severity", minimum=0, maximum=100
    )
    transit_kmh: int = parameter(
        20, unit="km/h", zh="最低平均速度（直线距离）", en="Least mean speed, as the crow flies", minimum=1, maximum=200
    )
    transit_slack_s: int = parameter(
        14_400, unit="s", zh="途中等待宽限", en="Slack for stops and queues", minimum=0, maximum=2_592_000
    )
    transit_unknown_s: int = parameter(
        43_200, unit="s", zh="距离不明时的时限", en="Limit where the distance is not known", minimum=60, maximum=2_592_000
    )
    missing_after_s: int = parameter(
        129_600, unit="s", zh="未到达判定时限", en="How long until a load is missing", minimum=60, maximum=2_592_000
    )
    match_within_s: int = parameter(
        259_200, unit="s", zh="装卸单最长间隔", en="Longest time between loading and unloading", minimum=60, maximum=2_592_000
    )


class Weighed(msgspec.Struct, frozen=True, omit_defaults=True):
    """One end of a shipment, as ``shipment.weighed`` has it."""

    enterprise: str
    site: str
    division: str
    stage: str
    shipment: str
    plate: str
    gross_time: datetime
    ticket: str = ""
    net_kg: int | None = None
    tare_source: str | None = None
    commodity: str | None = None
    origin: str | None = None
    destination: str | None = None
    known_at: int = 0
    """Of the record, ms; no member of its data."""

    @property
    def scope(self) -> Scope:
        return self.enterprise, self.site, self.division

    @property
    def time(self) -> int:
        return ms_of(self.gross_time)


class Missing(msgspec.Struct, frozen=True):
    """A ``shipment-missing`` that is open: the version of the rule that raised it."""

    rule_version: int


class Shipments:
    """``shipment.weighed`` to the warnings above; each at most once a shipment.

    A loading waits ``match_within_s`` of recorded time for its unloading and is missing after ``missing_after_s`` of it, so
    loading old files raises nothing early. That limit is longer than a crossing waits for its tare (rule ``tickets``,
    ``timeout_s``) and the way together, since a ticket may be made with the registered tare only then.

    Of several loadings under one waybill (enterprises number theirs alike) an unloading takes the one of its own plate, else
    the nearest one whose places fit. A load that nobody says is for the city is never missing.
    """

    name: Final = "shipments"
    version: Final = 1
    inputs: Final = frozenset({"shipment.weighed"})
    emits: Final = frozenset({"warning.raised", "warning.cleared"})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {
        _PAIRS: Pending[Weighed, Weighed], _MISSING: Missing, TIMER_TABLE: TimerRow,
    }  # fmt: skip

    _decoders: Final = {"shipment.weighed": msgspec.json.Decoder(Event[Weighed])}

    def __init__(self, policy: ShipmentPolicy = ShipmentPolicy()) -> None:
        self._policy = policy

    def step(self, state: State, batch: Batch) -> Effects:
        scratch = state.scratch()
        timers = Timers(scratch)
        meet = BoundedJoin(_PAIRS, _bound(self._policy), _rank).open(scratch, timers)
        events: list[Emit] = []
        for row, event in batch.decode(self._decoders):
            received = batch.received[row]
            events += self._fire(state, scratch, timers, meet, received)
            events += self._arrive(state, scratch, timers, meet, event, received, batch.known_at(row))
        events += self._fire(state, scratch, timers, meet, batch.clock)
        timers.save()
        return Effects(events, scratch.changes)

    def _arrive(
        self, state: State, scratch: Scratch, timers: Timers, meet: Meeting[Weighed, Weighed], event: Event[Weighed],
        received: int, known_at: int,
    ) -> Iterator[Emit]:  # fmt: skip
        one = msgspec.structs.replace(event.data, known_at=known_at)
        # Retired or not, ends keep meeting: a rule that comes back finds them met.
        policy, _ = policy_of(state, self._policy, one.time) or (self._policy, 0)
        waiting = Waiting(event.id, one.time, received, one)
        if one.stage == "loaded":
            unloading, crowded = meet.left(one.shipment, waiting, _bound(policy))
            _let_go(scratch, crowded)
            if unloading is not None:
                yield from self._compare(state, event.id, one, unloading.id, unloading.item, received)
            elif _for_the_city(state, one):
                timers.set(received + policy.missing_after_s * 1000, f"{_MISSING}\x1f{one.shipment}\x1f{event.id}")
            return
        loading, _ = meet.right(one.shipment, waiting, _bound(policy))
        if loading is None:
            return
        missing: Missing | None = scratch.get(_MISSING, f"{one.shipment}\x1f{loading.id}")
        if missing is not None:
            scratch.delete(_MISSING, f"{one.shipment}\x1f{loading.id}")
            yield self._missing("cleared", loading, missing.rule_version, one.time, received, known_at, {"to": one.site}, one)
        yield from self._compare(state, loading.id, loading.item, event.id, one, received)

    def _fire(
        self, state: State, scratch: Scratch, timers: Timers, meet: Meeting[Weighed, Weighed], until: int
    ) -> Iterator[Emit]:
        while (timer := timers.pop(until)) is not None:
            due, subject = timer
            _let_go(scratch, meet.expire(due, subject))
            what, _, name = subject.partition("\x1f")
            if what != _MISSING:
                continue
            shipment, _, id_ = name.partition("\x1f")
            loading = next((o for o in meet.waiting(shipment).left if o.id == id_), None)
            found = policy_of(state, self._policy, loading.time) if loading is not None else None
            if loading is not None and found is not None:
                scratch.put(_MISSING, name, Missing(found[1]))
                hours = {"limit_s": str(found[0].missing_after_s)}
                yield self._missing("raised", loading, found[1], loading.time, due, due, hours, None)

    def _missing(
        self, change: str, loading: Waiting[Weighed], rule_version: int, time: int, at: int, known_at: int,
        more: Mapping[str, str], unloading: Weighed | None,
    ) -> Emit:  # fmt: skip
        one = loading.item
        return warning(
            change,
            warning_id(self.name, self.version, "shipment-missing", loading.id),
            "shipment-missing",
            severity="high",
            subject=one.plate,
            scope=one.scope,
            parameters={
                **_described(one), "net_kg": str(one.net_kg or 0), "loaded_at": iso_ms(one.time),
                "destination": one.destination or "", **more,
            },
            since=one.time,
            time=time,
            at=at,
            known_at=known_at,
            cause=",".join(t for t in (one.ticket, unloading.ticket if unloading is not None else "") if t),
            rule=self._policy.rule,
            rule_version=rule_version,
        )  # fmt: skip

    def _compare(
        self, state: State, loaded_id: str, loaded: Weighed, unloaded_id: str, unloaded: Weighed, at: int
    ) -> Iterator[Emit]:
        """Every way in which the two ends differ. The rule in force at the loading judges, as it was known to who loaded."""
        found = policy_of(state, self._policy, loaded.time)
        if found is None:
            return
        policy, version = found
        for code, severity, parameters in (
            *_quantity(policy, loaded, unloaded),
            *_commodity(loaded, unloaded),
            *_plate(loaded, unloaded),
            *_late(state, policy, loaded, unloaded),
        ):
            yield warning(
                "raised",
                warning_id(self.name, self.version, code, loaded_id, unloaded_id),
                code,
                severity=severity,
                subject=loaded.plate,
                scope=loaded.scope,
                parameters={**_described(loaded), "to": unloaded.site, **parameters},
                since=unloaded.time,
                time=unloaded.time,
                at=at,
                known_at=max(loaded.known_at, unloaded.known_at),
                cause=",".join(t for t in (loaded.ticket, unloaded.ticket) if t),
                rule=policy.rule,
                rule_version=version,
            )


def _for_the_city(state: State, loaded: Weighed) -> bool:
    """Whether a load must be weighed at the other end: it is for a division registered as inside the city, or for the whole
    city in which it was loaded (GB/T 2260: a prefecture's code ends in 00, a province's in 0000)."""
    named = loaded.destination
    known = inside(state.reference, named, loaded.time)
    if known is None and named is not None and named.endswith("00") and not named.endswith("0000"):
        return lies_in(loaded.division, named)
    return bool(known)


def _let_go(scratch: Scratch, gone: Iterable[Alone]) -> None:
    """Nobody waits for these any more. A warning that is open stays so until people close it."""
    for _, shipment, one, _ in gone:
        if scratch.get(_MISSING, name := f"{shipment}\x1f{one.id}") is not None:
            scratch.delete(_MISSING, name)


_Finding = tuple[str, str, dict[str, str]]
"""Code, severity and parameters."""


def _quantity(policy: ShipmentPolicy, loaded: Weighed, unloaded: Weighed) -> Iterator[_Finding]:
    if loaded.net_kg is None or unloaded.net_kg is None:
        return
    difference = unloaded.net_kg - loaded.net_kg
    tolerance = max(int(policy.tolerance_percent * loaded.net_kg / 100), policy.tolerance_kg)
    tolerance += policy.register_tare_kg * ("register" in (loaded.tare_source, unloaded.tare_source))
    if abs(difference) <= tolerance:
        return
    severity = "high" if abs(difference) * 100 > policy.high_percent * loaded.net_kg else "medium"
    which = "short_kg" if difference < 0 else "over_kg"
    yield "shipment-quantity", severity, {
        "loaded_kg": str(loaded.net_kg), "unloaded_kg": str(unloaded.net_kg), which: str(abs(difference)),
        "tolerance_kg": str(tolerance),
    }  # fmt: skip


def _commodity(loaded: Weighed, unloaded: Weighed) -> Iterator[_Finding]:
    if loaded.commodity and unloaded.commodity and loaded.commodity != unloaded.commodity:
        yield "shipment-commodity", "medium", {"loaded": loaded.commodity, "unloaded": unloaded.commodity}


def _plate(loaded: Weighed, unloaded: Weighed) -> Iterator[_Finding]:
    if loaded.plate != unloaded.plate:
        yield "shipment-plate", "high", {"unloaded_plate": unloaded.plate}


def _late(state: State, policy: ShipmentPolicy, loaded: Weighed, unloaded: Weighed) -> Iterator[_Finding]:
    took_s = (unloaded.time - loaded.time) // 1000
    start = place_of(state.reference.site(loaded.site, loaded.time))
    end = place_of(state.reference.site(unloaded.site, unloaded.time))
    limit_s, parameters = policy.transit_unknown_s, {}
    if start is not None and end is not None:
        metres = distance_m(start, end)
        limit_s = metres * 3_600 // (policy.transit_kmh * 1_000) + policy.transit_slack_s
        parameters = {"distance_m": str(metres)}
    if took_s > limit_s:
        severity = "medium" if took_s > 2 * limit_s else "low"
        yield "shipment-late", severity, {"took_s": str(took_s), "limit_s": str(limit_s), **parameters}


def _described(loaded: Weighed) -> dict[str, str]:
    return {"shipment": loaded.shipment, "from": loaded.site}


def _bound(policy: ShipmentPolicy) -> Bound:
    within, missing = policy.match_within_s * 1000, policy.missing_after_s * 1000
    return Bound(-_SKEW_MS, within, max(within, missing), within, _KEEP)


def _rank(loaded: Weighed, unloaded: Weighed) -> int | None:
    """The same plate; or another one, if each names the other's place (or none)."""
    if loaded.plate == unloaded.plate:
        return 0
    return 1 if lies_in(unloaded.division, loaded.destination) and lies_in(loaded.division, unloaded.origin) else None
