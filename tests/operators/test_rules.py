"""Default rules are what operators do without any."""

from pathlib import Path

from hypothesis import given, settings

from streams.operators.catalog import GROUPS
from streams.operators.meters import SEVERITY
from streams.operators.overload import Overload
from streams.operators.stock import BELT_CODES
from streams.operators.tickets import Tickets
from streams.rules.catalog import DEFAULT_RULES, RULES
from tests.operators.laws import Input, run
from tests.operators.strategies import BASE, DAY, SITES, VEHICLES, weighings

SCALE_RULES = ("plate-match", "repeated-weighing", "tare-drift", "weight-curve", "idle-zero", "calibration")


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


def test_the_document_names_every_operator_group_and_parameter() -> None:
    text = Path(__file__).parents[2].joinpath("docs", "operators.md").read_text(encoding="utf-8")
    names = {o.name for g in GROUPS for o in g.operators} | {g.name for g in GROUPS} | {t for g in GROUPS for t in g.inputs}
    names |= {t for g in GROUPS for o in g.operators for t in o.emits if not t.startswith("warning.")}
    judged = [d for d in RULES if d.rule in ("tickets", "sales-volume", "price", "shipment", "position", *SCALE_RULES)]
    names |= {d.rule for d in judged}
    names |= {*SEVERITY, *(code for code, _ in BELT_CODES.values())}
    assert {name for name in names if name not in text} == set()
    for declared in judged:
        for name, value in declared.defaults.items():
            told = name == "alike" or name.startswith("index_") or f"`{name}` {value}" in text
            assert told, "a default in the document is stale"
