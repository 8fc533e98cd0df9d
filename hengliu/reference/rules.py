"""What a rule declares of itself, and whether a version that somebody publishes fits.

A rule's parameters travel as text in ``rule.published``; here stands how each is read. The list of declared rules is
``streams.rules.catalog.RULES``: whoever needs it (the registry that refuses, the API that shows) is given it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

from hengliu.events.family import Text

__all__ = [
    "FAULT_TEXTS",
    "Fault",
    "Parameter",
    "ParameterKind",
    "RuleChange",
    "RuleDeclaration",
    "RuleStatus",
    "Value",
    "faults_of_version",
]

Value = int | str | Decimal
ParameterKind = Literal["integer", "decimal", "text"]
RuleStatus = Literal["active", "retired"]

_INTEGER: Final = re.compile(r"-?[0-9]{1,15}")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,9})?")
_TEXT_LENGTH: Final = 256

FAULT_TEXTS: Final[Mapping[str, Text]] = {
    "rule-unknown": Text("没有规则“{rule}”，可用：{known}", "There is no rule “{rule}”; there are: {known}"),
    "rule-not-retirable": Text("规则“{rule}”不可停用", "The rule “{rule}” cannot be retired"),
    "rule-version": Text(
        "规则“{rule}”的版本 {version} 即缺省值，改动须从 {expected} 起编号",
        "Version {version} of the rule “{rule}” is what the code declares; a change is numbered from {expected} on",
    ),
    "rule-parameter-unknown": Text(
        "规则“{rule}”没有参数“{name}”，可用：{known}", "The rule “{rule}” has no parameter “{name}”; it has: {known}"
    ),
    "rule-parameter-value": Text(
        "规则“{rule}”的参数“{name}”不能取“{value}”：应为{expected_zh}",
        "The parameter “{name}” of the rule “{rule}” cannot be “{value}”: {expected_en}",
    ),
}
"""Code to words, for whoever refuses a version or a parameter."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a published version does not fit. ``code`` stands in ``FAULT_TEXTS``; ``parameters`` fill it; ``member`` is what is
    at fault, from the payload's top down."""

    code: str
    parameters: Mapping[str, str]
    member: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a rule.

    Attributes:
        name: as published.
        kind: how its text is read.
        default: what holds where no version names it, as text.
        unit: ``kg``, ``s``, ``%``, ``fen/t``; empty for a count or a name.
        title: what it is, for people.
        citation: standard and clause, where one fixes it; empty: the platform's own choice.
        minimum, maximum: bounds of a number, inclusive, as text; empty: none.
        choices: the values that a text may have; empty: any of at most 256 characters.
        pattern: form of a text, a regular expression; empty: any.
    """

    name: str
    kind: ParameterKind
    default: str
    unit: str
    title: Text
    citation: str = ""
    minimum: str = ""
    maximum: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""

    def read(self, text: str) -> Value | None:
        """The value, or None where the text is not one that the parameter can have."""
        if self.kind == "text":
            fits = text in self.choices if self.choices else len(text) <= _TEXT_LENGTH
            fits = fits and (not self.pattern or re.fullmatch(self.pattern, text) is not None)
            return text if fits else None
        if (_INTEGER if self.kind == "integer" else _DECIMAL).fullmatch(text) is None:
            return None
        value = int(text) if self.kind == "integer" else Decimal(text)
        if (self.minimum and value < Decimal(self.minimum)) or (self.maximum and value > Decimal(self.maximum)):
            return None
        return value

    @property
    def expected(self) -> Text:
        """What it takes, for people: ``whole number, 1 to 100 %``."""
        if self.choices:
            listed = ", ".join(self.choices)
            return Text(f"下列之一：{listed}", f"one of {listed}")
        zh, en = {"integer": ("整数", "whole number"), "decimal": ("小数", "decimal"), "text": ("文字", "text")}[self.kind]
        unit = f" {self.unit}" if self.unit else ""
        if self.minimum and self.maximum:
            return Text(f"{zh}，{self.minimum} 至 {self.maximum}{unit}", f"{en}, {self.minimum} to {self.maximum}{unit}")
        if self.minimum:
            return Text(f"{zh}，不小于 {self.minimum}{unit}", f"{en}, at least {self.minimum}{unit}")
        return Text(f"{zh}{unit}", f"{en}{unit}")


@dataclass(frozen=True, slots=True)
class RuleDeclaration:
    """One rule as the code declares it.

    Attributes:
        rule: its name.
        title: what it watches, for people.
        version: the version that the defaults stand for; what is published counts from there.
        parameters: every parameter that an operator reads.
        codes: warning codes that name the rule.
        operators: names of the operators that read it.
        warm_up_s: how much recorded time before a back-test's beginning its operators need to be in the state that they
            would have been in.
        citation: where the rule comes from.
        retirable: whether it may be retired. Pairing tickets is no judgement that can be left off.
    """

    rule: str
    title: Text
    version: int
    parameters: tuple[Parameter, ...]
    codes: tuple[str, ...]
    operators: tuple[str, ...]
    warm_up_s: int
    citation: str = ""
    retirable: bool = True

    @property
    def defaults(self) -> dict[str, str]:
        return {p.name: p.default for p in self.parameters}

    def faults(self, parameters: Mapping[str, str]) -> Iterator[Fault]:
        """What does not fit: names that are not declared, texts that are no value of their parameter."""
        declared = {p.name: p for p in self.parameters}
        for name, text in parameters.items():
            parameter = declared.get(name)
            if parameter is None:
                known = ", ".join(declared)
                unknown = {"rule": self.rule, "name": name[:64], "known": known}
                yield Fault("rule-parameter-unknown", unknown, ("parameters", name))
            elif parameter.read(text) is None:
                expected = parameter.expected
                yield Fault(
                    "rule-parameter-value",
                    {
                        "rule": self.rule, "name": name, "value": text[:64], "expected_zh": expected.zh,
                        "expected_en": expected.en,
                    },
                    ("parameters", name),
                )  # fmt: skip


def faults_of_version(rules: Mapping[str, RuleDeclaration], data: Mapping[str, Any]) -> Iterator[Fault]:
    """What does not fit in a valid payload of ``rule.published``: a rule, a parameter or a value that is not declared, the
    retirement of one that cannot be retired, other parameters under the number that stands for the defaults.

    Whether versions follow each other is not seen here: that takes the versions before it (``aggregates``).
    """
    declared = rules.get(data["rule"])
    if declared is None:
        yield Fault("rule-unknown", {"rule": data["rule"], "known": ", ".join(rules)}, ("rule",))
        return
    faults = list(declared.faults(data["parameters"]))
    yield from faults
    active = data.get("status", "active") == "active"
    if not active and not declared.retirable:
        yield Fault("rule-not-retirable", {"rule": declared.rule}, ("status",))
    as_declared = {**declared.defaults, **data["parameters"]} == declared.defaults and active
    if not faults and data["version"] <= declared.version and not as_declared:
        numbers = {"expected": str(declared.version + 1), "version": str(data["version"])}
        yield Fault("rule-version", {"rule": declared.rule, **numbers}, ("version",))


@dataclass(frozen=True, slots=True)
class RuleChange:
    """What a person asks of a rule; the registry makes the next version of it.

    Attributes:
        parameters: those that become others; the rest of the latest version stays.
        remove: those that go back to the declared default.
        status: what it becomes; None: as it is.
        citation: of the new version; None: as it is.
        valid_from: None: as soon as everybody has it.
    """

    parameters: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    status: RuleStatus | None = None
    citation: str | None = None
    valid_from: datetime | None = None
