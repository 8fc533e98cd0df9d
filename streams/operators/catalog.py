"""All operators, in one list of groups. A new operator is a module here and a place in one group; nothing registers itself.

A group is one task per partition: its operators run in order over the same input, and a later one also receives what the
earlier ones emitted, of the types that it declares.
"""

from dataclasses import dataclass

from hengliu.events import topics
from streams.kernel.operator import Operator
from streams.operators.flows import Flows
from streams.operators.legs import Legs
from streams.operators.meters import Meters
from streams.operators.overload import Overload
from streams.operators.positions import Positions
from streams.operators.prices import Prices
from streams.operators.sales import Sales
from streams.operators.shipments import Shipments
from streams.operators.silence import Silence
from streams.operators.stock import Stock
from streams.operators.supply import SupplyCut
from streams.operators.tickets import Tickets

__all__ = ["GROUPS", "Group"]


@dataclass(frozen=True, slots=True)
class Group:
    """Operators that share a task. ``inputs`` are exchange or derived topics; the registry is read by every group."""

    name: str
    inputs: tuple[str, ...]
    operators: tuple[Operator, ...]


GROUPS: tuple[Group, ...] = (
    Group("vehicle", (topics.BY_VEHICLE,), (Tickets(), Overload(), Flows(), Legs(), Positions())),
    Group("meter", (topics.BY_METER,), (Meters(),)),
    Group("device", (topics.BY_DEVICE,), (Silence(),)),
    Group("site", (topics.TICKET, topics.BY_SITE, topics.SHIPMENT), (Stock(), Shipments(), SupplyCut())),
    Group("enterprise", (topics.FLOW,), (Sales(),)),
    Group("market", (topics.BY_COMMODITY,), (Prices(),)),
)
