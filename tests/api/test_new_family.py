"""An event family that only this file knows: seen from POST to schema, table, API, documents and page."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import pytest
import pytest_asyncio

from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.events.families.common import UtcTime, labelled
from hengliu.events.family import EventData, Family, Text
from hengliu.events.quantities import Identifier, decimal_string
from tests.api.conftest import Running, running
from tests.api.test_events import BATCH, event, post

pytestmark = pytest.mark.asyncio(loop_scope="module")


class DustSampled(EventData):
    """Dust in the air beside a road."""

    station: Identifier = labelled("测点", "Station")
    pm10_ug_per_m3: decimal_string(10, 3, minimum="0") = labelled("PM10（微克/立方米）", "PM10 (µg/m³)")  # type: ignore[valid-type]
    sampled_from: UtcTime | None = labelled("采样开始", "Sampled from", None)
    valid: bool = labelled("有效", "Valid", True)


DUST = Family(
    type="dust.sampled",
    title=Text("扬尘监测", "Dust sample"),
    data=DustSampled,
    topic=topics.TELEMETRY,
    example_source="urn:dev:org:32473-wb-m01-1",
    example_data={"station": "road-1", "pm10_ug_per_m3": "153.250", "sampled_from": "2026-03-01T02:00:00Z"},
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def extended(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(tmp_path_factory.mktemp("extended"), catalog=Catalog().extended(DUST)) as made:
        yield made


async def rows(api: Running, count: int) -> list[dict[str, Any]]:
    for _ in range(100):
        answer = await api.client.get("/v1/events/dust.sampled")
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        if len(items) >= count:
            return items
        await asyncio.sleep(0.1)
    raise AssertionError("not in the table")


async def test_from_post_to_schema_table_api_documents_and_page(extended: Running) -> None:
    api = extended
    assert "dust.sampled" not in Catalog(), "nobody else knows it"
    schema = (await api.client.get("/v1/schemas/dust.sampled")).json()
    example = schema["examples"][0]
    jsonschema.validate(example, schema)
    assert (await post(api, example)).json()["results"][0]["status"] == "accepted"
    bad = event(type="dust.sampled", data={"station": "road-1", "pm10_ug_per_m3": 153.25})
    refused = (await post(api, [bad, event()], BATCH)).json()["results"]
    assert [r["status"] for r in refused] == ["refused", "accepted"]
    assert refused[0]["problem"]["pointer"] == "/data/pm10_ug_per_m3"
    (row,) = await rows(api, 1)
    assert row["pm10_ug_per_m3"] == "153.250", "an exact decimal, as sent"
    assert row["sampled_from"] == "2026-03-01T02:00:00.000Z"
    assert (row["station"], row["valid"], row["enterprise"], row["site"]) == ("road-1", True, "m01", "m01")
    openapi = (await api.client.get("/openapi.json")).json()
    assert {"DustSampled", "DustSampledData", "DustSampledRow"} <= set(openapi["components"]["schemas"])
    enum = next(p for p in openapi["paths"]["/v1/events/{type}"]["get"]["parameters"] if p["name"] == "type")["schema"]["enum"]
    assert "dust.sampled" in enum
    jsonschema.validate(row, {**openapi["components"]["schemas"]["DustSampledRow"], "components": openapi["components"]})
    asyncapi = (await api.client.get("/asyncapi.json")).json()
    assert "DustSampled" in asyncapi["channels"]["telemetry"]["messages"]
    for language, title, label in (("zh", "扬尘监测", "PM10（微克/立方米）"), ("en", "Dust sample", "PM10 (µg/m³)")):
        page = await api.client.get(f"/events/dust.sampled?lang={language}", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert title in page.text
        assert label in page.text
        assert "153.25" in page.text
