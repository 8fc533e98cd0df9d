"""The aggregate behind everything that is registered: a key, and one payload a version, each valid from a time on."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID, uuid5

from eventsourcing.domain import Aggregate, event

from hengliu.events.families.registry import Registered as RegisteredData

__all__ = ["InvariantViolated", "Kind", "Registration"]

_NAMESPACE = UUID("6f1c2d7e-5d5b-5c6e-9a55-8f1e2b7c4d10")

Model: TypeAlias = type[RegisteredData]


class InvariantViolated(Exception):
    """A command that the registry refuses. ``code`` is looked up in the catalogue of problems; ``parameters`` fill it."""

    def __init__(self, code: str, **parameters: str) -> None:
        super().__init__(f"{code}: {parameters}")
        self.code = code
        self.parameters = parameters


def _anything_goes(latest: Any, data: Any) -> None:
    """Most kinds have no invariant between versions beyond ``valid_from``."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What can be registered.

    Attributes:
        event_type: the family that publishes it.
        data: the family's payload.
        key: member that identifies one thing of the kind.
        requires: member that names something that must be registered first, and the event type of that.
        check_amendment: raises InvariantViolated if the second payload may not follow the first.
    """

    event_type: str
    data: Model
    key: str
    requires: tuple[str, str] | None = None
    check_amendment: Callable[[Any, Any], None] = _anything_goes


class Registration(Aggregate):
    """One registered thing. Explicit topics keep stored events readable when a class or module is renamed."""

    TOPIC = "registry:Registration"

    class Created(Aggregate.Created):
        TOPIC = "registry:Registered"
        class_version = 2
        event_type: str
        key: str
        payload: str
        principal: str

        @staticmethod
        def upcast_v1_v2(state: dict[str, Any]) -> None:
            state["principal"] = ""

    class Amended(Aggregate.Event):
        TOPIC = "registry:Amended"
        class_version = 2
        event_type: str
        payload: str
        principal: str

        @staticmethod
        def upcast_v1_v2(state: dict[str, Any]) -> None:
            state["principal"] = ""

    # ``timestamp`` is the library's own member: given here, it is not read from the machine's clock.
    @event(Created)
    def __init__(self, event_type: str, key: str, payload: str, principal: str, timestamp: datetime) -> None:
        self.event_type = event_type
        self.key = key
        self.payloads = [payload]

    @staticmethod
    def create_id(event_type: str, key: str) -> UUID:
        """The same thing has the same id in every store."""
        return uuid5(_NAMESPACE, f"{event_type}/{key}")

    def amend(self, kind: Kind, data: RegisteredData, principal: str, now: datetime) -> bool:
        """A new version, valid from ``data.valid_from``, in the name of ``principal``. False when nothing differs from the
        latest one.

        Raises:
            InvariantViolated: ``valid-from-missing`` or ``valid-from-past``: only a first registration may reach back,
                because operators join by valid-from and must not have to recompute silently; or the kind's own invariant.
        """
        latest = kind.data.model_validate_json(self.payloads[-1])
        if data == latest:
            return False
        if data.valid_from is None:
            raise InvariantViolated("valid-from-missing", key=self.key)
        if data.valid_from < now:
            raise InvariantViolated("valid-from-past", key=self.key, valid_from=data.valid_from.isoformat())
        kind.check_amendment(latest, data)
        self._amend(self.event_type, data.model_dump_json(exclude_none=True), principal, now)
        return True

    @event(Amended)
    def _amend(self, event_type: str, payload: str, principal: str, timestamp: datetime) -> None:
        self.payloads.append(payload)
