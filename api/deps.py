"""What the HTTP surface is given. ``hengliu.compose`` builds one ``Deps`` and calls ``api.app.create_app``."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from hengliu.events.catalog import Catalog
from hengliu.metrics import Meters
from hengliu.ports.clock import Clock
from hengliu.ports.log import EventLog, TopicPartition
from hengliu.ports.warehouse import Warehouse

if TYPE_CHECKING:
    from api.live import Hub

__all__ = ["ApiLimits", "Commands", "Deps", "Intake", "Progress", "Receipt", "Stage", "Tokens"]


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
    concurrent_bodies: int = 64
    """Bodies of events held in memory at once; more wait ``queue_s``, then are told to come back (429)."""
    queue_s: float = 5.0
    page_rows: int = 1_000
    """Largest ``limit`` of a read."""
    after_s: float = 2.0
    """How long a read waits for ``after``."""
    live_clients: int = 200
    stalled_s: float = 15.0
    """A stage that is behind and has not moved for this long makes the process not ready."""


class Outcome(Protocol):
    """What became of one element."""

    @property
    def id(self) -> str | None: ...
    @property
    def source(self) -> str | None: ...
    @property
    def status(self) -> str: ...
    @property
    def problem(self) -> Any: ...


class Intake(Protocol):
    """``hengliu.intake``: validates, deduplicates and commits; returns after the commit."""

    async def submit(self, principal: Any, elements: Sequence[bytes]) -> Sequence[Outcome]: ...


class Tokens(Protocol):
    """``hengliu.rights.TokenStore``."""

    def authenticate(self, token: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where an accepted command's event stands: the record's partition and the position after it."""

    topic: str
    partition: int
    position: int


class Commands(Protocol):
    """Registrations. Returns when intake has read the event. Raises pydantic.ValidationError for data that does not fit."""

    async def register(self, principal: Any, type_: str, data: Mapping[str, Any]) -> Receipt: ...


class Progress(Protocol):
    """What the tables include: the projectors' committed positions, and a wait for them to move."""

    def positions(self) -> Mapping[TopicPartition, int]:
        """Position up to which each topic partition is in the tables (the least over the projectors that read it)."""
        ...

    async def wait_for(self, tp: TopicPartition, position: int, timeout_s: float) -> bool:
        """Wait until the tables include everything of ``tp`` before ``position``; False when the time is over."""
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
        commands: None where this process takes no registrations (the routes then answer 503).
        stages: watched by ``/readyz``.
        open_reading: whether a client on loopback reads without a token (the demo).
        allowed_hosts: Host names accepted beside the loopback ones.
    """

    catalog: Catalog
    intake: Intake
    warehouse: Warehouse
    log: EventLog
    tokens: Tokens
    clock: Clock
    queries: Mapping[str, Any]
    family_query: Callable[[Any], Any]
    run_query: Callable[..., Awaitable[Any]]
    progress: Progress
    hub: "Hub"
    partitions: int
    commands: Commands | None = None
    stages: Sequence[Stage] = ()
    limits: ApiLimits = field(default_factory=ApiLimits)
    meters: Meters = field(default_factory=Meters)
    open_reading: bool = False
    allowed_hosts: tuple[str, ...] = ()
    version: str = ""
