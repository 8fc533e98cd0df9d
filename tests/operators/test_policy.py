"""A rule's parameters as operators see them: declared defaults, and over them the version in force."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

import pytest

from hengliu.events.families.registry import RulePublished
from hengliu.reference.rules import RuleDeclaration
from streams.kernel.state import State, StateStore
from streams.rules.catalog import RULES
from streams.rules.policy import parameter, parameters_of, policy_of
from tests.operators.laws import reference_of
from tests.operators.strategies import BASE, HOUR


@dataclass(frozen=True, slots=True)
class Policy:
    rule: ClassVar[str] = "test"
    RULE_VERSION: ClassVar[int] = 1
    limit_kg: int = parameter(100, unit="kg", zh="限值", en="Limit", minimum=0, maximum=1_000)
    share: Decimal = parameter(Decimal("0.5"), zh="比例", en="Share", minimum=0, maximum=1, name="the-share")
    detector: str = parameter("mad", zh="方法", en="Detector", choices=("mad", "level"))
    plain: int = 7


def judged(time: int, *published: RulePublished, default: Policy = Policy()) -> tuple[Policy, int] | None:
    return policy_of(State("o", StateStore({}), reference_of(published)), default, time)


def test_without_a_version_the_declared_defaults_hold() -> None:
    assert judged(BASE) == (Policy(), 1)
    assert judged(BASE, default=Policy(limit_kg=3)) == (Policy(limit_kg=3), 1)


def test_a_version_overrides_by_name_from_its_valid_from_on() -> None:
    rule = RulePublished.model_validate_json(
        '{"rule": "test", "version": 4, "valid_from": "2026-03-01T03:00:00Z",'
        ' "parameters": {"limit_kg": "250", "the-share": "0.25", "detector": "level"}}'
    )
    assert judged(BASE, rule) == (Policy(), 1)
    assert judged(BASE + HOUR, rule) == (Policy(250, Decimal("0.25"), "level"), 4)


@pytest.mark.parametrize(
    "parameters",
    [{"limit_kg": "x"}, {"limit_kg": "1.5"}, {"limit_kg": "1001"}, {"limit_kg": "-1"}, {"limit_kg": ""}, {"limit_kg": "１"},
     {"share": "0.1"}, {"the-share": "1e-3"}, {"the-share": "NaN"}, {"detector": "other"}, {"unheard-of": "1"}],
)  # fmt: skip
def test_what_cannot_be_read_keeps_the_default_and_names_the_version(parameters: dict[str, str]) -> None:
    assert judged(BASE, RulePublished(rule="test", version=2, parameters=parameters)) == (Policy(), 2)


def test_a_retired_rule_has_no_policy_until_it_is_active_again() -> None:
    versions = [
        RulePublished.model_validate_json(
            f'{{"rule": "test", "version": {n}, "parameters": {{}}, "status": "{status}", "valid_from": "{time}"}}'
        )
        for n, status, time in [(2, "retired", "2026-03-01T02:30:00Z"), (3, "active", "2026-03-01T03:00:00Z")]
    ]
    assert judged(BASE, *versions) == (Policy(), 1)
    assert judged(BASE + HOUR // 2, *versions) is None
    assert judged(BASE + HOUR, *versions) == (Policy(), 3)


def test_parameters_are_declared_in_order_with_their_kinds() -> None:
    found = [(p.name, p.kind, p.default, p.unit, p.minimum, p.maximum) for p in parameters_of(Policy())]
    assert found == [
        ("limit_kg", "integer", "100", "kg", "0", "1000"), ("the-share", "decimal", "0.5", "", "0", "1"),
        ("detector", "text", "mad", "", "", ""), ("plain", "integer", "7", "", "", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("declared", RULES, ids=lambda d: d.rule)
def test_every_rule_says_what_its_parameters_are(declared: RuleDeclaration) -> None:
    assert "" not in (declared.title.zh, declared.title.en)
    assert () not in (declared.codes, declared.operators)
    assert declared.warm_up_s >= 0
    names = [p.name for p in declared.parameters]
    assert len(set(names)) == len(names)
    for p in declared.parameters:
        assert p.title.zh != p.title.en, (
            f"{declared.rule}/{p.name} has no titles: declare it with streams.rules.policy.parameter"
        )
        assert p.kind == "text" or p.minimum, f"{declared.rule}/{p.name} has no minimum"
        assert p.read(p.default) is not None, f"{declared.rule}/{p.name}: its default is out of its own bounds"
