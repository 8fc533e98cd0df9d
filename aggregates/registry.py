"""The registry: the application that takes registration commands.

One transaction saves all aggregates of one command. What must exist first (a site's enterprise, a device's site) is looked up
in the same event store.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.persistence import IntegrityError

from aggregates.kinds.device import DEVICE
from aggregates.kinds.district import DISTRICT
from aggregates.kinds.enterprise import ENTERPRISE
from aggregates.kinds.rule import RULE, check_rule, next_version
from aggregates.kinds.site import SITE
from aggregates.kinds.vehicle import VEHICLE
from aggregates.registration import InvariantViolated, Kind, Registration
from hengliu.events.families.registry import Registered as RegisteredData
from hengliu.events.families.registry import RulePublished
from hengliu.ports.clock import Clock
from hengliu.reference.rules import RuleChange, RuleDeclaration

__all__ = ["KINDS", "Notification", "Registry", "event_store_environment"]

KINDS: Mapping[str, Kind] = {kind.event_type: kind for kind in (DISTRICT, ENTERPRISE, SITE, DEVICE, VEHICLE, RULE)}
"""Registration type to kind. A new kind is one module and one name here."""

RETRIES = 16
"""How often a change of a rule is made again on top of one that came between."""


def event_store_environment(url: str, data_dir: str) -> dict[str, str]:
    """Settings of ``eventsourcing`` for ``sqlite`` or ``postgresql://user:password@host:port/db``.

    Raises:
        ValueError: neither.
    """
    if url == "sqlite":
        return {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": f"{data_dir}/registry.sqlite"}
    if url.startswith("postgresql://"):
        parts = urlsplit(url)
        return {
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": parts.path.lstrip("/"),
            "POSTGRES_HOST": parts.hostname or "127.0.0.1",
            "POSTGRES_PORT": str(parts.port or 5432),
            "POSTGRES_USER": unquote(parts.username or ""),
            "POSTGRES_PASSWORD": unquote(parts.password or ""),
        }
    raise ValueError(f"event store {url!r}: expected 'sqlite' or 'postgresql://user:password@host:port/db'")


@dataclass(frozen=True, slots=True)
class Notification:
    """One published event of the registry: its place in the store's total order, its payload as JSON, and who registered it
    (empty: stored before that was kept)."""

    id: int
    event_type: str
    payload: str
    time: datetime
    principal: str


class Registry(Application[UUID]):
    """Takes registrations, refuses what breaks an invariant, and tells what happened, in order.

    Args:
        rules: the declared rules by name: versions of others, or with parameters that they do not have, are refused. None:
            any rule may be published (a store without operators).
    """

    def __init__(self, env: Mapping[str, str], clock: Clock, rules: Mapping[str, RuleDeclaration] | None = None) -> None:
        super().__init__(env=env)
        self._clock = clock
        self._rules = rules

    def register(self, registrations: Sequence[tuple[str, Mapping[str, Any]]], principal: str) -> int:
        """Register or amend several things in one transaction; returns the last notification id to wait for.

        ``principal`` is the name of whoever registers.

        Raises:
            InvariantViolated: nothing of the command is stored.
            ValidationError: a payload is not what its family declares.
        """
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        touched: dict[UUID, Registration] = {}
        changed: list[Registration] = []
        for event_type, payload in registrations:
            kind = KINDS.get(event_type)
            if kind is None:
                raise InvariantViolated("unknown-registration", type=event_type)
            data = kind.data.model_validate(payload, strict=False)
            if isinstance(data, RulePublished) and self._rules is not None:
                check_rule(self._rules, data)
            self._check_reference(kind, data, touched)
            key = str(getattr(data, kind.key))
            id_ = Registration.create_id(event_type, key)
            known = touched.get(id_) or self._find(id_)
            if known is None:
                known = Registration(
                    event_type=event_type,
                    key=key,
                    payload=data.model_dump_json(exclude_none=True),
                    principal=principal,
                    timestamp=now,
                )
                changed.append(known)
            elif known.amend(kind, data, principal, now) and known not in changed:
                changed.append(known)
            touched[id_] = known
        if not changed:
            # Whoever repeats a command may not have had its first answer: it waits for all that is stored.
            return self.recorder.max_notification_id() or 0
        recordings = self.save(*changed)
        return max(recording.notification.id for recording in recordings)

    def change_rule(self, rule: str, change: RuleChange, principal: str) -> tuple[int, RulePublished | None]:
        """Publish the next version of a rule; returns the notification id to wait for, and the version that stands last.

        A change that changes nothing publishes nothing (None: and nothing was published before).

        Raises:
            InvariantViolated: nothing is stored.
        """
        for _ in range(RETRIES):
            # Somebody else's change may come between reading and storing: ours is made again, on top of it.
            try:
                return self._change_rule(rule, change, principal)
            except IntegrityError:
                continue
            except InvariantViolated as error:
                if error.code != "rule-version":
                    raise
        return self._change_rule(rule, change, principal)

    def _change_rule(self, rule: str, change: RuleChange, principal: str) -> tuple[int, RulePublished | None]:
        known = self._find(Registration.create_id(RULE.event_type, rule))
        latest = None if known is None else RulePublished.model_validate_json(known.payloads[-1])
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        version = next_version(self._rules or {}, rule, latest, change, now)
        if version is None:
            return self.recorder.max_notification_id() or 0, latest
        return self.register([(RULE.event_type, version.model_dump())], principal), version

    def _find(self, id_: UUID) -> Registration | None:
        try:
            found: Registration = self.repository.get(id_)
        except AggregateNotFoundError:
            return None
        return found

    def _check_reference(self, kind: Kind, data: RegisteredData, touched: Mapping[UUID, Registration]) -> None:
        if kind.requires is None:
            return
        member, event_type = kind.requires
        key = getattr(data, member)
        id_ = Registration.create_id(event_type, key)
        if id_ not in touched and self._find(id_) is None:
            raise InvariantViolated(f"{member}-unknown", **{member: key, "registering": str(getattr(data, kind.key))})

    def notifications(self, after: int, limit: int = 500) -> Iterator[Notification]:
        """What was stored after notification ``after``, in order.

        A tail reader instead of a subscription: the SQLite recorder has none, and one way serves both stores. On
        PostgreSQL ids are gap-free in commit order because inserts take a table lock (eventsourcing's default path).
        """
        for notification in self.recorder.select_notifications(start=after, limit=limit, inclusive_of_start=False):
            stored: Any = self.mapper.to_domain_event(notification)
            yield Notification(notification.id, stored.event_type, stored.payload, stored.timestamp, stored.principal)
