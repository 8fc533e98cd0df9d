"""The parameters that an operator judges by: its declared defaults, and over them the version in force.

An operator declares a *policy*, a frozen dataclass of int, str and Decimal fields with the rule's name and the version that
the defaults stand for::

    @dataclass(frozen=True, slots=True)
    class TarePolicy:
        rule: ClassVar[str] = "tare-drift"
        RULE_VERSION: ClassVar[int] = 1
        percent: int = parameter(5, unit="%", zh="允许偏差", en="Tolerance", minimum=1, maximum=100)

and asks, per record, ``policy_of(state, TarePolicy(), time)``: (policy, version), or None where the rule is retired.
"""

from collections.abc import Mapping
from dataclasses import Field, field, fields, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar, Final, Protocol, TypeVar

from hengliu.events.family import Text
from hengliu.reference.rules import Parameter, ParameterKind, Value
from streams.kernel.reference import Reference
from streams.kernel.state import State

__all__ = ["RulePolicy", "parameter", "parameters_of", "policy_in", "policy_of"]


class RulePolicy(Protocol):
    """What every policy is."""

    rule: ClassVar[str]
    RULE_VERSION: ClassVar[int]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


P = TypeVar("P", bound=RulePolicy)

_KINDS: Final[Mapping[type, ParameterKind]] = {int: "integer", Decimal: "decimal", str: "text"}
_DECLARED: Final = "parameter"


def parameter(
    default: Value,
    *,
    zh: str,
    en: str,
    unit: str = "",
    name: str = "",
    citation: str = "",
    minimum: Value | None = None,
    maximum: Value | None = None,
    choices: tuple[str, ...] = (),
    pattern: str = "",
) -> Any:
    """A policy's field with what people are told of it.

    Args:
        default: int, Decimal or str; its type is the parameter's.
        name: as published, where it cannot be the field's own name.
        minimum, maximum: bounds of a number, inclusive. A number without a minimum may be negative: state one.
        pattern: form of a text, a regular expression.
    """
    least, most = ("" if bound is None else str(bound) for bound in (minimum, maximum))
    declared = Parameter(name, _KINDS[type(default)], str(default), unit, Text(zh, en), citation, least, most, choices, pattern)
    return field(default=default, metadata={_DECLARED: declared})


@lru_cache(maxsize=256)
def _declared(policy: Any) -> tuple[tuple[str, Parameter], ...]:
    """(field, parameter as published) of a policy, its values as the defaults."""
    found: list[tuple[str, Parameter]] = []
    for f in fields(policy):
        value = getattr(policy, f.name)
        known: Parameter | None = f.metadata.get(_DECLARED)
        if known is None:
            known = Parameter(f.name, _KINDS[type(value)], str(value), "", Text(f.name, f.name))
        found.append((f.name, replace(known, name=known.name or f.name, default=str(value))))
    return tuple(found)


def parameters_of(policy: RulePolicy) -> tuple[Parameter, ...]:
    """The parameters that a policy declares, with its values as the defaults."""
    frozen: Any = policy  # so hashable; the protocol cannot say so
    return tuple(declared for _, declared in _declared(frozen))


@lru_cache(maxsize=1_024)
def _overridden(default: Any, published: tuple[tuple[str, str], ...]) -> Any:
    texts = dict(published)
    values: dict[str, Value] = {}
    for name, declared in _declared(default):
        value = declared.read(texts[declared.name]) if declared.name in texts else None
        if value is not None:
            values[name] = value
    return replace(default, **values)


def policy_in(reference: Reference, default: P, time: int) -> tuple[P, int] | None:
    """As ``policy_of``, where only the reference data is at hand."""
    published = reference.rule(default.rule, time)
    if published is None:
        return default, default.RULE_VERSION
    if published.status == "retired":
        return None
    frozen: Any = default
    policy: P = _overridden(frozen, tuple(published.parameters.items()))
    return policy, published.version


def policy_of(state: State, default: P, time: int) -> tuple[P, int] | None:
    """Policy and version of the rule at ``time`` (ms, event time); None: it is retired.

    Published parameters override the defaults by name. One that is not declared, or that cannot be read, does not count: the
    registry refuses such a version, but an operator goes on where one came another way.
    """
    return policy_in(state.reference, default, time)
