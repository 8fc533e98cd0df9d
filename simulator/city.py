"""The plan of a made-up coal city: sites, devices, trucks and roads, all drawn from one seed.

Nothing here moves; ``simulator.world`` runs it. Every enterprise is invented. The three districts and the places outside are
real divisions of GB/T 2260; coordinates, sizes and yields are assumptions, marked so.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hengliu.events.envelope import iso_ms
from simulator.irregular import PROFILES, Irregularities
from simulator.plates import EXAMPLE_PLATE, PlateMaker
from simulator.roads import E7, Node, Roads, degrees_text

__all__ = [
    "EXAMPLE_SITE",
    "SIZES",
    "Belt",
    "City",
    "Device",
    "Line",
    "Meter",
    "Process",
    "Rates",
    "Site",
    "Size",
    "Truck",
    "calibrated",
    "registry",
    "vehicle",
]

SOURCE_PREFIX = "urn:dev:org:32473-"
"""RFC 9039 device names under the enterprise number that RFC 5612 keeps for documentation."""

CITY = "150300"
HAIBOWAN, HAINAN, WUDA = "150302", "150303", "150304"
DISTRICTS: tuple[tuple[str, str, str, bool], ...] = (
    (HAIBOWAN, "海勃湾区", "Haibowan", True),
    (HAINAN, "海南区", "Hainan", True),
    (WUDA, "乌达区", "Wuda", True),
    ("152921", "阿拉善左旗", "Alxa Left Banner", False),
    ("640205", "惠农区", "Huinong", False),
    ("150624", "鄂托克旗", "Otog Banner", False),
    ("640221", "平罗县", "Pingluo", False),
)
"""Code, names, inside the city (GB/T 2260)."""

_HUBS = {HAIBOWAN: (39_6900000, 106_8200000), HAINAN: (39_4400000, 106_8900000), WUDA: (39_5000000, 106_7200000)}
_OUTSIDE = {
    "152921": (39_4600000, 106_4800000),
    "640205": (39_2400000, 106_7600000),
    "150624": (39_5200000, 107_2200000),
    "640221": (39_0700000, 106_6200000),
}

EXAMPLE_SITE = "m01"
"""A registered mine with no simulated traffic. It carries the devices of the families' examples, so that whatever people
post of them (even a stock survey, which sets a stock) disturbs no figure that is compared with the simulator's ledger."""

SCALE_STEP_KG = 20
"""Verification scale interval e of the road scales. Assumption: class III with Max 100 t and 5,000 intervals, a usual build
(GB/T 7723-2017 sets classes and limits of n, not one e)."""


@dataclass(frozen=True, slots=True)
class Process:
    """What a works does with coal.

    Attributes:
        kg_per_h: mean rate: of output for a mine, of input for the others.
        inputs: commodity to share of the input, parts per million (sums to a million); empty for a mine.
        outputs: commodity to yield from a million parts of input; for a mine ``{"raw": 1_000_000}``.
        residue: commodity that takes what the yields leave, so that output equals input exactly; None: it leaves the books
            (burnt, or gone as volatiles).
    """

    kg_per_h: int
    inputs: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, int] = field(default_factory=dict)
    residue: str | None = None


WASHING_YIELDS: Mapping[str, Mapping[str, int]] = {
    # Parts per million of raw coal; the rest is gangue. Assumptions in the range usual for coking coal of the region.
    "jig": {"cleaned": 480_000, "middlings": 210_000, "slime": 90_000},
    "dense-medium": {"cleaned": 560_000, "middlings": 150_000, "slime": 80_000},
    "dense-medium-flotation": {"cleaned": 610_000, "middlings": 130_000, "slime": 50_000},
}
"""Yields by washing process: 跳汰, 重介, 重介加浮选."""


@dataclass(frozen=True, slots=True)
class Device:
    """Something with a CloudEvents source of its own."""

    id: str
    kind: str
    site: str
    heartbeat_s: int = 0
    """0: it reports no heartbeat."""
    silence_after_s: int | None = None
    latency_ms: int = 900
    """From reading to sending."""

    @property
    def source(self) -> str:
        return SOURCE_PREFIX + self.id


