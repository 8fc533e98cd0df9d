"""All operators, in one list of groups. A new operator is a module here and a place in one group; nothing registers itself.

A group is one task per partition: its operators run in order over the same input, and a later one also receives what the
earlier ones emitted, of the types that it declares.
"""

from dataclasses import dataclass

from hengliu.events import topics
from streams.kernel.operator import Operator
from streams.operators.anomaly import Anomalies
from streams.operators.calibration import Calibration
from streams.operators.flows import Flows
from streams.operators.idle_zero import IdleZero
from streams.operators.legs import Legs
from streams.operators.meters import Meters
from streams.operators.overload import Overload
from streams.operators.plate_match import PlateMatch
from streams.operators.positions import Positions
from streams.operators.prices import Prices
from streams.operators.repeated import RepeatedWeighing
from streams.operators.sales import Sales
from streams.operators.shipments import Shipments
from streams.operators.silence import Silence
from streams.operators.stock import Stock
from streams.operators.supply import SupplyCut
from streams.operators.tare_drift import TareDrift
from streams.operators.tickets import Tickets
from streams.operators.weight_curve import WeightCurve

__all__ = ["GROUPS", "Group"]


@dataclass(frozen=True, slots=True)
class Group:
    """Operators that share a task. ``inputs`` are exchange or derived topics; the registry is read by every group.

    ``waited``: a person waits for warnings of it that one event decides, so it commits sooner.
    """

    name: str
    inputs: tuple[str, ...]
    operators: tuple[Operator, ...]
    waited: bool = False


GROUPS: tuple[Group, ...] = (
    Group(
        "vehicle",
        (topics.BY_VEHICLE,),
        (Tickets(), Overload(), Flows(), Legs(), Positions(), RepeatedWeighing(), TareDrift()),
        waited=True,
    ),
    Group("meter", (topics.BY_METER,), (Meters(), Anomalies())),
    Group("device", (topics.BY_DEVICE,), (Silence(), IdleZero(), Calibration(), WeightCurve()), waited=True),
    Group("site", (topics.TICKET, topics.BY_SITE, topics.SHIPMENT), (Stock(), Shipments(), SupplyCut(), PlateMatch())),
    Group("enterprise", (topics.FLOW,), (Sales(),)),
    Group("market", (topics.BY_COMMODITY,), (Prices(),)),
)
