"""Versions of rules: made from the latest one, also when two people change a rule at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aggregates.registration import InvariantViolated
from aggregates.registry import Registry, event_store_environment
from hengliu.events.families.registry import RulePublished
from hengliu.ports.clock import ManualClock
from hengliu.reference.rules import RuleChange
from streams.rules.catalog import RULES_BY_NAME

NOW = 1_772_330_000_000


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry(event_store_environment("sqlite", str(tmp_path)), ManualClock(NOW), RULES_BY_NAME)
    yield opened
    opened.close()


def published(registry: Registry) -> list[RulePublished]:
    return [RulePublished.model_validate_json(n.payload) for n in registry.notifications(0)]


def test_a_change_keeps_what_it_does_not_name(registry: Registry) -> None:
    registry.change_rule("overload", RuleChange({"rigid-2": "17000"}, citation="试行"), "a")
    registry.change_rule("overload", RuleChange({"rigid-3": "24000"}), "b")
    registry.change_rule("overload", RuleChange(remove=("rigid-2",), status="retired"), "b")
    found = [(v.version, v.parameters, v.status, v.citation) for v in published(registry)]
    assert found == [
        (2, {"rigid-2": "17000"}, "active", "试行"),
        (3, {"rigid-2": "17000", "rigid-3": "24000"}, "active", "试行"),
        (4, {"rigid-3": "24000"}, "retired", "试行"),
    ]


def test_it_holds_when_every_task_has_it(registry: Registry) -> None:
    _, version = registry.change_rule("price", RuleChange({"min_peers": "4"}), "a")
    assert version is not None
    assert version.valid_from is not None
    assert version.valid_from.timestamp() * 1_000 == NOW + 2_000


def test_what_changes_nothing_publishes_nothing(registry: Registry) -> None:
    assert registry.change_rule("price", RuleChange(), "a")[1] is None
    assert registry.change_rule("price", RuleChange(status="active"), "a")[1] is None
    first, version = registry.change_rule("price", RuleChange({"min_peers": "4"}), "a")
    assert registry.change_rule("price", RuleChange({"min_peers": "4"}), "a") == (first, version)
    assert len(published(registry)) == 1


def test_changes_at_once_come_one_after_the_other(registry: Registry) -> None:
    """Each is made on top of those before it: none is lost, and no number is given twice."""
    names = ("rigid-2", "rigid-3", "rigid-4", "combination-3", "combination-4")
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: registry.change_rule("overload", RuleChange({name: "1000"}), name), names))
    found = published(registry)
    assert [v.version for v in found] == [2, 3, 4, 5, 6]
    assert found[-1].parameters == dict.fromkeys(names, "1000")


@pytest.mark.parametrize(
    ("rule", "change", "code"),
    [
        ("nothing", RuleChange(), "rule-unknown"),
        ("tickets", RuleChange(status="retired"), "rule-not-retirable"),
        ("overload", RuleChange({"rigid-5": "1"}), "rule-parameter-unknown"),
        ("overload", RuleChange({"rigid-2": "x"}), "rule-parameter-value"),
        ("overload", RuleChange(remove=("rigid-5",)), "rule-parameter-unknown"),
        ("sales-volume", RuleChange({"free_days": "tomorrow"}), "rule-parameter-value"),
    ],
)
def test_of_what_is_refused_nothing_is_stored(registry: Registry, rule: str, change: RuleChange, code: str) -> None:
    with pytest.raises(InvariantViolated) as refused:
        registry.change_rule(rule, change, "a")
    assert refused.value.code == code
    assert published(registry) == []