@dataclass(frozen=True, slots=True)
class Belt:
    """A belt scale and what it carries. ``error_ppm``: it shows so much too much."""

    device: Device
    commodity: str
    role: str
    error_ppm: int
    start_kg: int


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter; amounts are integers in units of ``10 ** -decimals``."""

    device: Device
    quantity: str
    unit: str
    decimals: int
    reading: str
    every_ms: int
    base_per_h: int
    per_tonne: int
    flow: str = "import"
    digits: int | None = None
    start: int = 0
    quirk: str = ""
    """``wrap``: starts just below its last digit; ``swap``: exchanged for a new one now and then; ``gap``: loses readings for
    hours; ``back-flow``: runs backwards by some litres at night."""


@dataclass(frozen=True, slots=True)
class Site:
    id: str
    kind: str
    division: str
    name: str
    name_en: str
    use: str
    latitude_e7: int
    longitude_e7: int
    process: Process | None
    yard: Mapping[str, tuple[int, int]]
    """Commodity to (opening kg, capacity kg)."""
    scales: tuple[Device, ...]
    cameras: tuple[Device, ...]
    belts: tuple[Belt, ...]
    meters: tuple[Meter, ...]
    surveyor: Device
    survey_weekday: int
    loaders: int


@dataclass(frozen=True, slots=True)
class Truck:
    plate: str
    trailer_plate: str | None
    kind: str
    axles: int
    single_drive_axle: bool
    new_energy: bool
    tare_kg: int
    tare_usable: bool
    limit_kg: int
    shift: str
    home: str
    gps: Device


@dataclass(frozen=True, slots=True)
class Line:
    """A standing delivery: from a site or a division outside, to a site or a division outside."""

    start: str
    end: str
    commodity: str
    use: str
    weight: int


@dataclass(frozen=True, slots=True)
class Rates:
    """How often irregularities are planted. ``every``: mean count between two; ``per_day``: mean of the city; 0: never."""

    overload_every_loads: int = 60
    repeat_every_visits: int = 150
    missing_tare_every_visits: int = 400
    duplicate_every_events: int = 2_000
    conflicts_per_day: float = 2.0
    malformed_per_day: float = 6.0
    outages_per_day: float = 2.0
    silences_per_day: float = 4.0
    power_cuts_per_day: float = 2.0
    future_clocks_per_day: float = 1.0
    breakdown_every_trips: int = 300

    @classmethod
    def none(cls) -> "Rates":
        """A city in which nothing goes wrong."""
        return cls(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Size:
    """How large a city is. Tonnages follow the number of trucks, so that neither yards nor trucks idle long."""

    mines: int
    washing: int
    coking: int
    power: int
    chemical: int
    traders: int
    brickworks: int
    trucks: int
    position_every_s: int
    belt_every_s: int
    heartbeat_s: int
    slow_heartbeat_s: int
    rates: Rates


SIZES: Mapping[str, Size] = {
    "tiny": Size(1, 1, 0, 1, 0, 0, 0, 8, 300, 300, 60, 300, Rates(
        overload_every_loads=12, repeat_every_visits=20, missing_tare_every_visits=30, duplicate_every_events=400,
        conflicts_per_day=4, malformed_per_day=12, outages_per_day=2, silences_per_day=3, power_cuts_per_day=2,
        future_clocks_per_day=2, breakdown_every_trips=25)),
    "demo": Size(8, 7, 3, 3, 1, 2, 1, 540, 600, 300, 60, 300, Rates()),
    "month": Size(4, 3, 1, 1, 1, 1, 1, 60, 7_200, 1_800, 600, 1_800, Rates()),
    "measure": Size(4, 3, 1, 1, 1, 1, 1, 60, 600, 1_800, 300, 1_800, Rates(
        overload_every_loads=60, repeat_every_visits=400, missing_tare_every_visits=400, duplicate_every_events=20_000,
        conflicts_per_day=0.5, malformed_per_day=0.5, outages_per_day=0.7, silences_per_day=0.7, power_cuts_per_day=0.7,
        future_clocks_per_day=0.3, breakdown_every_trips=60)),
    "queues": Size(2, 1, 0, 1, 0, 0, 0, 60, 3_600, 1_800, 300, 1_800, Rates(
        overload_every_loads=60, repeat_every_visits=400, missing_tare_every_visits=400, duplicate_every_events=20_000,
        conflicts_per_day=0.5, malformed_per_day=0.5, outages_per_day=0.3, silences_per_day=0.7, power_cuts_per_day=0.3,
        future_clocks_per_day=0.3, breakdown_every_trips=60)),
}  # fmt: skip
"""``tiny``: three sites for tests. ``demo``: 25 sites, about 180,000 events a day. ``month``: 12 sites, few enough events
(about 14,000 a day) to load a month in minutes. ``measure``: 12 sites with positions every ten minutes, for a fortnight
through every rule; what goes wrong on an ordinary day is rare in it, so that what is planted shows. ``queues``: as many trucks
at four sites, so that a dozen of them stand behind a scale that nobody is weighed on."""

LIMITS_KG: Mapping[tuple[str, int], int] = {
    ("rigid", 2): 18_000, ("rigid", 3): 25_000, ("rigid", 4): 31_000,
    ("combination", 3): 27_000, ("combination", 4): 36_000, ("combination", 5): 43_000, ("combination", 6): 49_000,
}  # fmt: skip
"""Gross mass by kind and axles: 交通运输部令2016年第62号, Article 3."""
SINGLE_DRIVE_LIMIT_KG = 46_000
"""Six axles with a single drive axle: same article."""

_USE = {"mine": "other", "washing": "washing", "coking": "coking", "power": "power", "chemical": "chemical",
        "trader": "trade", "other": "building"}  # fmt: skip
_EXPORT_USE = {"raw": "power", "cleaned": "coking", "middlings": "heating", "slime": "heating", "gangue": "building",
               "coke": "other", "anthracite": "chemical"}  # fmt: skip
_NUMERALS = "〇一二三四五六七八九十"
_HILLS = (("北山", "North Hill"), ("南坡", "South Slope"), ("东沟", "East Gully"), ("西滩", "West Bank"),
          ("石桥", "Stone Bridge"), ("沙梁", "Sand Ridge"), ("柳湾", "Willow Bend"), ("旱塬", "Dry Mesa"))  # fmt: skip
_LETTERS = (("甲", "A"), ("乙", "B"), ("丙", "C"), ("丁", "D"))


def _names(kind: str, number: int) -> tuple[str, str]:
    numeral, letter, hill = _NUMERALS[number % 11], _LETTERS[(number - 1) % 4], _HILLS[(number - 1) % 8]
    return {
        "mine": (f"{numeral}号煤矿", f"No. {number} Mine"),
        "washing": (f"{hill[0]}洗煤厂", f"{hill[1]} Washery"),
        "coking": (f"{letter[0]}号焦化厂", f"Coking Plant {letter[1]}"),
        "power": (f"第{numeral}模拟电厂", f"Model Power Station {number}"),
        "chemical": (f"第{numeral}模拟化工厂", f"Model Chemical Works {number}"),
        "trader": (f"第{numeral}模拟煤场", f"Model Coal Yard {number}"),
        "other": (f"第{numeral}模拟砖厂", f"Model Brickworks {number}"),
    }[kind]


class City:
    """A city of a size, the same for the same seed.

    Args:
        seed: any integer.
        size: a key of ``SIZES``, or a ``Size``.
        irregularities: a key of ``PROFILES``, or how often what is planted; nothing of it by default.
    """

    def __init__(self, seed: int = 1, size: str | Size = "demo", irregularities: str | Irregularities = "none") -> None:
        self.seed = seed
        self.irregularities = PROFILES[irregularities] if isinstance(irregularities, str) else irregularities
        self.size_name = size if isinstance(size, str) else "custom"
        self.size = SIZES[size] if isinstance(size, str) else size
        self.roads = Roads()
        self.sites: dict[str, Site] = {}
        self.lines: list[Line] = []
        self._build_roads()
        self._build_sites()
        self._build_lines()
        self.trucks = self._build_trucks()
        self.market = Device("market-wh-2", "market", next(iter(self.sites)))

    def rng(self, *name: object) -> random.Random:
        """A random stream of its own for each name, so that one process's draws never shift another's."""
        return random.Random("/".join(str(part) for part in (self.seed, *name)))  # noqa: S311  not a secret, a scenario

    def _build_roads(self) -> None:
        done: list[str] = []
        for division, (latitude, longitude) in _HUBS.items():
            self.roads.add(Node(f"hub-{division}", latitude, longitude), *done)
            done.append(f"hub-{division}")
        near = {"152921": WUDA, "640205": WUDA, "150624": HAINAN, "640221": WUDA}
        for division, (latitude, longitude) in _OUTSIDE.items():
            self.roads.add(Node(division, latitude, longitude), f"hub-{near[division]}")

    def _build_sites(self) -> None:
        size = self.size
        tonnes_per_h = size.trucks * 7
        mined = tonnes_per_h * 1_000 // max(1, size.mines)
        washed = tonnes_per_h * 600 // max(1, size.washing)
        plan: list[tuple[str, str, int, Process | None]] = [
            ("mine", "m", n + 2, Process(mined, {}, {"raw": 1_000_000})) for n in range(size.mines)
        ]
        processes = list(WASHING_YIELDS.values())
        plan += [
            ("washing", "w", n + 1, Process(washed, {"raw": 1_000_000}, processes[(n + 1) % 3], "gangue"))
            for n in range(size.washing)
        ]
        plan += [
            ("coking", "c", n + 1, Process(tonnes_per_h * 250 // size.coking, {"cleaned": 1_000_000}, {"coke": 750_000}))
            for n in range(size.coking)
        ]
        plan += [
            ("power", "p", n + 1, Process(tonnes_per_h * 300 // size.power,
                                          {"raw": 700_000, "middlings": 200_000, "slime": 100_000}))
            for n in range(size.power)
        ]  # fmt: skip
        plan += [
            ("chemical", "x", n + 1, Process(tonnes_per_h * 60 // size.chemical, {"raw": 500_000, "anthracite": 500_000}))
            for n in range(size.chemical)
        ]
        plan += [("trader", "t", n + 1, None) for n in range(size.traders)]
        plan += [
            ("other", "b", n + 1, Process(tonnes_per_h * 50 // size.brickworks, {"gangue": 1_000_000}))
            for n in range(size.brickworks)
        ]
        for index, (kind, letter, number, process) in enumerate(plan):
            site = self._site(index, kind, f"{letter}{number:02d}", number, process)
            self.sites[site.id] = site
            self.roads.add(Node(site.id, site.latitude_e7, site.longitude_e7), f"hub-{site.division}")

    def _site(self, index: int, kind: str, id_: str, number: int, process: Process | None) -> Site:
        rng = self.rng("site", id_)
        division = (HAINAN, HAIBOWAN, WUDA)[index % 3]
        hub = _HUBS[division]
        yard: dict[str, tuple[int, int]] = {}
        if process is None:
            hourly = self.size.trucks * 400
            yard["raw"] = (hourly * 20, hourly * 60)
        else:
            for commodity, ppm in process.inputs.items():
                hourly = process.kg_per_h * ppm // 1_000_000
                yard[commodity] = (hourly * rng.randint(24, 40) + rng.randrange(1000), hourly * 72)
            rest = 1_000_000 - sum(process.outputs.values())
            for commodity, ppm in (*process.outputs.items(), *(((process.residue, rest),) if process.residue else ())):
                hourly = process.kg_per_h * ppm // 1_000_000
                yard[commodity] = (hourly * rng.randint(12, 24) + rng.randrange(1000), hourly * 60)
        yard = {c: (opening, max(capacity, 400_000)) for c, (opening, capacity) in yard.items()}
        busy = kind in ("mine", "washing", "coking", "power")
        beat, slow = self.size.heartbeat_s, self.size.slow_heartbeat_s

        def device(prefix: str, n: int, kind_: str, heartbeat: int = 0, silence: int | None = None) -> Device:
            return Device(f"{prefix}-{id_}-{n}", kind_, id_, heartbeat, silence, rng.randint(300, 2_500))

        scales = tuple(device("wb", n + 1, "weighbridge", beat, 5 * beat) for n in range(2 if busy else 1))
        cameras = tuple(device("cam", n + 1, "camera", slow) for n in range(2))
        belts = []
        if process is not None:
            carried = [(c, "consumed") for c in process.inputs]
            carried += [(c, "produced") for c in (*process.outputs, *((process.residue,) if process.residue else ()))]
            belts = [
                Belt(
                    device("belt", n + 1, "belt-scale", slow, 6 * slow),
                    c,
                    role,
                    rng.randint(-2_500, 2_500),
                    rng.randrange(10**9),
                )
                for n, (c, role) in enumerate(carried)
            ]
        return Site(
            id=id_, kind=kind, division=division, name=_names(kind, number)[0], name_en=_names(kind, number)[1], use=_USE[kind],
            latitude_e7=hub[0] + rng.randint(-600_000, 600_000), longitude_e7=hub[1] + rng.randint(-600_000, 600_000),
            process=process, yard=yard, scales=scales, cameras=cameras, belts=tuple(belts),
            meters=self._meters(kind, id_, number, rng), surveyor=Device(f"yard-{id_}", "yard", id_, latency_ms=60_000),
            survey_weekday=index % 7, loaders={"washing": 7, "mine": 4}.get(kind, 3),
        )  # fmt: skip

    def _meters(self, kind: str, id_: str, number: int, rng: random.Random) -> tuple[Meter, ...]:
        quarter, hour = 900_000, 3_600_000
        first = number == (2 if kind == "mine" else 1)
        tonne = self.size.trucks * 7  # t/h of the whole city: base loads follow its size
        kwh_per_t = {
            "mine": 2_200,
            "washing": 700,
            "coking": 3_800,
            "power": 3_000,
            "chemical": 9_000,
            "trader": 200,
            "other": 1_500,
        }[kind]
        base = {"mine": 30, "washing": 12, "coking": 25, "power": 40, "chemical": 30, "trader": 3, "other": 4}[kind] * tonne

        def device(prefix: str, n: int) -> Device:
            return Device(f"{prefix}-{id_}-{n}", "meter", id_, latency_ms=rng.randint(1_000, 20_000))

        quirk = {"washing": "wrap", "mine": "swap", "power": "gap"}.get(kind, "") if first else ""
        digits = 6 if quirk == "wrap" else None
        start = 10**8 - base * 5 if quirk == "wrap" else rng.randrange(10**7, 9 * 10**7)
        meters = [
            Meter(device("em", 1), "electricity", "kWh", 2, "interval", quarter, base, kwh_per_t),
            Meter(device("em", 2), "electricity", "kWh", 2, "register", quarter, base // 2, kwh_per_t // 3, digits=digits,
                  start=start, quirk=quirk),
            Meter(device("wm", 1), "water", "m3", 3, "register", hour, tonne * 4, 150, start=rng.randrange(10**6, 10**8),
                  quirk="back-flow" if kind == "washing" else ""),
        ]  # fmt: skip
        if kind == "power":
            meters.append(Meter(device("em", 3), "electricity", "kWh", 2, "interval", quarter, 0, 210_000, flow="export"))
            meters.append(
                Meter(device("hm", 1), "heat", "GJ", 3, "register", hour, tonne * 20, 900, start=rng.randrange(10**7))
            )
        if kind == "coking":
            meters.append(Meter(device("gm", 1), "gas", "m3", 2, "interval", hour, tonne * 10, 2_000))
        if kind == "chemical":
            meters.append(Meter(device("sm", 1), "steam", "t", 3, "interval", hour, tonne * 5, 1_200))
        return tuple(meters)

    def _build_lines(self) -> None:
        def out(site: Site) -> list[str]:
            if site.process is None:
                return list(site.yard)
            return [c for c in site.yard if c not in site.process.inputs]

        def into(site: Site) -> list[str]:
            return list(site.yard) if site.process is None else list(site.process.inputs)

        def weight(start: str, end: str, base: int) -> int:
            return max(1, base * 1_000_000_000 // (10_000 + self.roads.way(start, end).length_m) ** 2)

        sites = list(self.sites.values())
        for a in sites:
            for commodity in out(a):
                for b in sites:
                    if a is not b and commodity in into(b) and not (a.kind == "trader" and b.kind == "trader"):
                        base = 40 if b.kind == "trader" else 100
                        self.lines.append(Line(a.id, b.id, commodity, b.use, weight(a.id, b.id, base)))
                for division in _OUTSIDE:
                    share = {"coke": 80, "cleaned": 25, "raw": 10}.get(commodity, 20)
                    self.lines.append(Line(a.id, division, commodity, _EXPORT_USE[commodity], weight(a.id, division, share)))
        for b in sites:
            for commodity in into(b):
                supplied = any(line.end == b.id and line.commodity == commodity for line in self.lines)
                for division in ("640205", "150624") if supplied else _OUTSIDE:
                    self.lines.append(Line(division, b.id, commodity, b.use, weight(division, b.id, 15 if supplied else 100)))

    def _build_trucks(self) -> tuple[Truck, ...]:
        rng = self.rng("trucks")
        plates = PlateMaker(rng)
        homes = list(self.sites)
        trucks = []
        for n in range(self.size.trucks):
            draw = rng.random()
            if draw < 0.68:
                kind, axles, tare = "combination", 6, rng.randint(14_600, 16_400)
            elif draw < 0.80:
                kind, axles, tare = "combination", 5, rng.randint(13_200, 14_800)
            elif draw < 0.95:
                kind, axles, tare = "rigid", 4, rng.randint(11_400, 12_800)
            else:
                kind, axles, tare = "rigid", 3, rng.randint(9_200, 10_400)
            new_energy = rng.random() < 0.18
            if new_energy:
                tare += rng.randint(1_400, 2_200)  # the battery
            single = axles == 6 and rng.random() < 0.15
            trucks.append(
                Truck(
                    plate=plates.new_energy() if new_energy else plates.ordinary(),
                    trailer_plate=plates.trailer() if kind == "combination" else None,
                    kind=kind, axles=axles, single_drive_axle=single, new_energy=new_energy,
                    tare_kg=tare // SCALE_STEP_KG * SCALE_STEP_KG, tare_usable=rng.random() < 0.5,
                    limit_kg=SINGLE_DRIVE_LIMIT_KG if single else LIMITS_KG[kind, axles],
                    shift=rng.choices(("both", "day", "night"), (64, 26, 10))[0], home=homes[n % len(homes)],
                    gps=Device(f"gps-{n + 2:04d}", "gps", homes[n % len(homes)], latency_ms=rng.randint(500, 4_000)),
                )
            )  # fmt: skip
        return tuple(trucks)

    def devices(self) -> list[Device]:
        """Every simulated device, the examples' not among them."""
        found: list[Device] = []
        for site in self.sites.values():
            found += [
                *site.scales,
                *site.cameras,
                *(b.device for b in site.belts),
                *(m.device for m in site.meters),
                site.surveyor,
            ]
        return [*found, *(t.gps for t in self.trucks), self.market]


