"""The city in motion: a discrete-event simulation that produces coal, trucks, readings and the ledger of them.

One priority queue of (time, number, handler). Handlers move integer kilograms and let devices speak; ``advance`` returns what
was sent up to an instant. The same city and start give the same bytes, however the run is cut into ``advance`` calls.

Physical truth (``truth``) and what scales and meters displayed (``ledger``) are kept apart: a road scale rounds to its step and
has an error, a belt scale has an error, so book stock and yard drift apart until the next survey, as they do.
"""

import heapq
from dataclasses import dataclass
from typing import Any, NamedTuple

from simulator.almanac import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    WORK_HOURS,
    day_start,
    is_holiday,
    local_date,
    local_hour,
    works_percent,
)
from simulator.city import SCALE_STEP_KG, City, Device, Line, Rates, Site
from simulator.fraud import Fraud
from simulator.irregular import Planted, as_text
from simulator.ledger import Consumption, Ledger, Overload, StockMove, Supply, Ticket, TimeOut
from simulator.parts import Dev, Driver, Every, Gauge, Handler, Scale, Trip, Works
from simulator.roads import degrees_text
from simulator.wire import Sent, envelope, event, fast_iso

__all__ = ["Stay", "Truth", "World"]

STEP_MS = 5 * MINUTE_MS
"""Works run in steps of five minutes."""
GRID_MS = 15 * MINUTE_MS
"""A run starts on a whole quarter of an hour, so that meter intervals are those of the clock."""
FLUSH_MS = 1_500
"""A device sends what it buffered so long after its network is back."""
ROUND_MS = 15 * MINUTE_MS
"""A feed sends history in rounds of so much city time; within one, nothing is promised about the order between devices. A
truck's visits to one site are further apart, so its crossings can be paired in whatever order a round is received."""
PRICES_FEN = {"raw": 52_000, "cleaned": 118_000, "middlings": 26_000, "slime": 18_000, "coke": 165_000, "anthracite": 93_000}
"""Opening prices, fen per tonne. Assumption: only their size is realistic."""
HEAT_KCAL = {"raw": 5_000, "cleaned": 6_300, "middlings": 2_000, "slime": 2_400}


class Stay(NamedTuple):
    """Where a truck was from when to when: ``place`` of a stay, ``place>place`` of a drive."""

    plate: str
    start: int
    end: int
    place: str


@dataclass(frozen=True, slots=True)
class Truth:
    """What coal really did, kilograms per commodity, since the start. See ``World.truth``."""

    opening: dict[str, int]
    mined: dict[str, int]
    imported: dict[str, int]
    produced: dict[str, int]
    consumed: dict[str, int]
    exported: dict[str, int]
    lost: int
    yards: dict[str, int]
    on_trucks: dict[str, int]


