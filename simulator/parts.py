"""What moves in the city: devices, meters, belts, works, trucks and their trips, with what each remembers.

Plain state; ``simulator.world`` and ``simulator.fraud`` change it.
"""

import random
from collections.abc import Callable
from typing import Any

from simulator.city import Belt, Device, Line, Meter, Site, Truck
from simulator.irregular import Planted
from simulator.ledger import Supply

__all__ = ["Dev", "Driver", "Every", "Gauge", "Handler", "Scale", "Trip", "Works"]

Handler = Callable[[int, Any], None]
"""What is done at an instant (epoch ms) with a subject."""


class Dev:
    """A device at work."""

    __slots__ = ("bias_ppm", "device", "free_at", "heads", "lane", "last", "offset_ms", "on_backup", "seq",
                 "silent_from", "silent_until", "site", "spell", "started", "zero_kg")  # fmt: skip

    def __init__(self, device: Device, lane: int, site: "Works | None", started: int, bias_ppm: int) -> None:
        self.device = device
        self.lane = lane
        self.site = site
        self.started = started
        self.bias_ppm = bias_ppm
        self.seq = 0
        self.heads: dict[str, tuple[str, str]] = {}
        self.offset_ms = 0
        self.free_at = 0
        self.on_backup: Supply | None = None
        self.silent_from = self.silent_until = 0
        self.last: tuple[str, str, int, dict[str, Any], int] | None = None
        self.zero_kg = 0
        self.spell: Planted | None = None


class Gauge:
    """A meter at work; integers in units of its decimals."""

    __slots__ = (
        "accrued",
        "carry",
        "dev",
        "gap_from",
        "gap_until",
        "meter",
        "note",
        "prev_time",
        "prev_value",
        "register",
        "surge",
        "surge_until",
        "swap_at",
    )

    def __init__(self, meter: Meter, dev: Dev) -> None:
        self.meter = meter
        self.dev = dev
        self.accrued = 0
        self.carry = 0
        self.register = self.prev_value = meter.start
        self.prev_time = 0
        self.gap_from = self.gap_until = 1 << 60
        self.swap_at = 1 << 60
        self.surge, self.surge_until = 1, 0
        self.note = ""


class Scale:
    """A belt scale at work."""

    __slots__ = ("belt", "carried", "carry", "dev", "shown")

    def __init__(self, belt: Belt, dev: Dev) -> None:
        self.belt = belt
        self.dev = dev
        self.carried = 0
        self.carry = 0
        self.shown = belt.start_kg


class Works:
    """A site at work."""

    def __init__(self, site: Site, lane: int, rng: random.Random) -> None:
        self.site = site
        self.lane = lane
        self.rng = rng
        self.stock = {c: opening for c, (opening, _) in site.yard.items()}
        self.reserved = dict.fromkeys(site.yard, 0)
        self.inbound = dict.fromkeys(site.yard, 0)
        self.carry = dict.fromkeys(site.yard, 0)
        self.scales: list[Dev] = []
        self.cameras: list[Dev] = []
        self.belts: list[Scale] = []
        self.gauges: list[Gauge] = []
        self.surveyor: Dev | None = None
        self.loaders = [0] * site.loaders
        self.inside = 0
        self.hold = False
        self.counting = False
        self.waiting: list[tuple[Handler, Any]] = []
        self.flush_at = 0
        self.offline_plates: set[str] = set()
        self.next_hold = 0
        self.closed = self.stopping = self.stopped = False
        self.dark_until = self.dark_count = self.idle_since = self.asked = self.jammed_until = 0


class Trip:
    """What is irregular about a truck's present trip.

    ``kind`` is empty while nothing is; a trip has one irregularity at most. ``plate`` and ``commodity`` are what is shown in
    place of the true ones, ``seen`` what a camera reads in place of the plate.
    """

    __slots__ = ("commodity", "delay_ms", "diverted", "kind", "planted", "plate", "seen")

    def __init__(self) -> None:
        self.kind = self.plate = self.seen = self.commodity = self.diverted = ""
        self.delay_ms = 0
        self.planted: Planted | None = None


class Driver:
    """A truck at work."""

    __slots__ = ("ballast", "ballast_kg", "body_kg", "burn_kg", "commodity", "dev", "fuel_kg", "left", "left_at", "line",
                 "load", "overload", "place", "repeat", "rng", "since", "tare_at", "tare_shown", "tares", "target", "trip",
                 "truck", "waybill", "work")  # fmt: skip

    def __init__(self, truck: Truck, dev: Dev, rng: random.Random) -> None:
        self.truck = truck
        self.dev = dev
        self.rng = rng
        self.place = truck.home
        self.line: Line | None = None
        self.commodity = ""
        self.load = 0
        self.target = 0
        self.overload = False
        self.repeat = False
        self.fuel_kg = 0
        self.burn_kg = 0
        self.tare_shown = self.tare_at = 0
        self.waybill = ""
        self.since = 0
        self.work: dict[int, bool] = {}
        self.left = ""
        self.left_at = 0
        self.trip = Trip()
        self.tares = 0
        self.ballast: Planted | None = None
        self.ballast_kg = self.body_kg = 0

    @property
    def empty_kg(self) -> int:
        return self.truck.tare_kg + self.fuel_kg


class Every:
    """Counts down to the next irregularity of a kind that comes every so many times."""

    __slots__ = ("left", "mean", "rng")

    def __init__(self, mean: int, rng: random.Random) -> None:
        self.mean = mean
        self.rng = rng
        self.left = rng.randint(max(1, mean // 4), max(1, mean)) if mean else -1

    def now(self) -> bool:
        if self.left < 0:
            return False
        self.left -= 1
        if self.left > 0:
            return False
        self.left = self.rng.randint(max(1, self.mean // 2), self.mean * 3 // 2)
        return True
