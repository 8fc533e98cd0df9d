"""An event family that only this file declares: from POST to schema, warehouse table, API and page of a real process.

Nothing else of the repository knows it. The process is told its name by HENGLIU_EXTENSIONS, as anyone's would be.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import pytest_asyncio

from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.events.families.common import UtcTime, labelled
from hengliu.events.family import EventData, Family, Text
from hengliu.events.quantities import Identifier, decimal_string
from simulator.city import City, registry
from tests.e2e.deployment import Deployment

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

TYPE = "slag.sampled"


class SlagSampled(EventData):
    """A sample of slag taken at a power station."""

    batch: Identifier = labelled("批号", "Batch")
    carbon_percent: decimal_string(6, 3, minimum="0") = labelled("含碳量（%）", "Carbon (%)")  # type: ignore[valid-type]
    taken_by_machine: bool = labelled("机器取样", "Taken by a machine", False)
    cooled_at: UtcTime | None = labelled("冷却时间", "Cooled at", None)


SLAG = Family(
    type=TYPE,
    title=Text("炉渣取样", "Slag sample"),
    data=SlagSampled,
    topic=topics.TELEMETRY,
    example_source="urn:dev:org:32473-wb-m01-1",
    example_data={"batch": "b-1", "carbon_percent": "2.125", "cooled_at": "2026-03-01T02:00:00Z"},
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    folder: Path = tmp_path_factory.mktemp("extension")
    environment = {"HENGLIU_EXTENSIONS": f'["{__name__}:SLAG"]'}
    async with Deployment(folder / "data", environment=environment) as platform, platform.client() as client:
        # What the example's device needs; a whole city takes longer to register.
        wanted = (
            ("district.registered", "division", "150303"), ("enterprise.registered", "enterprise", "m01"),
            ("site.registered", "site", "m01"), ("device.registered", "device", "wb-m01-1"),
        )  # fmt: skip
        all_of_it = registry(City(1, "tiny"))
        await platform.register([(t, d) for t, d in all_of_it if any(t == w and d[key] == value for w, key, value in wanted)])
        yield client


async def rows(client: httpx.AsyncClient, count: int) -> list[dict[str, Any]]:
    for _ in range(200):
        answer = await client.get(f"/v1/events/{TYPE}")
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        if len(items) >= count:
            return items
        await asyncio.sleep(0.1)
    raise AssertionError("not in the table")


async def test_without_the_declaration_nobody_knows_it() -> None:
    assert TYPE not in Catalog()


async def test_the_example_of_its_schema_is_accepted_and_read_back(client: httpx.AsyncClient) -> None:
    listed = {item["type"] for item in (await client.get("/v1/schemas")).json()["items"]}
    assert TYPE in listed
    schema = (await client.get(f"/v1/schemas/{TYPE}")).json()
    example = schema["examples"][0]
    jsonschema.validate(example, schema)
    answer = await client.post("/v1/events", json=example)
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["status"] == "accepted"
    again = await client.post("/v1/events", json=example)
    assert again.json()["results"][0]["status"] == "duplicate"
    (row,) = await rows(client, 1)
    assert row["carbon_percent"] == "2.125"
    assert row["cooled_at"] == "2026-03-01T02:00:00.000Z"
    assert (row["batch"], row["taken_by_machine"], row["site"]) == ("b-1", False, "m01")


async def test_what_does_not_fit_its_schema_is_refused_with_the_member(client: httpx.AsyncClient) -> None:
    example = (await client.get(f"/v1/schemas/{TYPE}")).json()["examples"][0]
    example["data"]["carbon_percent"] = 2.125
    answer = await client.post("/v1/events", json=example)
    assert answer.status_code == 207
    assert answer.json()["results"][0]["problem"]["pointer"] == "/data/carbon_percent"


async def test_the_process_holds_a_rule_s_version_to_its_declaration(client: httpx.AsyncClient) -> None:
    event = {
        "specversion": "1.0", "source": "urn:dev:org:32473-rules", "type": "rule.published", "time": "2026-03-01T02:00:00Z",
    }  # fmt: skip
    bodies = [
        {**event, "id": f"rule-{text}", "data": {"rule": "overload", "version": 2, "parameters": {"rigid-2": text}}}
        for text in ("18 t", "17500")
    ]
    bad, good = [(await client.post("/v1/events", json=body)).json()["results"][0] for body in bodies]
    assert (bad["status"], good["status"]) == ("refused", "accepted")
    assert bad["problem"]["errors"][0]["code"] == "rule-parameter-value"


async def test_documents_name_it(client: httpx.AsyncClient) -> None:
    assert "SlagSampled" in (await client.get("/openapi.json")).json()["components"]["schemas"]
    assert "SlagSampled" in (await client.get("/asyncapi.json")).json()["channels"]["telemetry"]["messages"]


@pytest.mark.parametrize(
    ("language", "title", "label"), [("zh", "炉渣取样", "含碳量（%）"), ("en", "Slag sample", "Carbon (%)")]
)
async def test_its_page_shows_it(client: httpx.AsyncClient, language: str, title: str, label: str) -> None:
    await rows(client, 1)
    page = await client.get(f"/events/{TYPE}?lang={language}", headers={"Accept": "text/html"})
    assert page.status_code == 200
    for word in (title, label, "2.125", "b-1"):
        assert word in page.text
