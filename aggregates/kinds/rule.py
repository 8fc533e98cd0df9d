"""A rule as data: versions count up, and what a version said is never changed."""

from aggregates.registration import InvariantViolated, Kind
from hengliu.events.families.registry import RulePublished


def _versions_count_up(latest: RulePublished, data: RulePublished) -> None:
    if data.version != latest.version + 1:
        raise InvariantViolated("rule-version", rule=latest.rule, expected=str(latest.version + 1), version=str(data.version))


RULE = Kind("rule.published", RulePublished, "rule", check_amendment=_versions_count_up)
