"""Rules over HTTP: declared, changed, retired, activated; refusals in both languages; who may."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aggregates.outbox import SOURCE
from hengliu.events.envelope import encode_event
from hengliu.rights import PLATFORM
from tests.api.conftest import Running
from tests.api.test_events import event, post
from tests.api.test_reads import get_after

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def command(
    api: Running, rule: str, what: str, body: dict[str, Any], language: str = "en", who: str = "registrar"
) -> Any:
    return await api.client.post(
        f"/v1/registry/rules/{rule}/{what}", json=body, headers={**api.bearer(who), "Accept-Language": language}
    )


async def versions(api: Running, rule: str, after: str) -> list[dict[str, Any]]:
    read = await get_after(api, f"/v1/registry/rules?rule={rule}", after)
    found: list[dict[str, Any]] = read.json()["items"]
    return found


async def test_declared_rules_say_what_their_parameters_are(api: Running) -> None:
    rules = {r["rule"]: r for r in (await api.client.get("/v1/rules", headers=api.bearer("everything"))).json()["items"]}
    assert {"tickets", "overload", "sales-volume", "price"} <= set(rules)
    six = next(p for p in rules["overload"]["parameters"] if p["name"] == "combination-6")
    assert (six["default"], six["unit"], six["kind"]) == ("49000", "kg", "integer")
    assert six["title"]["zh"] != six["title"]["en"]
    assert "第三条" in six["citation"]
    assert (await api.client.get("/v1/rules", headers=api.bearer("device"))).status_code == 403


async def test_a_life_of_changes_retirement_and_return(api: Running) -> None:
    changed = await command(api, "sales-volume", "change", {"parameters": {"raise_score": "50"}, "citation": "试行"})
    assert changed.status_code == 201, changed.text
    stands = changed.json()["version"]
    assert (stands["version"], stands["parameters"], stands["status"]) == (2, {"raise_score": "50"}, "active")
    lead = datetime.fromisoformat(stands["valid_from"]) - datetime.now(UTC)
    assert timedelta(seconds=-60) < lead <= timedelta(seconds=2), "it holds soon, and not before"
    retired = await command(api, "sales-volume", "retire", {})
    assert retired.json()["version"]["status"] == "retired"
    assert retired.json()["version"]["parameters"] == {"raise_score": "50"}
    back = await command(api, "sales-volume", "activate", {"parameters": {"low_percent": "60"}, "remove": ["raise_score"]})
    assert back.json()["version"] | {"valid_from": ""} == {
        "rule": "sales-volume", "version": 4, "parameters": {"low_percent": "60"}, "citation": "试行", "status": "active",
        "valid_from": "",
    }  # fmt: skip
    again = await command(api, "sales-volume", "activate", {})
    assert again.status_code == 201
    assert again.json()["version"]["version"] == 4, "what changes nothing publishes nothing"
    found = await versions(api, "sales-volume", back.json()["after"])
    assert [(v["version"], v["status"]) for v in found] == [(2, "active"), (3, "retired"), (4, "active")]


@pytest.mark.parametrize(
    ("rule", "what", "body", "status", "code"),
    [
        ("no-such", "retire", {}, 409, "registration-rule-unknown"),
        ("tickets", "retire", {}, 409, "registration-rule-not-retirable"),
        ("overload", "change", {"parameters": {"rigid-9": "1"}}, 409, "registration-rule-parameter-unknown"),
        ("overload", "change", {"remove": ["rigid-9"]}, 409, "registration-rule-parameter-unknown"),
        ("overload", "change", {"parameters": {"rigid-2": "18 t"}}, 409, "registration-rule-parameter-value"),
        ("overload", "change", {"parameters": {"rigid-2": "-1"}}, 409, "registration-rule-parameter-value"),
        ("overload", "change", {"parameters": {"rigid-2": 18_000}}, 400, "registration-invalid"),
        ("overload", "change", {"valid_from": "soon"}, 400, "registration-invalid"),
        ("overload", "change", {"unheard": 1}, 400, "registration-invalid"),
    ],
)
async def test_what_does_not_fit_is_refused_in_both_languages(
    api: Running, rule: str, what: str, body: dict[str, Any], status: int, code: str
) -> None:
    details = set()
    for language in ("zh", "en"):
        answer = await command(api, rule, what, body, language)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        details.add(answer.json()["detail"])
        assert "{" not in answer.json()["detail"]
    assert len(details) == 2


async def test_a_published_version_is_held_to_the_same(api: Running) -> None:
    async def publish(**data: Any) -> Any:
        return await api.client.post("/v1/registry/rules", json=data, headers=api.bearer("registrar"))

    assert (await publish(rule="nothing", version=1, parameters={})).json()["code"] == "registration-rule-unknown"
    wrong = await publish(rule="price", version=1, parameters={"min_peers": "5"})
    assert wrong.json()["code"] == "registration-rule-version", "version 1 is what the code declares"
    assert (await publish(rule="price", version=2, parameters={"min_peers": "5"})).status_code == 201


@pytest.mark.parametrize("who", ["device", "reader"])
async def test_only_registrars_and_administrators_change_rules(api: Running, who: str) -> None:
    assert (await command(api, "overload", "retire", {}, who=who)).status_code == 403


async def test_of_an_effective_time_in_the_past_nothing_is_stored(api: Running) -> None:
    await command(api, "overload", "change", {"parameters": {"rigid-2": "18001"}})
    answer = await command(
        api, "overload", "change", {"parameters": {"rigid-2": "17000"}, "valid_from": "2020-01-01T00:00:00Z"}
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "registration-valid-from-past")


async def test_a_registry_event_that_somebody_else_numbered_ends_nothing(api: Running) -> None:
    """Whoever holds the platform's token can post in the registry's name; commands must go on."""
    data = {"division": "150399", "name": "别处", "name_en": "Elsewhere"}
    value = encode_event("district.registered", SOURCE, "by-hand", 1_795_000_000_000, data)
    outcomes = await api.intake.submit(PLATFORM, [value])
    assert [str(one.status) for one in outcomes] == ["accepted"]
    changed = await command(api, "idle-zero", "change", {"parameters": {"tolerance_kg": "60"}})
    assert changed.status_code == 201, changed.text
    assert not any(task.done() for task in api.tasks)


async def test_a_version_posted_as_an_event_is_held_to_what_its_rule_declares(api: Running) -> None:
    async def posted(language: str = "en", who: str = "rules", **data: Any) -> Any:
        sent = event(type="rule.published", source="urn:dev:org:32473-rules", data=data)
        answer = await post(api, sent, who=who, **{"Accept-Language": language})
        return answer.json()["results"][0]

    bad: dict[tuple[str, str], dict[str, Any]] = {
        ("/data/rule", "rule-unknown"): {"rule": "nothing", "version": 2, "parameters": {}},
        ("/data/parameters/rigid-9", "rule-parameter-unknown"): {
            "rule": "overload", "version": 9, "parameters": {"rigid-2": "18000", "rigid-9": "1"},
        },
        ("/data/parameters/rigid-2", "rule-parameter-value"): {
            "rule": "overload", "version": 9, "parameters": {"rigid-2": "18 t"},
        },
        ("/data/parameters/clear_percent", "rule-parameter-value"): {
            "rule": "anomaly", "version": 9, "parameters": {"clear_percent": "101"},
        },
        ("/data/status", "rule-not-retirable"): {"rule": "tickets", "version": 9, "parameters": {}, "status": "retired"},
        ("/data/version", "rule-version"): {"rule": "price", "version": 1, "parameters": {"min_peers": "5"}},
    }  # fmt: skip
    for (pointer, code), data in bad.items():
        told = []
        for language in ("zh", "en"):
            result = await posted(language, **data)
            assert result["status"] == "refused", result
            problem = result["problem"]
            assert (problem["code"], problem["pointer"]) == ("data-invalid", pointer)
            assert [(e["pointer"], e["code"]) for e in problem["errors"]] == [(pointer, code)]
            assert "{" not in problem["detail"]
            told.append(problem["errors"][0]["detail"])
        assert re.search("[\u4e00-\u9fff]", told[0])
        assert not re.search("[\u4e00-\u9fff]", told[1])
    both = await posted(rule="overload", version=9, parameters={"rigid-2": "heavy", "axle~/x": "1"})
    pointers = [e["pointer"] for e in both["problem"]["errors"]]
    assert pointers == ["/data/parameters/rigid-2", "/data/parameters/axle~0~1x"]
    assert api.intake.counts.refused["data-invalid"] == 2 * len(bad) + 1
    good = await posted(rule="weight-curve", version=2, parameters={})
    assert good["status"] == "accepted", good
    assert (await posted(who="device", rule="overload", version=9, parameters={"x": "1"}))["problem"][
        "code"
    ] == "registrar-only"


async def test_what_the_registry_took_is_published_whatever_is_declared_now(api: Running) -> None:
    """The outbox stops at a refusal: a version that an earlier release checked must not be one."""
    value = encode_event(
        "rule.published", SOURCE, "of-earlier", 1_795_000_000_000, {"rule": "gone", "version": 2, "parameters": {"x": "1"}}
    )
    assert [str(one.status) for one in await api.intake.submit(PLATFORM, [value])] == ["accepted"]
