"""Reads: parameters, pages, the wait for a position, rights."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from api.reads import READS
from hengliu.ports.log import TopicPartition
from tests.api.conftest import PARTITIONS, REGISTER, Running
from tests.api.test_events import BATCH, SOURCE, event, post

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNT = 25


@pytest.fixture(scope="module")
def sent() -> list[dict[str, Any]]:
    return [event() for _ in range(COUNT)]


async def get_after(api: Running, path: str, after: str, **params: str) -> httpx.Response:
    """A read that waits for a position, and comes back when it is told to, as a client does."""
    for _ in range(10):
        answer = await api.client.get(path, params={"after": after, **params})
        if answer.status_code != 503:
            return answer
        await asyncio.sleep(int(answer.headers["retry-after"]))
    raise AssertionError(answer.text)


async def test_rows_are_read_as_they_were_sent_page_by_page(api: Running, sent: list[dict[str, Any]]) -> None:
    assert (await post(api, sent, BATCH)).status_code == 200
    ends = await api.log.end_positions([TopicPartition("weighing", p) for p in range(PARTITIONS)])
    for tp, end in ends.items():
        answer = await get_after(api, "/v1/weighings", f"weighing/{tp.partition}/{end}", limit="1")
        assert answer.status_code == 200
    seen: list[dict[str, Any]] = []
    cursor = None
    pages = 0
    while True:
        params = {"limit": "10", "source": SOURCE, **({"cursor": cursor} if cursor else {})}
        answer = await api.client.get("/v1/events/weighing.measured", params=params)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        page = answer.json()
        seen += page["items"]
        pages += 1
        cursor = page["next"]
        if cursor is None:
            break
    assert pages == 3
    assert {r["id"] for r in seen} == {s["id"] for s in sent}
    assert len(seen) == COUNT
    row = next(r for r in seen if r["id"] == sent[0]["id"])
    assert row["time"] == sent[0]["time"], "RFC 3339 with milliseconds and Z, as sent"
    assert (row["mass_kg"], row["enterprise"], row["division"]) == (48_920, "m01", "150303")
    assert row["trailer_plate"] is None, "missing is null"


@pytest.mark.parametrize("read", READS, ids=lambda r: r.query)
async def test_every_read_answers(api: Running, read: Any) -> None:
    answer = await api.client.get(read.path)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"items", "next"}
    columns = {c.name for c in api.deps.queries[read.query].columns}
    assert all(set(row) == columns for row in body["items"])


async def test_every_family_is_read(api: Running) -> None:
    for type_ in api.deps.catalog.families:
        answer = await api.client.get(f"/v1/events/{type_}")
        assert answer.status_code == 200, (type_, answer.text)
    assert (await api.client.get("/v1/events/no.such")).status_code == 404


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("nonsense=1", "unknown-parameter"),
        ("limit=0", "bad-limit"),
        ("limit=1001", "bad-limit"),
        ("limit=x", "bad-limit"),
        ("cursor=xyz", "bad-cursor"),
        ("from=yesterday", "not-a-time"),
        ("from=2026-03-01T00:00:00", "not-a-time"),
        ("from=2026-03-02&to=2026-03-01T00:00:00Z", "empty-range"),
        ("plate=A&plate=B", "repeated-parameter"),
        ("division=15", "not-a-division"),
        ("as_of=99999999999999999", "not-a-time"),
        ("after=weighing", "invalid-parameter"),
        ("after=nowhere/0/1", "invalid-parameter"),
        ("after=weighing/999/1", "invalid-parameter"),
        ("from='%20OR%201=1", "not-a-time"),
    ],
)
async def test_a_bad_parameter_is_400_in_both_languages(api: Running, query: str, code: str) -> None:
    chinese = await api.client.get(f"/v1/weighings?{query}")
    english = await api.client.get(f"/v1/weighings?{query}", headers={"Accept-Language": "en"})
    for answer in (chinese, english):
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == code
        assert "{" not in answer.json()["detail"]
    assert chinese.json()["detail"] != english.json()["detail"]
    assert english.json()["title"].isascii()


async def test_what_looks_like_sql_is_a_value(api: Running) -> None:
    answer = await api.client.get("/v1/weighings", params={"plate": "x') OR 1=1 --"})
    assert (answer.status_code, answer.json()["items"]) == (200, [])


async def test_a_position_that_does_not_come_is_503_with_retry_after(api: Running) -> None:
    began = asyncio.get_running_loop().time()
    answer = await api.client.get("/v1/weighings", params={"after": "weighing/0/999999999"})
    assert (answer.status_code, answer.json()["code"]) == (503, "position-not-reached")
    assert int(answer.headers["retry-after"]) >= 1
    assert 1.5 < asyncio.get_running_loop().time() - began < 4


async def test_rights_narrow_what_is_read(api: Running, sent: list[dict[str, Any]]) -> None:
    everything = await api.client.get("/v1/weighings", headers=api.bearer("everything"))
    assert len(everything.json()["items"]) >= COUNT
    assert len((await api.client.get("/v1/weighings", headers=api.bearer("admin"))).json()["items"]) >= COUNT
    other = await api.client.get("/v1/weighings", headers=api.bearer("reader"))
    assert (other.status_code, other.json()["items"]) == (200, []), "m02 sees nothing of m01"
    assert (await api.client.get("/v1/weighings", headers=api.bearer("device"))).status_code == 403
    assert (await api.client.get("/v1/weighings", headers={"Authorization": "Bearer no"})).status_code == 401


async def test_a_registration_is_read_after_its_position(api: Running) -> None:
    data = {"enterprise": "m77", "name": "新矿", "name_en": "New mine", "kind": "mine", "division": "150303"}
    for who, status in (("device", 403), ("reader", 403)):
        denied = await api.client.post("/v1/registry/enterprises", json=data, headers=api.bearer(who))
        assert denied.status_code == status
    assert (await api.client.post("/v1/registry/enterprises", json=data)).status_code == 401
    answer = await api.client.post("/v1/registry/enterprises", json=data, headers=api.bearer("registrar"))
    assert answer.status_code == 201, answer.text
    receipt = answer.json()
    assert receipt["after"] == f"{receipt['topic']}/{receipt['partition']}/{receipt['position']}"
    read = await get_after(api, "/v1/registry/enterprises", receipt["after"])
    assert "m77" in {row["enterprise"] for row in read.json()["items"]}
    again = await api.client.post("/v1/registry/enterprises", json=data, headers=api.bearer("registrar"))
    assert again.status_code == 201, "registering the same again changes nothing"


@pytest.mark.parametrize(
    ("path", "data", "status", "code"),
    [
        ("sites", {"site": "s9", "enterprise": "nobody", "name": "x", "division": "150303", "kind": "mine"}, 409,
         "registration-enterprise-unknown"),
        ("enterprises", {"enterprise": "m01", "name": "改名", "kind": "mine", "division": "150303"}, 409,
         "registration-valid-from-missing"),
        ("enterprises", {"enterprise": "bad id!", "name": "x", "kind": "mine", "division": "150303"}, 400,
         "registration-invalid"),
        ("enterprises", {"enterprise": "m5"}, 400, "registration-invalid"),
        ("vehicles", [], 400, "registration-not-object"),
        ("vehicles", 1, 400, "registration-not-object"),
    ],
)  # fmt: skip
async def test_a_bad_registration_is_refused(api: Running, path: str, data: Any, status: int, code: str) -> None:
    for language in ("zh", "en"):
        answer = await api.client.post(
            f"/v1/registry/{path}", json=data, headers={**api.bearer("registrar"), "Accept-Language": language}
        )
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert "?" not in answer.json()["detail"]
    if code == "registration-invalid":
        assert all(not e["pointer"].startswith("/data") and e["detail"] for e in answer.json()["errors"])


async def test_a_new_device_is_taken_at_once(api: Running) -> None:
    data = {"device": "wb-new", "source": "urn:dev:org:32473-wb-new", "kind": "weighbridge", "site": "m01"}
    before = await post(api, event(source=data["source"]))
    assert before.json()["results"][0]["problem"]["code"] == "device-unknown"
    registered = await api.client.post("/v1/registry/devices", json=data, headers=api.bearer("registrar"))
    assert registered.status_code == 201
    after = await post(api, event(source=data["source"]))
    assert after.json()["results"][0]["status"] == "accepted"


async def settled(api: Running) -> dict[str, int]:
    """The counts once everything accepted is in the tables."""
    for _ in range(100):
        counts: dict[str, int] = (await api.client.get("/v1/stats")).json()["events"]
        if counts["processed"] == counts["accepted"]:
            return counts
        await asyncio.sleep(0.1)
    raise AssertionError(counts)


async def test_stats_name_what_happened_and_where_each_topic_stands(api: Running) -> None:
    before = await settled(api)
    refused = event(type="no.such")
    good = event()
    await post(api, [good, good, refused], BATCH)
    for _ in range(100):
        after = (await api.client.get("/v1/stats")).json()
        gained = {name: after["events"][name] - before[name] for name in before}
        if gained["processed"]:
            break
        await asyncio.sleep(0.1)
    assert gained == {"accepted": 1, "duplicate": 1, "refused": 1, "processed": 1}
    assert {p["topic"] for p in after["positions"]} >= {"weighing", "registry", "quarantine"}
    assert all(p["end"] >= 0 and p["processed"]["projector"] >= 0 for p in after["positions"])
    assert len(REGISTER) > 0


async def test_metrics_are_of_the_vocabulary(api: Running) -> None:
    from hengliu.metrics import METRICS

    text = (await api.client.get("/metrics")).text
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    declared = {f"hengliu_{m.name}" for m in METRICS} | {f"hengliu_{m.name.removesuffix('_total')}_created" for m in METRICS}
    assert {n for n in names if not n.endswith("_created")} <= declared
    assert 'hengliu_events_total{status="accepted"}' in text
    assert "wb-m01" not in text, "no label is what a sender wrote"
    assert orjson.dumps(text)