_EXAMPLE_DEVICES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("wb-m01-1", {"kind": "weighbridge"}),
    ("cam-m01-1", {"kind": "camera"}),
    ("em-m01-1", {"kind": "meter", "quantity": "electricity"}),
    ("belt-m01-1", {"kind": "belt-scale", "belt_role": "transfer"}),
    ("yard-m01", {"kind": "yard"}),
    ("market-wh", {"kind": "market"}),
    ("gps-0001", {"kind": "gps"}),
)


def registry(city: City) -> list[tuple[str, dict[str, Any]]]:
    """What must be registered before the city's events are sent: (event type, data), in an order that names nothing before
    it is there. Without ``valid_from``: valid since always, so that loaded history finds it."""
    rows: list[tuple[str, dict[str, Any]]] = [
        ("district.registered", {"division": code, "name": zh, "name_en": en, "inside": inside})
        for code, zh, en, inside in DISTRICTS
    ]
    places = [
        (
            EXAMPLE_SITE,
            "示例煤矿",
            "Example Mine",
            "mine",
            "other",
            HAINAN,
            _HUBS[HAINAN][0] + 250_000,
            _HUBS[HAINAN][1] + 250_000,
        ),
        *((s.id, s.name, s.name_en, s.kind, s.use, s.division, s.latitude_e7, s.longitude_e7) for s in city.sites.values()),
    ]
    for id_, zh, en, kind, _, division, _, _ in places:
        rows.append(
            ("enterprise.registered", {"enterprise": id_, "name": zh, "name_en": en, "kind": kind, "division": division})
        )
    for id_, zh, en, kind, use, division, latitude, longitude in places:
        rows.append(
            ("site.registered", {"site": id_, "enterprise": id_, "name": zh, "name_en": en, "division": division, "kind": kind,
                                 "use": use, "latitude": degrees_text(latitude), "longitude": degrees_text(longitude)})
        )  # fmt: skip
    for device, extra in _EXAMPLE_DEVICES:
        rows.append(("device.registered", {"device": device, "source": SOURCE_PREFIX + device, "site": EXAMPLE_SITE, **extra}))
    extras: dict[str, dict[str, Any]] = {}
    for site in city.sites.values():
        for belt in site.belts:
            extras[belt.device.id] = {"belt_role": belt.role}
        for meter in site.meters:
            extras[meter.device.id] = {"quantity": meter.quantity}
            if meter.digits is not None:
                extras[meter.device.id]["register_digits"] = meter.digits
    for d in city.devices():
        data = {"device": d.id, "source": d.source, "kind": d.kind, "site": d.site, **extras.get(d.id, {})}
        if d.silence_after_s is not None:
            data["silence_after_s"] = d.silence_after_s
        rows.append(("device.registered", data))
    rows.append(("vehicle.registered", {"plate": EXAMPLE_PLATE, "kind": "combination", "axles": 6}))
    rows.extend(vehicle(truck) for truck in city.trucks)
    return rows


def vehicle(truck: Truck, since_ms: int | None = None) -> tuple[str, dict[str, Any]]:
    """The registration of a truck; ``since_ms``: valid from then on."""
    since = {} if since_ms is None else {"valid_from": iso_ms(since_ms)}
    return "vehicle.registered", {
        "plate": truck.plate, "kind": truck.kind, "axles": truck.axles, "single_drive_axle": truck.single_drive_axle,
        "tare_kg": truck.tare_kg, "tare_usable": truck.tare_usable, "new_energy": truck.new_energy, **since,
    }  # fmt: skip


def calibrated(device: Device, since_ms: int, until_ms: int) -> tuple[str, dict[str, Any]]:
    """The registration of a road scale whose certificate runs out at an instant."""
    return "device.registered", {
        "device": device.id, "source": device.source, "kind": device.kind, "site": device.site,
        "silence_after_s": device.silence_after_s, "calibrated_until": iso_ms(until_ms), "valid_from": iso_ms(since_ms),
    }  # fmt: skip


assert E7 == 10_000_000  # coordinates above are written in these units
