"""What the HTTP surface is given. ``hengliu.compose`` builds one ``Deps`` and calls ``api.app.create_app``."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from hengliu.events.catalog import Catalog
from hengliu.events.families.registry import RulePublished
from hengliu.events.family import Family
from hengliu.intake.service import Intake
from hengliu.metrics import Meters
from hengliu.ports.clock import Clock
from hengliu.ports.log import EventLog, TopicPartition
from hengliu.ports.warehouse import Warehouse
from hengliu.reference.rules import RuleChange, RuleDeclaration
from hengliu.rights import Principal, TokenStore
from projections.queries.query import NamedQuery, Page

if TYPE_CHECKING:
    from api.health import Monitor
    from api.live import Hub

__all__ = ["ApiLimits", "Commands", "Deps", "Progress", "Receipt", "Stage"]


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Limits on one request. Sizes in bytes, times in seconds."""

    body_bytes: int = 8 * 1024 * 1024
    batch_events: int = 5_000
    body_idle_s: float = 10.0
    """Longest pause between two pieces of a body."""
    body_total_s: float = 60.0
    """Longest time for a whole body."""
    drain_bytes: int = 64 * 1024 * 1024
    """How much of an oversized body is read (and dropped) for its digest before the connection is closed."""
    kept_bytes: int = 65_536
    """First bytes of an oversized body that quarantine keeps."""
    bodies_bytes: int = 64 * 1024 * 1024
    """Bodies held in memory at once, all requests together; one that would go over is told to come back (429)."""
    commit_s: float = 30.0
    """How long a request waits for its events to be durable before it is told to come back (503)."""
    page_rows: int = 1_000
    """Largest ``limit`` of a read."""
    query_s: float = 15.0
    """Longest time for one named query."""
    after_s: float = 2.0
    """How long a read waits for ``after``."""
    live_clients: int = 200
    stalled_s: float = 15.0
    """A stage that is behind and has not moved for this long makes the process not ready."""


class Receipt(Protocol):
    """Where an accepted command's event stands: the record's partition and the position after it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def position(self) -> int: ...


class Commands(Protocol):
    """Registrations (``hengliu.registrations``)."""

    async def register(self, principal: Principal, type_: str, data: Mapping[str, Any]) -> Receipt:
        """Returns when intake has read the event.

        Raises:
            aggregates.registration.InvariantViolated, pydantic.ValidationError: nothing was stored.
            TimeoutError: stored, not yet published.
        """
        ...

    async def change_rule(self, principal: Principal, rule: str, change: RuleChange) -> tuple[Receipt, RulePublished | None]:
        """Publishes the next version of a rule (None: nothing changed, and it never had one). Raises as ``register``."""
        ...


class Progress(Protocol):
    """What the tables include: the projectors' committed positions, and a wait for them to move."""

    def positions(self) -> Mapping[TopicPartition, int]:
        """Position up to which each topic partition is in the tables (the least over the projectors that read it)."""
        ...

    async def wait_for(self, tp: TopicPartition, position: int, timeout_s: float) -> bool:
        """Wait until the tables include everything of ``tp`` before ``position``; False when the time is over.

        Raises:
            ValueError: no table reads this partition.
        """
        ...

    async def wait_change(self, seen: int, timeout_s: float) -> int:
        """A number that grows with every commit; returns as soon as it differs from ``seen``, or after the timeout."""
        ...


class Stage(Protocol):
    """A part of the platform that consumes partitions and commits how far it came."""

    @property
    def name(self) -> str: ...

    def positions(self) -> Mapping[TopicPartition, int]:
        """Committed input positions of every partition it reads."""
        ...


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything that the routes use; nothing else reaches them.

    Attributes:
        queries: named queries by name; ``family_query`` makes the generic one of a family.
        rules: the declared rules, in the order of their list.
        commands: None where this process takes no registrations (the routes then answer 503).
        hub, monitor: their ``run`` are tasks of whoever built this.
        open_reading: whether a client on loopback reads without a token (the demo).
        city: name of the city, Chinese and English.
        allowed_hosts: Host names accepted beside the loopback ones.
    """

    catalog: Catalog
    intake: Intake
    warehouse: Warehouse
    log: EventLog
    tokens: TokenStore
    clock: Clock
    queries: Mapping[str, NamedQuery]
    family_query: Callable[[Family], NamedQuery]
    run_query: Callable[..., Awaitable[Page]]
    progress: Progress
    hub: "Hub"
    monitor: "Monitor"
    partitions: int
    rules: Sequence[RuleDeclaration] = ()
    commands: Commands | None = None
    limits: ApiLimits = field(default_factory=ApiLimits)
    meters: Meters = field(default_factory=Meters)
    open_reading: bool = False
    allowed_hosts: tuple[str, ...] = ()
    version: str = ""
    city: tuple[str, str] = ("", "")
