"""A rule as data: versions count up, what a version said is never changed, and only what the code declares can be set."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from aggregates.registration import InvariantViolated, Kind
from hengliu.events.families.registry import RulePublished
from hengliu.reference.rules import RuleChange, RuleDeclaration, faults_of_version

__all__ = ["RULE", "check_rule", "next_version"]

LEAD: Final = timedelta(seconds=2)
"""How long after the command a version holds that names no time: by then its event has reached every task, so that each record
of that time is judged by it."""


def _versions_count_up(latest: RulePublished, data: RulePublished) -> None:
    if data.version != latest.version + 1:
        raise InvariantViolated("rule-version", rule=latest.rule, expected=str(latest.version + 1), version=str(data.version))


RULE = Kind("rule.published", RulePublished, "rule", check_amendment=_versions_count_up)


def _declared(rules: Mapping[str, RuleDeclaration], rule: str) -> RuleDeclaration:
    declared = rules.get(rule)
    if declared is None:
        raise InvariantViolated("rule-unknown", rule=rule, known=", ".join(rules))
    return declared


def check_rule(rules: Mapping[str, RuleDeclaration], data: RulePublished) -> None:
    """What must hold of every version.

    Raises:
        InvariantViolated: ``rule-unknown``, ``rule-parameter-unknown``, ``rule-parameter-value``, ``rule-not-retirable``, or
            ``rule-version``: the version whose number stands for the defaults says something else.
    """
    for fault in faults_of_version(rules, data.model_dump()):
        raise InvariantViolated(fault.code, **fault.parameters)


def next_version(
    rules: Mapping[str, RuleDeclaration], rule: str, latest: RulePublished | None, change: RuleChange, now: datetime
) -> RulePublished | None:
    """The version that a change makes, or None where it changes nothing.

    Raises:
        InvariantViolated: ``rule-unknown``, or ``rule-parameter-unknown`` of a parameter to remove.
    """
    declared = _declared(rules, rule)
    for name in change.remove:
        for fault in declared.faults({name: declared.defaults.get(name, "")}):
            raise InvariantViolated(fault.code, **fault.parameters)
    before = latest if latest is not None else RulePublished(rule=rule, version=max(declared.version, 1), parameters={})
    parameters = {name: text for name, text in before.parameters.items() if name not in change.remove}
    after = before.model_copy(
        update={
            "parameters": {**parameters, **change.parameters},
            "status": change.status or before.status,
            "citation": before.citation if change.citation is None else change.citation,
        }
    )
    if after == before:
        return None
    return after.model_copy(
        update={
            "version": max(declared.version, latest.version if latest is not None else 0) + 1,
            "valid_from": change.valid_from if change.valid_from is not None else now + LEAD,
        }
    )
