"""Rules: what the code declares, and the commands that change, activate and retire one.

The versions that were published are a read like any other (``GET /v1/registry/rules``).
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from aggregates.registration import InvariantViolated
from api.access import deps_of, require, require_reader
from api.encode import json_response
from api.ingest import field_faults, json_object, push_back
from api.problems import Problem, Refusal
from hengliu.events.families.common import UtcTime, labelled
from hengliu.events.family import EventData, Text
from hengliu.reference.rules import RuleChange, RuleDeclaration, RuleStatus
from hengliu.rights import Role

__all__ = ["COMMANDS", "RuleCommand", "change", "get_rules"]


class RuleCommand(EventData):
    """The body of a command on a rule."""

    parameters: dict[str, str] = labelled("参数", "Parameters", {})
    remove: list[str] = labelled("恢复缺省的参数", "Parameters to return to their defaults", [], max_length=64)
    citation: str | None = labelled("依据", "Citation", None, max_length=512)
    valid_from: UtcTime | None = labelled("生效时间", "Valid from", None)


COMMANDS: Final[tuple[tuple[str, RuleStatus | None, str, Text], ...]] = (
    ("/v1/registry/rules/{rule}/change", None, "changeRule", Text("变更规则参数", "Change a rule's parameters")),
    ("/v1/registry/rules/{rule}/activate", "active", "activateRule", Text("启用规则", "Activate a rule")),
    ("/v1/registry/rules/{rule}/retire", "retired", "retireRule", Text("停用规则", "Retire a rule")),
)
"""Path, what the status becomes, operation, title."""


async def get_rules(request: Request) -> Response:
    """Every declared rule with its parameters."""
    require_reader(request)
    return json_response({"items": [_declared(rule) for rule in deps_of(request).rules]})


def _declared(rule: RuleDeclaration) -> dict[str, Any]:
    def both(text: Text) -> dict[str, str]:
        return {"zh": text.zh, "en": text.en}

    return {
        "rule": rule.rule,
        "title": both(rule.title),
        "version": rule.version,
        "citation": rule.citation,
        "codes": rule.codes,
        "operators": rule.operators,
        "retirable": rule.retirable,
        "warm_up_s": rule.warm_up_s,
        "parameters": [
            {
                "name": p.name,
                "kind": p.kind,
                "default": p.default,
                "unit": p.unit,
                "title": both(p.title),
                "expected": both(p.expected),
                "citation": p.citation,
            }
            for p in rule.parameters
        ],
    }


def change(status: RuleStatus | None) -> Callable[[Request], Awaitable[Response]]:
    """The handler of one command."""

    async def handle(request: Request) -> Response:
        principal = require(request, Role.REGISTRAR, Role.ADMIN)
        deps = deps_of(request)
        body = await json_object(request, deps)
        try:
            command = RuleCommand.model_validate_json(orjson.dumps(body))
        except ValidationError as error:
            faults = tuple(field_faults(error))
            raise Refusal(Problem("registration-invalid", {"count": str(error.error_count())}, errors=faults)) from error
        if deps.commands is None:
            raise push_back("unavailable", 5)
        asked = RuleChange(command.parameters, tuple(command.remove), status, command.citation, command.valid_from)
        try:
            receipt, version = await deps.commands.change_rule(principal, request.path_params["rule"], asked)
        except InvariantViolated as error:
            raise Refusal(Problem(f"registration-{error.code}", error.parameters)) from error
        except TimeoutError as error:
            raise push_back("unavailable", 5) from error
        after = f"{receipt.topic}/{receipt.partition}/{receipt.position}"
        stands = {} if version is None else version.model_dump(mode="json", exclude_none=True)
        document = {"topic": receipt.topic, "partition": receipt.partition, "position": receipt.position, "after": after}
        return json_response({**document, "version": stands}, 201)

    return handle
