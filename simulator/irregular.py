"""Fraud, faults and the honest things that look like them: how often the city plants each, and what it writes down of it.

``Rates`` (``simulator.city``) are the irregularities of an ordinary day, which every city has. These here are for measuring
detection: none of them happens unless a city is made with a profile. Each planted one has the warning code that it calls for;
each honest double (``near``) has the code that must *not* be raised for it.

Nothing here knows a rule, a threshold or an operator. Sizes are assumptions in the range that the press reports of such
cases (a chip in the junction box took about two tonnes a truck).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CONFUSED", "MARKETS", "PROFILES", "Irregularities", "Planted"]


@dataclass(slots=True)
class Planted:
    """An irregularity that the city planted. ``finding``: what is expected of it.

    Attributes:
        kind: what was done, ``moisture`` or ``unplugged``.
        subject: what it was done to: a plate, a device, a site, an enterprise, a market.
        start, end: epoch ms of the city; while it lasts ``end`` may still grow.
        code: warning code that it calls for; empty: none.
        near: warning code that must not be raised for it; empty: it is no double of anything.
        aliases: other names under which a warning of it may rightly go (the scale, the waybill, the other plate).
    """

    kind: str
    subject: str
    site: str
    start: int
    end: int
    finding: str
    parameters: dict[str, str] = field(default_factory=dict)
    code: str = ""
    near: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Irregularities:
    """How often each is planted; 0: never. ``*_every``: mean count between two of what is named; ``*_per_day``: mean of the
    whole city. Lines marked *near* are the honest doubles."""

    name: str = "none"
    # plate-mismatch
    cloned_every_visits: int = 0
    """Another truck under the plate that is weighed (套牌): the camera reads what is screwed on."""
    slip_every_captures: int = 0
    """Near: the camera takes one character for one like it, and is not sure."""
    blind_every_captures: int = 0
    """Near: the camera misses a truck."""
    jammed_per_day: float = 0
    """Near: the scales of a works stand still for half an hour to two (they report, but nobody is weighed) while trucks drive
    in and queue; when they are weighed the gate has seen them long before."""
    # repeated-weighing
    reweigh_every_unloads: int = 0
    """A second gross of the same load a quarter of an hour later, for a second slip (一车多单)."""
    reset_every_unloads: int = 0
    """Near: the indicator is restarted and says so, and the truck is weighed again."""
    # tare-drift
    ballast_every_trips: int = 0
    """Water, spare wheels, people: for a day or two the empty truck is 300 to 1,600 kg heavier."""
    body_per_day: float = 0
    """Near: a new body, registered with its new tare."""
    # weight-curve-step
    curves: bool = False
    """Whether weighings carry the curve at all."""
    chip_every_weighings: int = 0
    """The shown mass of the standing truck jumps by 0.26 to 2.4 t (遥控)."""
    step_off_every_weighings: int = 0
    """Near: the driver climbs down, or he and his mate: 70 to 190 kg."""
    # idle-not-zero
    unzeroed_per_day: float = 0
    """For some hours a scale is not set back to zero: 40 to 300 kg."""
    snow_per_day: float = 0
    """Near: one or two scale intervals of snow or mud."""
    # scale-not-calibrated
    lapsed_scales: int = 0
    """Scales whose calibration runs out and is renewed a day or two late."""
    renewed_scales: int = 0
    """Near: renewed a day before it runs out."""
    # shipments
    theft_every_trips: int = 0
    """0.2 to 4 t are gone on arrival: shipment-quantity."""
    moisture_every_trips: int = 0
    """Near: 0.1 to 0.5 % of the load dries on the way."""
    relabel_every_trips: int = 0
    """Unloaded under another kind of coal: shipment-commodity."""
    unsaid_every_trips: int = 0
    """Near: the unloading scale does not say what it is."""
    reload_every_trips: int = 0
    """Unloaded from another truck under the same waybill: shipment-plate."""
    same_number_every_trips: int = 0
    """Near: two enterprises number their waybills alike, and both loads are on the road."""
    parked_every_trips: int = 0
    """Arrives 7 to 18 h late: shipment-late."""
    detour_every_trips: int = 0
    """Near: arrives up to three hours late."""
    diverted_every_trips: int = 0
    """Sold elsewhere, never arrives: shipment-missing."""
    # position-contradiction
    elsewhere_every_unloads: int = 0
    """Weighed here, while its own terminal reports from far away."""
    datum_every_unloads: int = 0
    """Near: the terminal reports in GCJ-02, some hundred metres off."""
    # sales-abnormal
    rush_per_day: float = 0
    """For a day a mine sells several times what it usually does; those whose trucks it takes may sell less than half
    (``drained``). Near: less than half on a public holiday."""
    stop_per_day: float = 0
    """Near: a works stands still for a whole day, announced; its gate is closed, its scales are not dead."""
    # price-abnormal
    off_price_per_day: float = 0
    """One market quotes a fifth to a third off the others."""
    market_move_per_day: float = 0
    """Near: all markets move together."""
    # supply-cut
    unplugged_per_day: float = 0
    """All scales of a site are dead for hours; trucks drive out unweighed."""
    closed_per_day: float = 0
    """Near: a works is closed and its scales are off: nothing passes the gate until it opens again."""
    # series-anomaly
    surge_per_day: float = 0
    """For some hours a meter counts two to five times its mean load on top of what the works uses."""

    @property
    def any(self) -> bool:
        return self != Irregularities(name=self.name)


PROFILES: Mapping[str, Irregularities] = {
    "none": Irregularities(),
    "all": Irregularities(
        name="all",
        cloned_every_visits=120, slip_every_captures=60, blind_every_captures=150, jammed_per_day=1.5,
        reweigh_every_unloads=25, reset_every_unloads=60,
        ballast_every_trips=150, body_per_day=0.5,
        curves=True, chip_every_weighings=60, step_off_every_weighings=40,
        unzeroed_per_day=1.5, snow_per_day=1.5,
        lapsed_scales=6, renewed_scales=5,
        theft_every_trips=60, moisture_every_trips=12, relabel_every_trips=90, reload_every_trips=90,
        unsaid_every_trips=60, same_number_every_trips=60,
        parked_every_trips=110, detour_every_trips=30, diverted_every_trips=100,
        elsewhere_every_unloads=80, datum_every_unloads=60,
        rush_per_day=0.6, stop_per_day=0.2, off_price_per_day=1.5, market_move_per_day=0.25,
        unplugged_per_day=0.9, closed_per_day=0.7, surge_per_day=1.5,
    ),
}  # fmt: skip
"""``none``: nothing of this. ``all``: some of everything, for measuring."""

MARKETS = ("wuhai", "haibowan", "hainan", "wuda", "otog", "pingluo", "huinong")
"""Markets that quote in a city with irregularities of price; the ordinary city has the first alone."""

CONFUSED: Mapping[str, str] = {"0": "D", "D": "0", "8": "B", "B": "8", "1": "7", "7": "1", "5": "S", "S": "5", "2": "Z",
                               "Z": "2", "6": "G", "G": "6", "3": "8", "4": "A", "A": "4", "9": "0"}  # fmt: skip
"""Characters that a camera takes for each other (assumption: the usual pairs; the letters I and O stand on no plate)."""


def as_text(parameters: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in parameters.items()}