class World(Fraud):
    """One run of a city.

    Args:
        city: the plan.
        start_ms: epoch ms; taken down to the whole quarter of an hour.
        rates: how often irregularities are planted; those of the city's size unless given.
        encode: False while skipping over what was sent in an earlier run: bodies stay empty, everything else is the same.
        trace: keep ``stays`` of every truck (tests).
    """

    def __init__(
        self, city: City, start_ms: int, *, rates: Rates | None = None, encode: bool = True, trace: bool = False
    ) -> None:
        super().__init__(city)
        self.start_ms = start_ms // GRID_MS * GRID_MS
        self.rates = city.size.rates if rates is None else rates
        self.encode = encode
        self.ledger = Ledger({d.id: d for d in city.devices() if d.silence_after_s is not None})
        self.stays: list[Stay] | None = [] if trace else None
        self._queue: list[tuple[int, int, Handler, Any]] = []
        self._number = 0
        self._order = 0
        self._out: list[Sent] = []
        self._advanced = self.start_ms - 1
        self._odd = city.rng("odd")
        self._overload = Every(self.rates.overload_every_loads, city.rng("overload"))
        self._repeat = Every(self.rates.repeat_every_visits, city.rng("repeat"))
        self._missing = Every(self.rates.missing_tare_every_visits, city.rng("missing"))
        self._duplicate = Every(self.rates.duplicate_every_events, city.rng("duplicate"))
        self._breakdown = Every(self.rates.breakdown_every_trips, city.rng("breakdown"))
        self._loads = 0
        self._prices = dict(PRICES_FEN)
        self.mined: dict[str, int] = {}
        self.imported: dict[str, int] = {}
        self.produced: dict[str, int] = {}
        self.consumed: dict[str, int] = {}
        self.exported: dict[str, int] = {}
        self.lost = 0
        self.works = {s.id: self._works(n, s) for n, s in enumerate(city.sites.values())}
        self.opening: dict[str, int] = {}
        for w in self.works.values():
            for commodity, kg in w.stock.items():
                self.opening[commodity] = self.opening.get(commodity, 0) + kg
        self._market = self._device(city.market, 0, None)
        self.drivers = [
            Driver(t, self._device(t.gps, len(self.works) + n, None), city.rng("truck", t.plate))
            for n, t in enumerate(city.trucks)
        ]
        self._begin()

    # ---- set-up

    def _device(self, device: Device, lane: int, works: Works | None) -> Dev:
        rng = self.city.rng("device", device.id)
        return Dev(device, lane, works, self.start_ms - rng.randrange(90 * DAY_MS), rng.randint(-300, 300))

    def _works(self, lane: int, site: Site) -> Works:
        w = Works(site, lane, self.city.rng("works", site.id))
        w.scales = [self._device(d, lane, w) for d in site.scales]
        w.cameras = [self._device(d, lane, w) for d in site.cameras]
        w.belts = [Scale(b, self._device(b.device, lane, w)) for b in site.belts]
        w.gauges = [Gauge(m, self._device(m.device, lane, w)) for m in site.meters]
        w.surveyor = self._device(site.surveyor, lane, w)
        return w

    def _begin(self) -> None:
        t = self.start_ms
        for w in self.works.values():
            for dev in (*w.scales, *w.cameras, *(b.dev for b in w.belts)):
                if dev.device.heartbeat_s:
                    self._at(t + w.rng.randrange(dev.device.heartbeat_s * 1000), self._beat, dev)
            for scale in w.belts:
                self._read_belt(t, w, scale, first=True)
            for gauge in w.gauges:
                gauge.prev_time = t
                if gauge.meter.quirk == "gap":
                    gauge.gap_from = t + w.rng.randint(5 * HOUR_MS, 9 * HOUR_MS)
                    gauge.gap_until = gauge.gap_from + w.rng.randint(2 * HOUR_MS, 4 * HOUR_MS)
                if gauge.meter.quirk == "swap":
                    gauge.swap_at = t + w.rng.randint(10 * HOUR_MS, 16 * HOUR_MS)
                if gauge.meter.reading == "register":
                    self._emit_register(t, gauge, gauge.register)
            self._survey(t, w, "opening")
            w.next_hold = self._hold_after(t + 2 * DAY_MS, w)
            self._at(w.next_hold, self._close_gate, w)
        for d in self.drivers:
            d.since = t
            self._at(t + d.rng.randrange(40 * MINUTE_MS), self._dispatch, d)
        self._at(t + STEP_MS, self._step, None)
        self._at(t, self._new_day, None)
        self._at(self._next_hour(t, 9), self._quote, None)
        if self.irregular.any:
            self._at(day_start(t) + DAY_MS, self._odd_day, None)
            self._at(t, self._calibrate, None)

    def _hold_after(self, t: int, w: Works) -> int:
        """05:30 local of the site's weekday, after ``t``."""
        day = day_start(t)
        while local_date(day).weekday() != w.site.survey_weekday or day + 330 * MINUTE_MS <= t:
            day += DAY_MS
        return day + 330 * MINUTE_MS

    @staticmethod
    def _next_hour(t: int, hour: int) -> int:
        at = day_start(t) + hour * HOUR_MS
        return at if at > t else at + DAY_MS

    # ---- running

    def advance(self, until_ms: int) -> list[Sent]:
        """Everything that is sent up to and including ``until_ms`` and was not returned before, in the order of sending."""
        queue = self._queue
        while queue and queue[0][0] <= until_ms:
            t, _, handler, subject = heapq.heappop(queue)
            handler(t, subject)
        self._out.sort()
        lo, hi = 0, len(self._out)
        while lo < hi:
            mid = (lo + hi) // 2
            if self._out[mid].at <= until_ms:
                lo = mid + 1
            else:
                hi = mid
        sent = self._out[:lo]
        del self._out[:lo]
        count = self.ledger.sent
        for s in sent:
            count(s.at, s.type, s.expect, s.device)
        self._advanced = max(self._advanced, until_ms)
        return sent

    def _at(self, t: int, handler: Handler, subject: Any) -> None:
        self._number += 1
        heapq.heappush(self._queue, (t, self._number, handler, subject))

    # ---- speaking

    def _emit(self, dev: Dev, t: int, type_: str, data: dict[str, Any]) -> int:
        """Let a device send a reading taken at ``t``. Returns when it leaves."""
        at = t + dev.device.latency_ms
        if dev.site is not None and at < dev.site.flush_at:
            at = dev.site.flush_at
        dev.seq += 1
        self._order += 1
        id_ = str(dev.seq)
        body = b""
        if self.encode:
            head = dev.heads.get(type_)
            if head is None:
                head = dev.heads[type_] = envelope(dev.device.source, type_)
            body = event(head, id_, t + dev.offset_ms, data)
        self._out.append(Sent(at, self._order, dev.device.id, dev.lane, type_, "accepted", body))
        dev.last = (type_, id_, t, data, at)
        if self._duplicate.now():
            again = at + self._odd.randint(20_000, 120_000)
            self._order += 1
            self._out.append(Sent(again, self._order, dev.device.id, dev.lane, type_, "duplicate", body))
            self._plant("duplicate", dev.device.id, dev, t, again, "answered duplicate, counted once", id=id_)
        return at

    def _plant(
        self, kind: str, subject: str, dev: Dev | None, start: int, end: int, finding: str, **parameters: object
    ) -> None:
        site = dev.site.site.id if dev is not None and dev.site is not None else ""
        self.ledger.planted.append(Planted(kind, subject, site, start, end, finding, as_text(parameters)))

    def _report(self, dev: Dev, t: int, kind: str, state: str) -> int:
        return self._emit(dev, t, "device.reported", {"kind": kind, "state": state, "uptime_s": (t - dev.started) // 1000})

    def _beat(self, t: int, dev: Dev) -> None:
        if not dev.silent_from <= t < dev.silent_until:
            self._report(dev, t, "heartbeat", "ok")
        self._at(t + dev.device.heartbeat_s * 1000, self._beat, dev)

    # ---- works, belts, meters

    def _step(self, t: int, _: Any) -> None:
        for w in self.works.values():
            kg = self._process(t, w)
            if self.irregular.any and w.site.process is not None:
                self._idle(t, w, kg)
            if t % (self.city.size.belt_every_s * 1000) == 0:
                for scale in w.belts:
                    self._read_belt(t, w, scale)
            for gauge in w.gauges:
                self._turn(t, w, gauge, kg)
            if w.hold and not w.counting and w.inside == 0 and w.flush_at <= t:
                w.counting = True
                self._at(t + MINUTE_MS, self._count_stock, w)
        self._at(t + STEP_MS, self._step, None)

    def _process(self, t: int, w: Works) -> int:
        """Run the works for the five minutes up to ``t``. Returns what it processed, kg (a trader: a nominal amount)."""
        p = w.site.process
        percent = works_percent(w.site.kind, t - STEP_MS) * w.rng.randint(88, 112)
        if p is None:
            return 1_000 * percent // 10_000
        w.asked = p.kg_per_h * percent * (STEP_MS // MINUTE_MS) // 600_000
        if w.stopped:
            return 0
        kg = w.asked
        if not p.inputs:
            if w.site.id in self._boost:
                kg *= 3
            kg = max(0, min(kg, w.site.yard["raw"][1] - w.stock["raw"]))
            w.stock["raw"] += kg
            w.belts[0].carried += kg
            self.mined["raw"] = self.mined.get("raw", 0) + kg
            return kg
        made_of = (*p.outputs, *((p.residue,) if p.residue else ()))
        if any(w.stock[c] > w.site.yard[c][1] for c in made_of):
            return 0
        taken = 0
        for n, (commodity, ppm) in enumerate(p.inputs.items()):
            take = min(kg * ppm // 1_000_000, w.stock[commodity])
            w.stock[commodity] -= take
            w.belts[n].carried += take
            self.consumed[commodity] = self.consumed.get(commodity, 0) + take
            taken += take
        made: dict[str, int] = {}
        for commodity, ppm in p.outputs.items():
            made[commodity], w.carry[commodity] = divmod(w.carry[commodity] + taken * ppm, 1_000_000)
        rest = taken - sum(made.values())
        for commodity in made:  # a carried remainder may ask for a kilogram that a tiny step does not have
            while rest < 0 < made[commodity]:
                made[commodity] -= 1
                w.carry[commodity] += 1_000_000
                rest += 1
        if p.residue is not None:
            made[p.residue] = rest
        else:
            self.lost += rest
        for n, (commodity, amount) in enumerate(made.items(), len(p.inputs)):
            w.stock[commodity] += amount
            w.belts[n].carried += amount
            self.produced[commodity] = self.produced.get(commodity, 0) + amount
        return taken

    def _read_belt(self, t: int, w: Works, scale: Scale, *, first: bool = False) -> None:
        """The totaliser shows what was carried, and its error; the book moves by what it shows."""
        shown, scale.carry = divmod(scale.carry + scale.carried * (1_000_000 + scale.belt.error_ppm), 1_000_000)
        scale.carried = 0
        scale.shown += shown
        data: dict[str, Any] = {"belt": scale.belt.device.id, "total_kg": scale.shown, "commodity": scale.belt.commodity}
        if not first:
            data["rate_kg_per_h"] = shown * 3600 // self.city.size.belt_every_s
        at = self._emit(scale.dev, t, "belt.metered", data)
        if not first:
            sign = 1 if scale.belt.role == "produced" else -1
            self.ledger.moves.append(StockMove(w.site.id, scale.belt.commodity, scale.belt.role, sign * shown, t, at))

    def _turn(self, t: int, w: Works, gauge: Gauge, kg: int) -> None:
        m = gauge.meter
        # base_per_h is for an hour, per_tonne for 1,000 kg; the remainder is carried, so that nothing is lost in rounding
        hundredths = m.base_per_h * 1_000 * (STEP_MS // MINUTE_MS) * w.rng.randint(95, 105) // 100 + m.per_tonne * kg * 60
        amount, gauge.carry = divmod(gauge.carry + hundredths, 60_000)
        gauge.accrued += amount
        if t < gauge.surge_until:
            usual_per_h = m.base_per_h + m.per_tonne * (w.site.process.kg_per_h if w.site.process is not None else 0) // 1_000
            gauge.accrued += (gauge.surge - 1) * usual_per_h * STEP_MS // HOUR_MS
        if t % m.every_ms:
            return
        if m.quirk == "back-flow" and local_hour(t) == 3:
            gauge.accrued = -w.rng.randint(2, 9)
            gauge.note = "back-flow"
            self._plant("back-flow", m.device.id, gauge.dev, gauge.prev_time, t, "no warning; the day's sum stays right",
                        amount=gauge.accrued)  # fmt: skip
        if gauge.gap_from <= t < gauge.gap_until:
            if gauge.note != "after-gap":
                self._plant("gap", m.device.id, gauge.dev, gauge.prev_time, gauge.gap_until,
                            "missing, not zero; the register's next reading covers it")  # fmt: skip
            gauge.note = "after-gap"
            if m.reading == "interval":
                gauge.prev_time, gauge.accrued = t, 0
            return
        if t >= gauge.gap_until:
            gauge.gap_from = t + w.rng.randint(30 * HOUR_MS, 60 * HOUR_MS)
            gauge.gap_until = gauge.gap_from + w.rng.randint(2 * HOUR_MS, 4 * HOUR_MS)
        if m.reading == "interval":
            data = {"meter": m.device.id, "quantity": m.quantity, "reading": "interval",
                    "value": _decimal(gauge.accrued, m.decimals), "unit": m.unit, "start": fast_iso(gauge.prev_time),
                    "end": fast_iso(t)}  # fmt: skip
            if m.flow == "export":
                data["flow"] = "export"
            at = self._emit(gauge.dev, t, "meter.read", data)
        else:
            before = self._shown(gauge)
            gauge.register += gauge.accrued
            at = self._emit_register(t, gauge, self._shown(gauge))
            if self._shown(gauge) < before and gauge.accrued >= 0:
                gauge.note = "wrapped"
                self._plant("wrap", m.device.id, gauge.dev, gauge.prev_time, t, "the step is counted through zero")
        self.ledger.consumption.append(
            Consumption(
                m.device.id,
                m.quantity,
                m.unit,
                m.decimals,
                m.flow,
                gauge.prev_time,
                t,
                gauge.accrued,
                m.reading,
                at,
                gauge.note,
            )
        )
        gauge.prev_time, gauge.accrued, gauge.note = t, 0, ""
        if t >= gauge.swap_at:
            self._swap(t, w, gauge)

    def _swap(self, t: int, w: Works, gauge: Gauge) -> None:
        """The old meter was read at ``t`` and taken out; the new one shows zero a minute later, behind the same terminal."""
        gauge.swap_at = t + w.rng.randint(6 * DAY_MS, 12 * DAY_MS)
        installed = t + MINUTE_MS
        self._plant("swap", gauge.meter.device.id, gauge.dev, t, installed, "nothing is counted between the two registers",
                    removed=_decimal(self._shown(gauge), gauge.meter.decimals))  # fmt: skip
        gauge.register = 0
        self._emit_register(installed, gauge, 0)
        gauge.prev_time, gauge.note = installed, "swapped"

    @staticmethod
    def _shown(gauge: Gauge) -> int:
        m = gauge.meter
        return gauge.register if m.digits is None else gauge.register % 10 ** (m.digits + m.decimals)

    def _emit_register(self, t: int, gauge: Gauge, shown: int) -> int:
        m = gauge.meter
        data = {
            "meter": m.device.id,
            "quantity": m.quantity,
            "reading": "register",
            "value": _decimal(shown, m.decimals),
            "unit": m.unit,
        }
        return self._emit(gauge.dev, t, "meter.read", data)

    # ---- stock surveys

    def _close_gate(self, _: int, w: Works) -> None:
        """The gate closes for the survey; it is taken once the last truck inside has been weighed out."""
        w.hold = True

    def _count_stock(self, t: int, w: Works) -> None:
        self._survey(t, w, ("laser", "drone", "manual")[w.lane % 3])
        w.next_hold = self._hold_after(t + DAY_MS, w)
        self._at(w.next_hold, self._close_gate, w)
        self._at(t + MINUTE_MS, self._open_gate, w)

    def _open_gate(self, t: int, w: Works) -> None:
        w.hold = w.counting = False
        self._let_in(t, w)

    def _let_in(self, t: int, w: Works) -> None:
        waiting, w.waiting = w.waiting, []
        for n, (handler, subject) in enumerate(waiting):
            self._at(t + n * 20_000, handler, subject)

    def _survey(self, t: int, w: Works, method: str) -> None:
        assert w.surveyor is not None
        for commodity, kg in w.stock.items():
            data = {"site": w.site.id, "commodity": commodity, "mass_kg": kg, "method": method}
            at = self._emit(w.surveyor, t, "stock.surveyed", data)
            self.ledger.moves.append(StockMove(w.site.id, commodity, "survey", kg, t, at))

    def _quote(self, t: int, _: Any) -> None:
        if self.irregular.any:
            self._quote_markets(t)
            self._at(t + DAY_MS, self._quote, None)
            return
        for commodity in self._prices:
            self._prices[commodity] = self._prices[commodity] * self._odd.randint(985, 1_015) // 1_000
            data: dict[str, Any] = {"commodity": commodity, "market": "wuhai", "price_fen_per_t": self._prices[commodity]}
            if commodity in HEAT_KCAL:
                data["heat_kcal_per_kg"] = HEAT_KCAL[commodity]
            self._emit(self._market, t, "price.quoted", data)
        self._at(t + DAY_MS, self._quote, None)

    # ---- trucks

    def _moved(self, d: Driver, t: int, place: str) -> None:
        if self.stays is not None and t > d.since:
            self.stays.append(Stay(d.truck.plate, d.since, t, place))
        d.since = t

    def _on_duty(self, t: int, d: Driver) -> bool:
        first, last = WORK_HOURS[d.truck.shift]
        hour = local_hour(t)
        if not (first <= hour < last if first < last else hour >= first or hour < last):
            return False
        day = day_start(t)
        if is_holiday(t):
            if day not in d.work:
                d.work[day] = self.city.rng("holiday", d.truck.plate, day).random() < 0.35
            return d.work[day]
        return True

    def _dispatch(self, t: int, d: Driver) -> None:
        """An empty truck looks for its next load."""
        self._moved(d, t, d.place)
        if not self._on_duty(t, d):
            self._at((t // HOUR_MS + 1) * HOUR_MS + d.rng.randrange(20 * MINUTE_MS), self._dispatch, d)
            return
        d.fuel_kg = d.rng.randint(-180, 180)
        d.overload = d.repeat = False
        d.trip = Trip()
        if self.irregular.any:
            self._before_trip(t, d)
        d.target = d.truck.limit_kg - d.empty_kg - d.rng.randint(150, 1_800)
        line = self._choose(d)
        if line is None:
            self._at(t + d.rng.randint(10, 25) * MINUTE_MS, self._dispatch, d)
            return
        d.line, d.commodity = line, line.commodity
        if (w := self.works.get(line.start)) is not None:
            if self._overload.now():
                d.overload = True
                d.target += d.rng.randint(2_500, 9_000)
            w.reserved[line.commodity] += d.target
        if (w := self.works.get(line.end)) is not None:
            w.inbound[line.commodity] += d.target
        self._drive(t, d, line.start, self._arrive_to_load)

    def _choose(self, d: Driver) -> Line | None:
        """Draw a delivery: near, from a full yard, to an empty one. None: nothing to carry or nowhere to put it."""
        best, total = None, 0.0
        works, draw, target, boost = self.works, d.rng.random, d.target + 10_000, self._boost
        for line in self.city.lines:
            score = float(line.weight * boost.get(line.start, 1)) if boost else float(line.weight)
            start = works.get(line.start)
            if start is not None:
                free = start.stock[line.commodity] - start.reserved[line.commodity]
                if free < target or start.inside > 12 or start.stopping:
                    continue
                full = free / start.site.yard[line.commodity][1]
                score *= 0.05 + 4 * full * full
            end = works.get(line.end)
            if end is not None:
                capacity = end.site.yard[line.commodity][1]
                room = capacity - end.stock[line.commodity] - end.inbound[line.commodity]
                if room < target or end.inside > 12 or end.stopping:
                    continue
                score *= 0.05 + 4 * (room / capacity) * (room / capacity)
            total += score
            if draw() * total < score:
                best = line
        return best

    def _drive(self, t: int, d: Driver, to: str, arrive: Handler) -> None:
        way = self.city.roads.way(d.place, to)
        self._moved(d, t, d.place)
        if d.place == to:
            self._at(t + MINUTE_MS, arrive, d)  # it loads where it has just unloaded, and waits at the gate (_enter)
            return
        laden = d.load > 0
        kmh = d.rng.randint(38, 50) if laden else d.rng.randint(48, 66)
        moving = way.length_m * 3_600 // kmh
        stop_at, stop_ms = moving + 1, 0
        if self._breakdown.now():
            stop_at, stop_ms = d.rng.randrange(moving), d.rng.randint(20, 90) * MINUTE_MS
            self._plant(
                "breakdown", d.truck.plate, None, t + stop_at, t + stop_at + stop_ms, "none; the truck stands on the road"
            )
        if d.trip.delay_ms:
            stop_at, stop_ms, d.trip.delay_ms = moving // 2, d.trip.delay_ms, 0
        end = t + moving + stop_ms
        every = self.city.size.position_every_s * 1000
        ping = t + d.rng.randrange(every)
        while ping < end:
            gone = ping - t
            standing = stop_at <= gone < stop_at + stop_ms
            driven = gone if gone < stop_at else max(stop_at, gone - stop_ms)
            latitude, longitude, heading = way.at(driven * kmh // 3_600)
            self._emit(
                d.dev, ping, "vehicle.located",
                {"plate": d.truck.plate, "latitude": degrees_text(latitude), "longitude": degrees_text(longitude),
                 "speed_kmh": "0.00" if standing else f"{kmh}.00", "heading_degrees": heading, "laden": laden},
            )  # fmt: skip
            ping += every
        d.burn_kg = way.length_m * (38 if laden else 24) // 100_000
        d.fuel_kg = max(-200, d.fuel_kg - d.burn_kg)
        self._moved(d, end, f"{d.place}>{to}")
        d.place = to
        self._at(end, arrive, d)

    def _capture(self, t: int, w: Works, d: Driver, direction: str) -> None:
        camera = w.cameras[0 if direction == "in" else -1]
        plate, confidence = d.trip.seen or d.trip.plate or d.truck.plate, 90 + d.rng.randrange(10)
        if d.trip.kind == "cloned" and d.trip.planted is not None:
            d.trip.planted.end = t
        if self.irregular.any and not d.trip.kind:
            plate, confidence = self._misread(t, camera, d, plate, confidence)
        if plate:
            self._emit(camera, t, "plate.captured", {"plate": plate, "lane": f"{direction}-1", "direction": direction,
                                                     "confidence_percent": confidence})  # fmt: skip

    def _enter(self, t: int, w: Works, d: Driver, handler: Handler, crossing: Handler) -> bool:
        """Through the gate and into the queue of a scale; False: the gate is closed to this truck for now, and it waits.

        A truck that was here less than ``ROUND_MS`` ago waits: its visits must be told apart however they are received (and an
        empty weighing within ten minutes of the last one would be a repetition of it).
        """
        if w.hold or w.closed:
            w.waiting.append((handler, d))
            return False
        if d.left == w.site.id and t < d.left_at + ROUND_MS:
            self._at(d.left_at + ROUND_MS + d.rng.randint(MINUTE_MS, 5 * MINUTE_MS), handler, d)
            return False
        if t < w.flush_at + ROUND_MS and d.truck.plate in w.offline_plates:
            # What an outage held back reaches a listener in one heap, in no order between the scales. Two crossings of a truck
            # can be paired all the same, those of two visits cannot: the second visit waits.
            self._at(w.flush_at + ROUND_MS + d.rng.randint(MINUTE_MS, 5 * MINUTE_MS), handler, d)
            return False
        if self.irregular.any:
            self._at_gate(t, w, d)
        self._capture(t, w, d, "in")
        w.inside += 1
        self._queue_scale(t + d.rng.randint(30_000, 90_000), w, d, crossing)
        return True

    def _queue_scale(self, t: int, w: Works, d: Driver, crossing: Handler) -> None:
        scale = min(w.scales, key=lambda s: s.free_at)
        done = max(t, scale.free_at) + d.rng.randint(45_000, 95_000)
        scale.free_at = done
        self._at(done, crossing, (d, scale))

    def _use_loader(self, t: int, w: Works, d: Driver, minutes: tuple[int, int], done: Handler) -> None:
        n = min(range(len(w.loaders)), key=w.loaders.__getitem__)
        end = max(t + 60_000, w.loaders[n]) + d.rng.randint(minutes[0] * MINUTE_MS, minutes[1] * MINUTE_MS)
        w.loaders[n] = end
        self._at(end, done, d)

    def _weigh(self, t: int, scale: Dev, d: Driver) -> tuple[int, int]:
        """What the scale shows, and when the reading leaves. The scale has an error in proportion and rounds to its step."""
        true = d.empty_kg + (d.load or d.ballast_kg)
        shown = (
            (true * (1_000_000 + scale.bias_ppm) // 1_000_000 + d.rng.randint(-8, 8) + SCALE_STEP_KG // 2)
            // SCALE_STEP_KG
            * SCALE_STEP_KG
        )
        plate = d.trip.plate or d.truck.plate
        data: dict[str, Any] = {"plate": plate, "mass_kg": shown, "axles": d.truck.axles, "zero_kg": 0}
        if self.irregular.any:
            shown = self._tamper(t, scale, d, data)
        if d.truck.trailer_plate is not None:
            data["trailer_plate"] = d.truck.trailer_plate
        if d.load:
            assert d.line is not None
            if d.trip.kind != "unsaid":
                data["commodity"] = d.trip.commodity or d.commodity
            data.update(use=d.line.use, origin=self._division(d.line.start),
                        destination=self._division(d.line.end), waybill=d.waybill)  # fmt: skip
        at = self._emit(scale, t, "weighing.measured", data)
        assert scale.site is not None
        if t < scale.site.flush_at:
            scale.site.offline_plates.add(plate)
        return shown, at

    def _division(self, place: str) -> str:
        w = self.works.get(place)
        return place if w is None else w.site.division

    def _ticket(
        self, w: Works, d: Driver, direction: str, gross: tuple[int, int], tare: tuple[int, int | None], known_at: int
    ) -> None:
        """Two crossings make a ticket; one whose gross is above the limit is expected to raise one overload warning."""
        if gross[0] > d.truck.limit_kg:
            self.ledger.overloads.append(
                Overload(
                    d.truck.plate,
                    w.site.id,
                    direction,
                    gross[1],
                    gross[0],
                    d.truck.limit_kg,
                    d.truck.axles,
                    d.truck.kind,
                    known_at,
                )
            )
        assert d.line is not None
        self.ledger.tickets.append(
            Ticket(
                enterprise=w.site.id, site=w.site.id, division=w.site.division, plate=d.trip.plate or d.truck.plate,
                direction=direction, gross_kg=gross[0], gross_time=gross[1], tare_kg=tare[0], tare_time=tare[1],
                tare_source="register" if tare[1] is None else "measured", axles=d.truck.axles,
                commodity=d.trip.commodity or d.commodity, use=d.line.use, origin=self._division(d.line.start),
                destination=self._division(d.line.end), waybill=d.waybill, known_at=known_at,
            )
        )  # fmt: skip

    # loading: tare, then gross

    def _arrive_to_load(self, t: int, d: Driver) -> None:
        assert d.line is not None
        w = self.works.get(d.line.start)
        if w is None:
            self._at(t + d.rng.randint(25, 50) * MINUTE_MS, self._loaded_outside, d)
        else:
            self._enter(t, w, d, self._arrive_to_load, self._tare_before_loading)

    def _loaded_outside(self, t: int, d: Driver) -> None:
        assert d.line is not None
        d.load = d.target
        self.imported[d.commodity] = self.imported.get(d.commodity, 0) + d.load
        self._leave_laden(t, d)

    def _tare_before_loading(self, t: int, who: tuple[Driver, Dev]) -> None:
        d, scale = who
        assert d.line is not None
        w = self.works[d.line.start]
        d.tare_shown, _ = self._weigh(t, scale, d)
        d.tare_at = t
        self._use_loader(t, w, d, (7, 14), self._load)

    def _load(self, t: int, d: Driver) -> None:
        assert d.line is not None
        w = self.works[d.line.start]
        w.reserved[d.commodity] -= d.target
        # The reservation holds the coal; min() guards the yard against going below nothing all the same.
        d.load = min(d.target, w.stock[d.commodity])
        w.stock[d.commodity] -= d.load
        self._loads += 1
        d.waybill = f"yd{self._loads:07d}"
        if d.line.end in self.works and not d.overload and not d.trip.kind and self._numbered[0] not in ("", w.site.id):
            self._same_number(t, w, d)
        self._queue_scale(t + 60_000, w, d, self._gross_after_loading)

    def _gross_after_loading(self, t: int, who: tuple[Driver, Dev]) -> None:
        d, scale = who
        assert d.line is not None
        w = self.works[d.line.start]
        gross, at = self._weigh(t, scale, d)
        if d.overload:
            self._plant("overload", d.truck.plate, scale, t, t, "one overload warning a ticket, also where it unloads",
                        mass_kg=gross, limit_kg=d.truck.limit_kg, waybill=d.waybill)  # fmt: skip
        d.left, d.left_at = w.site.id, t
        self._ticket(w, d, "out", (gross, t), (d.tare_shown, d.tare_at), at)
        w.inside -= 1
        self._at(t + 90_000, self._leave_laden, d)

    def _leave_laden(self, t: int, d: Driver) -> None:
        assert d.line is not None
        w = self.works.get(d.line.start)
        if w is None:
            self._loads += 1
            d.waybill = f"yd{self._loads:07d}"
        else:
            self._capture(t, w, d, "out")
            if self.irregular.any and not d.overload and not d.trip.kind and d.line.end in self.works:
                self._mishap(t, w, d)
                if not d.trip.kind:
                    self._numbered = (w.site.id, d.waybill, d.truck.plate)
        if d.trip.diverted:
            self._drive(t, d, d.trip.diverted, self._arrive_elsewhere)
            return
        self._drive(t, d, d.line.end, self._arrive_laden)

    # unloading: gross, then tare

    def _arrive_laden(self, t: int, d: Driver) -> None:
        assert d.line is not None
        w = self.works.get(d.line.end)
        if w is None:
            self._at(t + d.rng.randint(20, 45) * MINUTE_MS, self._unloaded_outside, d)
        else:
            self._enter(t, w, d, self._arrive_laden, self._gross_before_unloading)

    def _unloaded_outside(self, t: int, d: Driver) -> None:
        self.exported[d.commodity] = self.exported.get(d.commodity, 0) + d.load
        d.load = 0
        self._dispatch(t, d)

    def _gross_before_unloading(self, t: int, who: tuple[Driver, Dev]) -> None:
        d, scale = who
        assert d.line is not None
        w = self.works[d.line.end]
        gross, at = self._weigh(t, scale, d)
        if not d.repeat and not d.overload and self._repeat.now():
            d.repeat = True
            self._plant(
                "repeated-gross",
                d.truck.plate,
                scale,
                t,
                t,
                "the second reading replaces the first; one ticket",
                first_kg=gross,
            )
            again = t + d.rng.randint(2 * MINUTE_MS, 5 * MINUTE_MS)
            scale.free_at = max(scale.free_at, again)
            self._at(again, self._gross_before_unloading, (d, scale))
            return
        if self.irregular.any and not d.repeat and not d.overload and self._weighed_again(t, w, d, scale, gross, at):
            return
        # The tare fields carry the gross until the truck is weighed empty.
        d.tare_shown, d.tare_at = gross, t
        if self._may_stay_heavy(t, w, d) and self._missing.now():
            self._never_weighed_empty(t, w, d, scale, at)
            return
        # After a repetition the truck is held until the second reading cannot be overtaken by the tare.
        free = max(t, w.flush_at) + ROUND_MS if d.repeat else t
        self._use_loader(free, w, d, (5, 11), self._unload)

    @staticmethod
    def _may_stay_heavy(t: int, w: Works, d: Driver) -> bool:
        """Whether a missing tare has one clear consequence here. Not where coal both comes and goes (at a trader, a lone laden
        crossing does not say which way), not together with another irregularity, and not shortly before a survey, which would
        find the coal before the ticket is made."""
        one_way = w.site.kind in ("washing", "coking", "power", "chemical")
        return one_way and w.next_hold - t > 26 * HOUR_MS and not d.overload and not d.repeat and not d.trip.kind

    def _put_down(self, w: Works, d: Driver) -> None:
        w.inbound[d.commodity] -= d.target
        w.stock[d.commodity] += d.load
        d.load = 0

    def _unload(self, t: int, d: Driver) -> None:
        assert d.line is not None
        w = self.works[d.line.end]
        self._put_down(w, d)
        self._queue_scale(t + 60_000, w, d, self._tare_after_unloading)

    def _tare_after_unloading(self, t: int, who: tuple[Driver, Dev]) -> None:
        d, scale = who
        assert d.line is not None
        w = self.works[d.line.end]
        tare, at = self._weigh(t, scale, d)
        d.left, d.left_at = w.site.id, t
        if d.trip.planted is not None:
            d.trip.planted.end = max(d.trip.planted.end, t)
        self._ticket(w, d, "in", (d.tare_shown, d.tare_at), (tare, t), at)
        w.inside -= 1
        self._at(t + 90_000, self._leave_empty, (d, w))

    def _leave_empty(self, t: int, who: tuple[Driver, Works]) -> None:
        d, w = who
        self._capture(t, w, d, "out")
        self._dispatch(t, d)

    def _never_weighed_empty(self, t: int, w: Works, d: Driver, scale: Dev, at: int) -> None:
        """The truck breaks down while it unloads and is towed away, past the scale; back at work after 26 h or more, so that no
        later crossing at this site falls into the 24 h of this one."""
        due = t + Ledger.TIME_OUT_MS
        self.ledger.time_outs.append(TimeOut(d.truck.plate, w.site.id, t, due, d.tare_shown, d.truck.tare_usable, at))
        if d.truck.tare_usable:
            self._ticket(w, d, "in", (d.tare_shown, t), (d.truck.tare_kg, None), due)
        self._plant("missing-tare", d.truck.plate, scale, t, due,
                    "ticket with the registered tare" if d.truck.tare_usable else "warning tare-missing",
                    mass_kg=d.tare_shown)  # fmt: skip
        self._put_down(w, d)
        w.inside -= 1
        self._at(t + d.rng.randint(26 * HOUR_MS, 30 * HOUR_MS), self._dispatch, d)

    # ---- irregularities by the day

    def _new_day(self, t: int, _: Any) -> None:
        """Draw the day's irregularities; a first, shorter day gets its share."""
        midnight = day_start(t) + DAY_MS
        share = (midnight - t) / DAY_MS
        for per_day, handler in (
            (self.rates.conflicts_per_day, self._conflict),
            (self.rates.malformed_per_day, self._malformed),
            (self.rates.outages_per_day, self._outage),
            (self.rates.silences_per_day, self._fall_silent),
            (self.rates.power_cuts_per_day, self._power_cut),
            (self.rates.future_clocks_per_day, self._clock_ahead),
        ):
            mean = per_day * share
            count = int(mean) + (self._odd.random() < mean - int(mean))
            for at in sorted(self._odd.randrange(t + 20 * MINUTE_MS, max(t + 21 * MINUTE_MS, midnight)) for _ in range(count)):
                self._at(at, handler, None)
        self._at(midnight, self._new_day, None)

    def _a_site(self) -> Works:
        return self._odd.choice(list(self.works.values()))

    def _conflict(self, t: int, _: Any) -> None:
        """A device sends other content under an id that it used before."""
        w = self._a_site()
        dev = self._odd.choice(w.scales)
        if dev.last is None:
            return
        type_, id_, time, data, at = dev.last
        other = dict(data)
        if type_ == "weighing.measured":
            other["mass_kg"] += 500
        else:
            other["uptime_s"] += 1
        self._odd_event(dev, max(t, at, w.flush_at) + 5_000, type_, event(envelope(dev.device.source, type_), id_, time, other))
        self._plant("conflict", dev.device.id, dev, t, t, "refused: the same id with other content", id=id_)

    def _malformed(self, t: int, _: Any) -> None:
        """A garbled event under the device's next id, which is then missing."""
        w = self._a_site()
        dev = self._odd.choice(w.scales)
        dev.seq += 1
        good = {
            "plate": self._odd.choice(self.city.trucks).plate,
            "mass_kg": self._odd.randrange(15_000, 49_000, SCALE_STEP_KG),
        }
        head = envelope(dev.device.source, "weighing.measured")
        fault = self._odd.choice(
            ("mass-text", "mass-negative", "plate-empty", "unknown-type", "no-type", "bad-time", "unknown-field", "no-event")
        )
        if fault == "mass-text":
            body = event(head, str(dev.seq), t, {**good, "mass_kg": f"{good['mass_kg']} kg"})
        elif fault == "mass-negative":
            body = event(head, str(dev.seq), t, {**good, "mass_kg": -20})
        elif fault == "plate-empty":
            body = event(head, str(dev.seq), t, {**good, "plate": ""})
        elif fault == "unknown-field":
            body = event(head, str(dev.seq), t, {**good, "colour": "blue"})
        elif fault == "unknown-type":
            body = event(envelope(dev.device.source, "weighing.guessed"), str(dev.seq), t, good)
        elif fault == "no-type":
            body = event(head, str(dev.seq), t, good).replace(b'"type":"weighing.measured",', b"")
        elif fault == "bad-time":
            body = event(head, str(dev.seq), t, good).replace(b'"time":"', b'"time":"yesterday, about ')
        else:
            body = b'"E07 OVERFLOW"'
        self._odd_event(dev, max(t + 1_000, w.flush_at), "weighing.measured", body)
        self._plant("malformed", dev.device.id, dev, t, t, "refused, kept in quarantine", fault=fault, id=dev.seq)

    def _odd_event(self, dev: Dev, at: int, type_: str, body: bytes) -> None:
        self._order += 1
        self._out.append(Sent(at, self._order, dev.device.id, dev.lane, type_, "refused", body if self.encode else b""))

    def _outage(self, t: int, _: Any) -> None:
        """A site's networks fail for about an hour: its devices buffer, and send everything when they are back."""
        quiet = [w for w in self.works.values() if w.flush_at < t and all(s.silent_until < t for s in w.scales)]
        if not quiet:
            return
        w = self._odd.choice(quiet)
        back = t + self._odd.randint(35 * MINUTE_MS, 80 * MINUTE_MS)
        w.flush_at = back + FLUSH_MS
        w.offline_plates.clear()
        at = self._report(w.scales[0], t, "network", "lost")
        supply = Supply(w.scales[0].device.id, w.scales[0].device.source, w.site.id, "network", "lost", t, at)
        self.ledger.supplies.append(supply)
        self._at(back, self._network_back, (w, supply))
        self._plant(
            "late-delivery", w.site.id, w.scales[0], t, back, "all is counted where it happened, under the original ids"
        )

    def _network_back(self, t: int, what: tuple[Works, Supply]) -> None:
        w, supply = what
        supply.until, supply.until_known = t, self._report(w.scales[0], t, "network", "ok")

    def _fall_silent(self, t: int, _: Any) -> None:
        """A road scale is dead for a while: no heartbeat, no weighing; trucks wait or take the other one."""
        awake = [s for w in self.works.values() if w.flush_at < t for s in w.scales if s.silent_until < t]
        if not awake:
            return
        scale = self._odd.choice(awake)
        assert scale.device.silence_after_s is not None
        scale.silent_from = max(t, scale.free_at)
        scale.silent_until = scale.silent_from + scale.device.silence_after_s * self._odd.randint(1_500, 4_000)
        scale.free_at = scale.silent_until
        self._plant(
            "silence", scale.device.id, scale, scale.silent_from, scale.silent_until, "silence warning, cleared when it reports"
        )

    def _power_cut(self, t: int, _: Any) -> None:
        """Main power fails; the second supply carries on (双电)."""
        awake = [
            w for w in self.works.values() if w.flush_at < t and w.scales[0].silent_until < t and w.scales[0].on_backup is None
        ]
        if not awake:
            return
        w = self._odd.choice(awake)
        back = t + self._odd.randint(5 * MINUTE_MS, 40 * MINUTE_MS)
        dev = w.scales[0]
        at = self._report(dev, t, "power", "backup")
        dev.on_backup = Supply(dev.device.id, dev.device.source, w.site.id, "power", "backup", t, at)
        self.ledger.supplies.append(dev.on_backup)
        self._at(back, self._power_back, dev)
        self._plant(
            "power-cut", w.scales[0].device.id, w.scales[0], t, back, "the device reports its second supply, then the first"
        )

    def _power_back(self, t: int, dev: Dev) -> None:
        if dev.silent_from <= t < dev.silent_until:
            self._at(dev.silent_until + 1_000, self._power_back, dev)
            return
        assert dev.on_backup is not None
        dev.on_backup.until, dev.on_backup.until_known = t, self._report(dev, t, "power", "ok")
        dev.on_backup = None

    def _clock_ahead(self, t: int, _: Any) -> None:
        """A gate camera's clock runs hours ahead (less than 24 h) until somebody sets it."""
        w = self._a_site()
        camera = self._odd.choice(w.cameras)
        if camera.offset_ms:
            return
        camera.offset_ms = self._odd.randint(HOUR_MS, 20 * HOUR_MS)
        end = t + self._odd.randint(2 * HOUR_MS, 5 * HOUR_MS)
        self._at(end, self._clock_set, camera)
        self._plant(
            "future-clock",
            camera.device.id,
            camera,
            t,
            end,
            "moves nothing but the camera's own readings",
            ahead_ms=camera.offset_ms,
        )

    def _clock_set(self, _: int, camera: Dev) -> None:
        camera.offset_ms = 0

    # ---- truth

    def truth(self) -> Truth:
        """Where all coal is. For every commodity: opening + mined + produced + imported = consumed + exported + yards + trucks.
        Over all commodities: consumed = produced + lost (what was burnt or went off as gas)."""
        yards: dict[str, int] = {}
        for w in self.works.values():
            for commodity, kg in w.stock.items():
                yards[commodity] = yards.get(commodity, 0) + kg
        on_trucks: dict[str, int] = {}
        for d in self.drivers:
            if d.load:
                on_trucks[d.commodity] = on_trucks.get(d.commodity, 0) + d.load
        return Truth(
            self.opening, self.mined, self.imported, self.produced, self.consumed, self.exported, self.lost, yards, on_trucks
        )


def _decimal(amount: int, decimals: int) -> str:
    sign, amount = ("-", -amount) if amount < 0 else ("", amount)
    whole, part = divmod(amount, 10**decimals)
    return f"{sign}{whole}.{part:0{decimals}d}"
