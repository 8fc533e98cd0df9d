"""Fraud, faults and their honest doubles, done to the city while it runs (``simulator.irregular`` says what and how often).

``Fraud`` is the part of ``simulator.world.World`` that nothing ordinary needs: with a profile that plants nothing none of it is
called, and no random number is drawn for it.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

from simulator.almanac import DAY_MS, HOLIDAY_PERCENT, HOUR_MS, MINUTE_MS, day_start, is_holiday
from simulator.city import SCALE_STEP_KG, City, calibrated, vehicle
from simulator.irregular import CONFUSED, MARKETS, Planted, as_text
from simulator.ledger import Ledger, Supply, TimeOut
from simulator.parts import Dev, Driver, Every, Handler, Works
from simulator.plates import PlateMaker
from simulator.roads import degrees_text

__all__ = ["Fraud"]


class Fraud(ABC):
    """Handlers of what is irregular. The abstract ones are the city's own, see ``simulator.world``."""

    ledger: Ledger
    start_ms: int
    works: dict[str, Works]
    drivers: list[Driver]
    exported: dict[str, int]
    consumed: dict[str, int]
    lost: int
    _prices: dict[str, int]
    _market: Dev

    def __init__(self, city: City) -> None:
        self.city = city
        self.irregular = city.irregularities
        self._fraud = city.rng("irregular")
        self._often = {
            name: Every(every, city.rng("irregular", name))
            for name in self.irregular.__dataclass_fields__
            if isinstance(every := getattr(self.irregular, name), int) and every and "_every_" in name
        }
        self._phantoms = PlateMaker(city.rng("irregular", "plates"), {t.plate for t in city.trucks})
        # Of its own: whether scales jam or not, everything else is drawn as it was.
        self._jams = city.rng("irregular", "jams")
        self._boost: dict[str, int] = {}
        self._boosted = ""
        self._numbered = ("", "", "")
        self.registrations: list[tuple[int, str, dict[str, Any]]] = []
        """(since, event type, data) of what people register while the city runs; whoever measures hands it on."""

    @abstractmethod
    def _at(self, t: int, handler: Handler, subject: Any) -> None: ...

    @abstractmethod
    def _emit(self, dev: Dev, t: int, type_: str, data: dict[str, Any]) -> int: ...

    @abstractmethod
    def _report(self, dev: Dev, t: int, kind: str, state: str) -> int: ...

    @abstractmethod
    def _ticket(
        self, w: Works, d: Driver, direction: str, gross: tuple[int, int], tare: tuple[int, int | None], known_at: int
    ) -> None: ...

    @abstractmethod
    def _queue_scale(self, t: int, w: Works, d: Driver, crossing: Handler) -> None: ...

    @abstractmethod
    def _gross_before_unloading(self, t: int, who: tuple[Driver, Dev]) -> None: ...

    @abstractmethod
    def _unloaded_outside(self, t: int, d: Driver) -> None: ...

    @abstractmethod
    def _let_in(self, t: int, w: Works) -> None: ...

    @abstractmethod
    def _power_back(self, t: int, dev: Dev) -> None: ...

    def _fraudulent(
        self,
        kind: str,
        code: str,
        subject: str,
        site: str,
        start: int,
        end: int,
        *aliases: str,
        near: bool = False,
        **facts: object,
    ) -> Planted:
        """Write down an irregularity that calls for ``code`` (``near``: an honest double that must not call for it)."""
        finding = f"no {code} warning" if near else f"{code} warning"
        planted = Planted(
            kind, subject, site, start, end, finding, as_text(facts), "" if near else code, code if near else "", aliases
        )
        self.ledger.planted.append(planted)
        return planted

    def _now(self, name: str) -> bool:
        every = self._often.get(name)
        return every is not None and every.now()

    def _before_trip(self, t: int, d: Driver) -> None:
        if d.body_kg:
            self._mount_body(t, d)
        if d.ballast is not None:
            if t >= d.ballast.end:
                d.ballast, d.ballast_kg = None, 0
        elif d.tares >= 12 and self._now("ballast_every_trips"):
            d.ballast_kg = self._fraud.randrange(300, 1_600, SCALE_STEP_KG)
            end = t + self._fraud.randint(20, 44) * HOUR_MS
            d.ballast = Planted("ballast", d.truck.plate, "", 0, end, "tare-drift warning", as_text({"kg": d.ballast_kg}),
                                code="tare-drift")  # fmt: skip

    def _at_gate(self, t: int, w: Works, d: Driver) -> None:
        if all(s.silent_from <= t < s.silent_until for s in w.scales) and t >= w.dark_until:
            w.dark_count += 1
            if w.dark_count == 3:
                since, until = max(s.silent_from for s in w.scales), min(s.silent_until for s in w.scales)
                w.dark_until, w.dark_count = until, 0
                self._fraudulent("dead-scales", "supply-cut", w.site.id, w.site.id, since, until)
        else:
            w.dark_count = 0
        if t < w.jammed_until:
            end = w.jammed_until + HOUR_MS
            self._fraudulent("queued", "plate-mismatch", d.truck.plate, w.site.id, t, end, near=True)
        if not d.trip.kind and not d.overload and self._now("cloned_every_visits"):
            d.trip.kind, d.trip.seen = "cloned", self._phantoms.ordinary()
            d.trip.planted = self._fraudulent(
                "cloned", "plate-mismatch", d.truck.plate, w.site.id, t, t, d.trip.seen, seen=d.trip.seen
            )

    def _misread(self, t: int, camera: Dev, d: Driver, plate: str, confidence: int) -> tuple[str, int]:
        """What a camera makes of an honest plate; empty: it saw nothing."""
        assert camera.site is not None
        site = camera.site.site.id
        if self._now("blind_every_captures"):
            self._fraudulent("blind", "plate-mismatch", d.truck.plate, site, t, t, near=True)
            return "", 0
        places = [n for n, character in enumerate(plate) if n >= 2 and character in CONFUSED]
        if places and self._now("slip_every_captures"):
            n = self._fraud.choice(places)
            read = plate[:n] + CONFUSED[plate[n]] + plate[n + 1 :]
            self._fraudulent("slip", "plate-mismatch", d.truck.plate, site, t, t, read, near=True, read=read)
            return read, self._fraud.randint(42, 68)
        return plate, confidence

    def _tamper(self, t: int, scale: Dev, d: Driver, data: dict[str, Any]) -> int:
        """What the indicator shows in the end, with the curve that led there. Changes ``data``."""
        assert scale.site is not None
        assert d.line is not None
        plate, shown, step, climb = data["plate"], data["mass_kg"] + scale.zero_kg, 0, 0
        data["zero_kg"] = scale.zero_kg
        if scale.spell is not None:
            if not scale.spell.start:
                scale.spell.start = t  # before somebody is weighed nobody can know of it
                self.ledger.planted.append(scale.spell)
            scale.spell.aliases += (plate,)
        if d.load == 0:
            d.tares += 1
            if d.ballast is not None and not d.ballast.start:
                d.ballast.start = t
                self.ledger.planted.append(d.ballast)
        honest = not d.trip.kind and not d.overload and not d.repeat
        half_outside = d.line.start not in self.works or d.line.end not in self.works
        if d.load and honest and half_outside and self._now("chip_every_weighings"):
            d.trip.kind, step = "chip", -self._fraud.randrange(260, 2_400, SCALE_STEP_KG)
            self._fraudulent("chip", "weight-curve-step", plate, scale.site.site.id, t, t, scale.device.source, kg=step)
        elif self._now("step_off_every_weighings"):
            climb = self._fraud.randint(70, 190)
            self._fraudulent("step-off", "weight-curve-step", plate, scale.site.site.id, t, t, scale.device.source, near=True,
                             kg=climb)  # fmt: skip
        shown += step
        data["mass_kg"] = shown
        if self.irregular.curves:
            data["curve_kg"], data["curve_interval_ms"] = self._curve(shown, step, climb, d.truck.axles), 500
        return int(shown)

    def _curve(self, shown: int, step: int, climb: int, axles: int) -> list[int]:
        """Half-second samples: axle by axle onto the scale, the springs settle, then the truck stands for ten seconds. ``step``
        is added from the sixth second of standing on; the driver's ``climb`` kilograms leave in the third."""
        noise = self._fraud.randint
        before = shown - step
        curve = [before * n // axles // 10 * 10 for n in range(1, axles) for _ in range(2)]
        curve += [before + before * swing // 1_000 for swing in (-30, 22, -14, 8, -4, 2)]
        for n in range(20):
            standing = (shown if n >= 12 else before) + (climb if n < 6 else 0)
            curve.append(standing + noise(-10, 10))
        return [max(0, kg) for kg in curve]

    def _mishap(self, t: int, w: Works, d: Driver) -> None:
        """What becomes of a load between two works of the city."""
        assert d.line is not None
        trip, end, plate, fraud = d.trip, self.works[d.line.end], d.truck.plate, self._fraud
        names = (d.waybill,)
        if self._now("theft_every_trips"):
            trip.kind, taken = "theft", fraud.randint(200, 4_000)
            d.load -= taken
            self.exported[d.commodity] = self.exported.get(d.commodity, 0) + taken
            trip.planted = self._fraudulent("theft", "shipment-quantity", plate, w.site.id, t, t, *names, kg=taken)
        elif self._now("relabel_every_trips") and (others := [c for c in end.site.yard if c != d.commodity]):
            trip.kind, trip.commodity = "relabelled", fraud.choice(others)
            trip.planted = self._fraudulent(
                "relabelled", "shipment-commodity", plate, w.site.id, t, t, *names, shown=trip.commodity
            )
        elif self._now("reload_every_trips"):
            trip.kind, trip.plate = "reloaded", self._phantoms.ordinary()
            trip.planted = self._fraudulent("reloaded", "shipment-plate", plate, w.site.id, t, t, *names, trip.plate)
        elif self._now("parked_every_trips"):
            trip.kind, trip.delay_ms = "parked", fraud.randint(7, 18) * HOUR_MS
            trip.planted = self._fraudulent("parked", "shipment-late", plate, w.site.id, t, t, *names)
        elif self._now("diverted_every_trips"):
            trip.kind, trip.diverted = "diverted", "640205"
            end.inbound[d.commodity] -= d.target
            self._fraudulent("diverted", "shipment-missing", plate, w.site.id, t, t + 2 * DAY_MS, *names)
        elif self._now("unsaid_every_trips"):
            # A ticket without a word of what it is counts as raw coal.
            trip.kind, trip.commodity = "unsaid", "raw"
            trip.planted = self._fraudulent("unsaid", "shipment-commodity", plate, w.site.id, t, t, *names, near=True)
        elif self._now("detour_every_trips"):
            trip.kind, trip.delay_ms = "detour", fraud.randint(35, 180) * MINUTE_MS
            trip.planted = self._fraudulent("detour", "shipment-late", plate, w.site.id, t, t, *names, near=True)
        elif self._now("moisture_every_trips"):
            trip.kind, dried = "moisture", d.load * fraud.randint(10, 50) // 10_000
            d.load -= dried
            self.consumed[d.commodity] = self.consumed.get(d.commodity, 0) + dried
            self.lost += dried
            trip.planted = self._fraudulent(
                "moisture", "shipment-quantity", plate, w.site.id, t, t, *names, near=True, kg=dried
            )

    def _same_number(self, t: int, w: Works, d: Driver) -> None:
        """Another enterprise's last load went out under the number that is the next one here."""
        if self._now("same_number_every_trips"):
            _, d.waybill, other = self._numbered
            d.trip.kind, self._numbered = "same-number", ("", "", "")
            d.trip.planted = self._fraudulent("same-number", "shipment-plate", d.truck.plate, w.site.id, t, t, d.waybill, other,
                                              near=True)  # fmt: skip

    def _arrive_elsewhere(self, t: int, d: Driver) -> None:
        self._at(t + d.rng.randint(20, 45) * MINUTE_MS, self._unloaded_outside, d)

    def _weighed_again(self, t: int, w: Works, d: Driver, scale: Dev, gross: int, at: int) -> bool:
        """Irregularities of an unloading; True: the truck is not unloaded now but weighed a second time."""
        trip, plate, site = d.trip, d.truck.plate, w.site.id
        if trip.kind:
            return False
        if w.site.kind in ("power", "chemical") and w.next_hold - t > 26 * HOUR_MS and self._now("reweigh_every_unloads"):
            # These works only receive: no other crossing of the truck can be taken for the tare of the first slip.
            trip.kind, due = "reweighed", t + Ledger.TIME_OUT_MS
            again = t + self._fraud.randint(14, 22) * MINUTE_MS
            trip.planted = self._fraudulent("reweighed", "repeated-weighing", plate, site, t, again, scale.device.source)
            self.ledger.time_outs.append(TimeOut(plate, site, t, due, gross, d.truck.tare_usable, at))
            if d.truck.tare_usable:
                self._ticket(w, d, "in", (gross, t), (d.truck.tare_kg, None), due)
            self._at(again, self._back_on_scale, (d, w))
            return True
        if self._now("reset_every_unloads"):
            d.repeat, trip.kind = True, "reset"
            again = t + self._fraud.randint(2 * MINUTE_MS, 5 * MINUTE_MS)
            scale.free_at = max(scale.free_at, again)
            self._at(t + 30_000, self._restart, scale)
            self._at(again, self._gross_before_unloading, (d, scale))
            self._fraudulent("reset", "repeated-weighing", plate, site, t, again, scale.device.source, near=True)
            return True
        if self._now("elsewhere_every_unloads"):
            trip.kind = "elsewhere"
            far = max(self.city.roads.nodes.values(), key=lambda n: abs(n.latitude_e7 - w.site.latitude_e7))
            self._fraudulent("elsewhere", "position-contradiction", plate, site, t, t + 6 * MINUTE_MS, d.dev.device.source)
            for minute in (0, 3, 6):
                self._at(t + minute * MINUTE_MS, self._fix, (d, far.latitude_e7, far.longitude_e7, "wgs84"))
        elif self._now("datum_every_unloads"):
            trip.kind = "datum"
            self._fraudulent("datum", "position-contradiction", plate, site, t, t, d.dev.device.source, near=True)
            self._fix(t, (d, w.site.latitude_e7 + 12_000, w.site.longitude_e7 + 58_000, "gcj02"))
        return False

    def _back_on_scale(self, t: int, who: tuple[Driver, Works]) -> None:
        self._queue_scale(t, who[1], who[0], self._gross_before_unloading)

    def _restart(self, t: int, scale: Dev) -> None:
        scale.started = t
        self._report(scale, t, "heartbeat", "ok")

    def _fix(self, t: int, what: tuple[Driver, int, int, str]) -> None:
        d, latitude, longitude, datum = what
        self._emit(
            d.dev, t, "vehicle.located",
            {"plate": d.truck.plate, "latitude": degrees_text(latitude), "longitude": degrees_text(longitude), "datum": datum,
             "speed_kmh": "0.00", "heading_degrees": 0, "laden": d.load > 0},
        )  # fmt: skip

    def _quote_markets(self, t: int) -> None:
        """Every market quotes every commodity: the common price of the day, and what it usually is above or below."""
        fraud, i = self._fraud, self.irregular
        move = 1_000
        if fraud.random() < i.market_move_per_day:
            move = fraud.choice((850, 1_150))
            self._fraudulent("market-move", "price-abnormal", "", "", t, t, *MARKETS, *self._prices, near=True, per_mille=move)
        off = {(fraud.choice(MARKETS), fraud.choice(list(self._prices))) for _ in range(self._count(i.off_price_per_day))}
        for commodity in self._prices:
            self._prices[commodity] = self._prices[commodity] * fraud.randint(988, 1_012) * move // 1_000_000
            for n, market in enumerate(MARKETS):
                price = self._prices[commodity] * (985 + 5 * n) * fraud.randint(995, 1_005) // 1_000_000
                if (market, commodity) in off:
                    price = price * fraud.choice((fraud.randint(670, 780), fraud.randint(1_220, 1_330))) // 1_000
                    self._fraudulent("off-price", "price-abnormal", market, "", t, t, commodity, fen=price)
                data = {"commodity": commodity, "market": market, "price_fen_per_t": price}
                self._emit(self._market, t, "price.quoted", data)

    def _count(self, mean: float) -> int:
        return int(mean) + (self._fraud.random() < mean - int(mean))

    def _odd_day(self, t: int, _: Any) -> None:
        """Draw what is irregular on a day that begins; some of it by the whole day, the rest at some instant of it."""
        self._end_rush(t)
        i = self.irregular
        for mean, handler in (
            (i.body_per_day, self._new_body),
            (i.unzeroed_per_day, self._unzero),
            (i.snow_per_day, self._snow),
            (i.unplugged_per_day, self._unplug),
            (i.closed_per_day, self._close_works),
            (i.surge_per_day, self._surge),
        ):
            for _n in range(self._count(mean)):
                self._at(t + self._fraud.randrange(20 * HOUR_MS) // HOUR_MS * HOUR_MS, handler, None)
        for _n in range(int(i.jammed_per_day + self._jams.random())):
            self._at(t + self._jams.randrange(22 * HOUR_MS), self._jam, None)
        if self._count(i.stop_per_day) and (awake := [w for w in self._awake(t) if w.site.process is not None]):
            self._at(t + 20 * HOUR_MS, self._announce_stop, self._fraud.choice(awake))
        mines = [w for w in self.works.values() if w.site.kind == "mine"]
        if t >= self.start_ms + 3 * DAY_MS and mines and self._count(i.rush_per_day):
            w = self._fraud.choice(mines)
            self._boost[w.site.id] = 4
            self._boosted = w.site.id
            self._noticed("busy", w, t, t + DAY_MS)
        for w in self.works.values():
            if is_holiday(t) and w.site.kind in HOLIDAY_PERCENT:
                self._fraudulent("holiday", "series-anomaly", w.site.id, w.site.id, t, t + DAY_MS, *self._meters(w), near=True)
        self._at(t + DAY_MS, self._odd_day, None)

    def _end_rush(self, t: int) -> None:
        """What the day that is over sold, by the ledger, against the median of the days before it (28 at most)."""
        sold: dict[str, list[int]] = {w.site.id: [0] * 29 for w in self.works.values() if w.site.process is not None}
        for ticket in self.ledger.tickets:
            age = (t - 1 - ticket.gross_time) // DAY_MS
            if ticket.direction == "out" and ticket.site in sold and 0 <= age < 29:
                sold[ticket.site][age] += ticket.net_kg
        rush = self._boosted
        for site, days in sold.items():
            before = sorted(kg for kg in days[1:] if kg)
            if len(before) < 3 or not days[0]:
                continue
            usual = before[len(before) // 2]
            if site == rush and days[0] >= 2 * usual:
                self._fraudulent("rush", "sales-abnormal", site, site, t - DAY_MS, t, sold_kg=days[0], usual_kg=usual)
            elif days[0] * 2 <= usual and (rush or is_holiday(t - 1)):
                quiet = is_holiday(t - 1)
                self._fraudulent("holiday" if quiet else "drained", "sales-abnormal", site, site, t - DAY_MS, t, near=quiet,
                                 sold_kg=days[0], usual_kg=usual)  # fmt: skip
        self._boost.clear()
        self._boosted = ""

    def _new_body(self, _: int, __: Any) -> None:
        """Some truck gets another body before its next trip."""
        d = self._fraud.choice(self.drivers)
        if d.ballast is None:
            d.body_kg = self._fraud.randrange(600, 1_200, SCALE_STEP_KG)

    def _mount_body(self, t: int, d: Driver) -> None:
        d.truck, more, d.body_kg = replace(d.truck, tare_kg=d.truck.tare_kg + d.body_kg), d.body_kg, 0
        since = t // HOUR_MS * HOUR_MS
        self.registrations.append((since, *vehicle(d.truck, since)))
        self._fraudulent("new-body", "tare-drift", d.truck.plate, "", since, t + 4 * DAY_MS, near=True, kg=more)

    def _calibrate(self, t: int, _: Any) -> None:
        """Every scale has a certificate; of some it runs out within the first weeks."""
        scales = [s for w in self.works.values() for s in w.scales]
        odd = self._fraud.sample(scales, min(len(scales), self.irregular.lapsed_scales + self.irregular.renewed_scales))
        for n, scale in enumerate(odd):
            runs_out = t + self._fraud.randint(40, 560) * HOUR_MS
            lapsed = n < self.irregular.lapsed_scales
            renewed = runs_out + (self._fraud.randint(24, 48) if lapsed else -24) * HOUR_MS
            self.registrations.append((t, *calibrated(scale.device, t, runs_out)))
            self._at(renewed, self._renew, scale)
            self._fraudulent("lapsed" if lapsed else "renewed", "scale-not-calibrated", scale.device.source,
                             scale.device.site, runs_out, max(renewed, runs_out), scale.device.id, near=not lapsed)  # fmt: skip
        for scale in scales:
            if scale not in odd:
                self.registrations.append((t, *calibrated(scale.device, t, t + 300 * DAY_MS)))

    def _renew(self, t: int, scale: Dev) -> None:
        self.registrations.append((t, *calibrated(scale.device, t, t + 365 * DAY_MS)))

    def _unzero(self, t: int, _: Any) -> None:
        self._off_zero(t, self._fraud.choice((-1, 1)) * self._fraud.randrange(40, 300, SCALE_STEP_KG), near=False)

    def _snow(self, t: int, _: Any) -> None:
        self._off_zero(t, self._fraud.choice((20, 40)), near=True)

    def _off_zero(self, t: int, kg: int, *, near: bool) -> None:
        scale = self._fraud.choice([s for w in self.works.values() for s in w.scales])
        if scale.zero_kg:
            return
        scale.zero_kg, end = kg, t + self._fraud.randint(2, 8) * HOUR_MS
        code, kind = "idle-not-zero", "snow" if near else "unzeroed"
        scale.spell = Planted(kind, scale.device.source, scale.device.site, 0, end, f"{'no ' * near}{code} warning",
                              as_text({"kg": kg}), "" if near else code, code if near else "", (scale.device.id,))  # fmt: skip
        self._at(end, self._zeroed, scale)

    def _zeroed(self, _: int, scale: Dev) -> None:
        scale.zero_kg, scale.spell = 0, None

    def _awake(self, t: int) -> list[Works]:
        """Works whose networks, scales and supplies are all as they should be."""
        return [
            w for w in self.works.values()
            if w.flush_at < t and not w.hold and not w.closed and w.scales[0].on_backup is None
            and all(s.silent_until < t for s in w.scales)
        ]  # fmt: skip

    def _all_dead(self, t: int, w: Works, until: int) -> int:
        """Every scale of a works is dead from when it is free until then. Returns since when all are."""
        for scale in w.scales:
            scale.silent_from = max(t, scale.free_at)
            scale.silent_until = scale.free_at = max(until, scale.silent_from)
        return max(s.silent_from for s in w.scales)

    def _unplug(self, t: int, _: Any) -> None:
        """The scales go off; while trucks queue for them, others drive in and out past them with coal that no ticket shows."""
        awake = self._awake(t)
        if not awake:
            return
        w = self._fraud.choice(awake)
        until = t + self._fraud.randint(120, 240) * MINUTE_MS
        since = self._all_dead(t, w, until)
        w.dark_until = until
        dev = w.scales[0]
        if self._fraud.random() < 0.5:
            at = self._report(dev, since, "power", "lost")
            dev.on_backup = Supply(dev.device.id, dev.device.source, w.site.id, "power", "lost", since, at)
            self.ledger.supplies.append(dev.on_backup)
            self._at(until + 1_000, self._power_back, dev)
        for _n in range(self._fraud.randint(6, 14)):
            self._at(since + self._fraud.randint(8 * MINUTE_MS, until - since - 40 * MINUTE_MS), self._smuggle, w)
        self._fraudulent("unplugged", "supply-cut", w.site.id, w.site.id, since, until, *(s.device.source for s in w.scales))

    def _jam(self, t: int, _: Any) -> None:
        """Nobody is weighed for a while, though the scales are alive: a load cell, a lorry that lost its coal on the way up."""
        if awake := self._awake(t):
            w = self._jams.choice(awake)
            w.jammed_until = t + self._jams.randint(30, 120) * MINUTE_MS
            for scale in w.scales:
                scale.free_at = max(scale.free_at, w.jammed_until)

    def _smuggle(self, t: int, w: Works) -> None:
        plate = self._phantoms.ordinary()
        self._seen_at_gate(t, w, plate, "in")
        self._at(t + self._fraud.randint(12, 30) * MINUTE_MS, self._smuggled, (w, plate))

    def _smuggled(self, t: int, what: tuple[Works, str]) -> None:
        w, plate = what
        self._seen_at_gate(t, w, plate, "out")
        commodity = max(w.stock, key=lambda c: w.stock[c] - w.reserved[c])
        taken = max(0, min(30_000, w.stock[commodity] - w.reserved[commodity]))
        w.stock[commodity] -= taken
        self.exported[commodity] = self.exported.get(commodity, 0) + taken

    def _seen_at_gate(self, t: int, w: Works, plate: str, direction: str) -> None:
        camera = w.cameras[0 if direction == "in" else -1]
        data = {"plate": plate, "lane": f"{direction}-1", "direction": direction, "confidence_percent": 95}
        self._emit(camera, t, "plate.captured", data)

    def _close_works(self, t: int, _: Any) -> None:
        """The gate is closed; when the last truck has left, everything is switched off for some hours."""
        if awake := self._awake(t):
            w = self._fraud.choice(awake)
            w.closed = True
            self._at(t + MINUTE_MS, self._switch_off, (w, t + 3 * HOUR_MS))

    def _switch_off(self, t: int, what: tuple[Works, int]) -> None:
        w, latest = what
        if t > latest or w.hold:
            self._reopen(t, w)
        elif w.inside:
            self._at(t + MINUTE_MS, self._switch_off, what)
        else:
            until = t + self._fraud.randint(120, 200) * MINUTE_MS
            self._all_dead(t + 3 * MINUTE_MS, w, until)
            self._fraudulent("closed", "supply-cut", w.site.id, w.site.id, t, until,
                             *(s.device.source for s in w.scales), near=True)  # fmt: skip
            self._at(until + 2 * MINUTE_MS, self._reopen, w)

    def _reopen(self, t: int, w: Works) -> None:
        w.closed = False
        if not w.hold:
            self._let_in(t, w)

    def _announce_stop(self, t: int, w: Works) -> None:
        """In the evening nobody sets out for it any more; from before midnight on, for a whole day, it stands still."""
        w.stopping = True
        self._at(t + 3 * HOUR_MS, self._stop_works, w)

    def _stop_works(self, t: int, w: Works) -> None:
        w.closed = w.stopped = True
        end = day_start(t) + 2 * DAY_MS + 20 * MINUTE_MS
        self._fraudulent("stop", "sales-abnormal", w.site.id, w.site.id, t, end, *self._meters(w), near=True)
        self._at(end, self._start_works, w)

    def _start_works(self, t: int, w: Works) -> None:
        w.stopping = w.stopped = False
        self._reopen(t, w)

    def _idle(self, t: int, w: Works, kg: int) -> None:
        """Write down that a works ran low for an hour or more for want of coal or of room: its meters show it."""
        if 10 * kg > 8 * w.asked or w.stopped:
            if w.idle_since and t - w.idle_since >= HOUR_MS:
                self._noticed("starved", w, w.idle_since, t)
            w.idle_since = 0
        elif not w.idle_since:
            w.idle_since = t

    def _noticed(self, kind: str, w: Works, start: int, end: int) -> None:
        """Write down what nothing is due for, but what the meters of a works show."""
        self.ledger.planted.append(
            Planted(kind, w.site.id, w.site.id, start, end, "nothing is due; its meters show it", aliases=self._meters(w))
        )

    @staticmethod
    def _meters(w: Works) -> tuple[str, ...]:
        return (*(g.meter.device.id for g in w.gauges), *(g.meter.device.source for g in w.gauges))

    def _surge(self, t: int, _: Any) -> None:
        gauges = [g for w in self.works.values() for g in w.gauges if not g.meter.quirk and g.surge_until < t]
        gauge = self._fraud.choice(gauges)
        gauge.surge, gauge.surge_until = self._fraud.randint(3, 6), t + self._fraud.randint(3, 7) * HOUR_MS
        self._fraudulent("surge", "series-anomaly", gauge.meter.device.id, gauge.meter.device.site, t, gauge.surge_until,
                         gauge.meter.device.source, times=gauge.surge)  # fmt: skip
