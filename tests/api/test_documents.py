"""Generated documents: valid, complete, and not stale."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from openapi_spec_validator import validate

from api.app import ROUTES, create_app
from api.generate import DOCUMENTS, generated
from api.openapi import openapi_document
from api.schemas import asyncapi_document, event_schema, example_event
from hengliu.events.catalog import Catalog
from hengliu.events.family import Writer
from hengliu.events.topics import TOPICS
from tests.api.conftest import Running
from tests.api.test_events import post

ROOT = Path(__file__).parents[2]
CATALOG = Catalog()


def document() -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads(generated("openapi.json"))
    return made


def test_committed_documents_are_not_stale() -> None:
    for name in DOCUMENTS:
        committed = (ROOT / "docs" / "generated" / name).read_bytes()
        assert committed == generated(name), f"python -m api.generate writes {name} anew"


def test_openapi_is_valid() -> None:
    validate(document())


def test_openapi_names_exactly_the_routes() -> None:
    named = {
        (method.upper(), path): op["operationId"] for path, item in document()["paths"].items() for method, op in item.items()
    }
    assert named == {(e.method, e.path): e.operation for e in ROUTES}


def test_every_reference_in_the_documents_leads_somewhere() -> None:
    for name in (n for n in DOCUMENTS if n.endswith(".json")):
        made = orjson.loads(generated(name))
        for pointer in set(re.findall(rb'"\$ref": ?"#/([^"]+)"', generated(name))):
            target = made
            for step in pointer.decode().split("/"):
                target = target[step]


def test_every_operation_says_what_it_answers() -> None:
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            responses = operation["responses"]
            assert any(code.startswith("2") for code in responses), (method, path)
            assert "503" in responses
            assert not [code for code in responses if code.startswith("5") and code != "503"]
            assert operation["summary"]
            assert operation["x-summary-en"]
            if method == "post":
                assert {"401", "403", "413"} <= set(responses), path


def test_asyncapi_has_a_channel_for_every_topic_and_a_message_for_every_type() -> None:
    made = asyncapi_document(CATALOG, "0")
    assert made["asyncapi"].startswith("3.0")
    assert set(made["channels"]) == set(TOPICS)
    messages = {m["name"]: m for m in made["components"]["messages"].values()}
    assert set(messages) == set(CATALOG.families)
    for family in CATALOG.families.values():
        channel = made["channels"][family.topic]
        assert f"#/components/messages/{_name(family.type)}" in {m["$ref"] for m in channel["messages"].values()}
    for operation in made["operations"].values():
        assert operation["action"] in ("send", "receive")


def _name(type_: str) -> str:
    return "".join(part.capitalize() for part in type_.split("."))


@pytest.mark.parametrize("type_", sorted(CATALOG.families))
def test_a_schema_is_a_schema_and_takes_its_example(type_: str) -> None:
    family = CATALOG[type_]
    schema = event_schema(family, example_event(family, 1_772_331_000_000, "x"))
    jsonschema.Draft202012Validator.check_schema(schema)
    example = schema["examples"][0] if family.writer is Writer.DEVICE else schema["x-hengliu-example"]
    jsonschema.validate(example, schema)
    family.data.model_validate_json(orjson.dumps(example["data"]))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**example, "type": "other.type"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**example, "data": {**example["data"], "no_such_field": 1}}, schema)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_first_example_of_every_schema_is_accepted_as_it_is(api: Running) -> None:
    listed = (await api.client.get("/v1/schemas")).json()["items"]
    assert {item["type"] for item in listed} == set(CATALOG.families)
    posted = 0
    for item in listed:
        schema = (await api.client.get(item["schema"])).json()
        for _ in range(2):
            schema = (await api.client.get(item["schema"])).json()
            if "examples" not in schema:
                assert item["writer"] != "device"
                continue
            answer = await post(api, schema["examples"][0])
            assert (answer.status_code, answer.json()["results"][0]["status"]) == (200, "accepted"), answer.text
            posted += 1
    assert posted == 2 * sum(f.writer is Writer.DEVICE for f in CATALOG.families.values())
    assert (await api.client.get("/v1/schemas/no.such")).status_code == 404


@pytest.mark.asyncio(loop_scope="module")
async def test_documents_are_served_and_revalidated(api: Running) -> None:
    for path in ("/openapi.json", "/asyncapi.json", "/v1/schemas"):
        first = await api.client.get(path)
        assert first.status_code == 200
        again = await api.client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    validate((await api.client.get("/openapi.json")).json())
    assert openapi_document is not None
    assert create_app is not None


@pytest.mark.asyncio(loop_scope="module")
async def test_answers_are_what_openapi_says(api: Running) -> None:
    made = (await api.client.get("/openapi.json")).json()
    for path, item in made["paths"].items():
        if "get" not in item or "{" in path:
            continue
        answer = await api.client.get(path)
        content = item["get"]["responses"][str(answer.status_code)].get("content", {})
        media_type = answer.headers["content-type"].split(";")[0]
        assert media_type in content, (path, media_type)
        if media_type == "application/json":
            schema = {**content[media_type]["schema"], "components": made["components"]}
            jsonschema.validate(answer.json(), schema)
