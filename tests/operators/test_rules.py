"""Default rules are what operators do without any."""

from hypothesis import given, settings

from streams.operators.overload import Overload
from streams.operators.tickets import Tickets
from streams.rules.catalog import DEFAULT_RULES
from tests.operators.laws import Input, run
from tests.operators.strategies import BASE, DAY, SITES, VEHICLES, weighings


@given(weighings())
@settings(max_examples=60, deadline=None)
def test_publishing_the_defaults_changes_no_verdict(inputs: list[Input]) -> None:
    operators = (Tickets(), Overload())
    until = (inputs[-1].received if inputs else BASE) + 2 * DAY

    def verdicts(*rules: object) -> list[tuple[str, int, dict[str, object]]]:
        found = run(operators, inputs, until, [*SITES, *VEHICLES, *rules])  # type: ignore[list-item]
        return [(e.id, e.emit.at, {k: v for k, v in e.emit.data.items() if k != "rule_version"}) for e in found.emitted]

    assert verdicts(*DEFAULT_RULES) == verdicts()


def test_default_rules_have_distinct_names() -> None:
    assert len({rule.rule for rule in DEFAULT_RULES}) == len(DEFAULT_RULES)
