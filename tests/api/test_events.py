"""POST /v1/events, over a real socket into a real log."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from hengliu.events.envelope import iso_ms
from tests.api.conftest import Running
from tests.api.wire import wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENT = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
SOURCE = "urn:dev:org:32473-wb-m01-1"

_ids = itertools.count(1)


def event(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"t-{next(_ids)}",
        "source": SOURCE,
        "type": "weighing.measured",
        "time": iso_ms(int(datetime.now(UTC).timestamp() * 1000)),
        "data": {"plate": "蒙C12345", "mass_kg": 48_920, "axles": 6, "commodity": "raw", "use": "power"},
    }
    made.update(changes)
    return {name: value for name, value in made.items() if value is not ...}


async def post(api: Running, body: Any, type_: str = EVENT, who: str = "device", **headers: str) -> Any:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return await api.client.post("/v1/events", content=content, headers={"Content-Type": type_, **api.bearer(who), **headers})


async def quarantined(api: Running, digest_of: bytes) -> dict[str, Any]:
    """The quarantine row of a payload, when it has come there."""
    from hashlib import sha256

    digest = sha256(digest_of).hexdigest()
    for _ in range(100):
        answer = await api.client.get("/v1/quarantine", params={"limit": 1000})
        for row in answer.json()["items"]:
            if row["digest"] == digest:
                return dict(row)
        await asyncio.sleep(0.1)
    raise AssertionError("not in quarantine")


async def test_one_event_is_accepted_then_a_duplicate(api: Running) -> None:
    sent = event()
    answer = await post(api, sent)
    assert answer.status_code == 200
    assert answer.json() == {"results": [{"id": sent["id"], "source": SOURCE, "status": "accepted"}]}
    again = await post(api, sent)
    assert again.status_code == 200
    assert again.json()["results"][0]["status"] == "duplicate"


async def test_a_batch_is_answered_in_the_order_sent(api: Running) -> None:
    good, other, bad = event(), event(), event(type="no.such")
    answer = await post(api, [good, bad, 42, other, good], BATCH)
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [r["status"] for r in results] == ["accepted", "refused", "refused", "accepted", "duplicate"]
    assert [r["id"] for r in results] == [good["id"], bad["id"], None, other["id"], good["id"]]
    assert (results[2]["id"], results[2]["source"]) == (None, None)
    problem = results[1]["problem"]
    assert (problem["type"], problem["code"], problem["pointer"]) == ("/problems/unknown-type", "unknown-type", "/type")
    assert (await api.client.get(problem["type"])).status_code == 200


@pytest.mark.parametrize("type_", ["application/json", "application/json; charset=utf-8"])
async def test_plain_json_is_guessed(api: Running, type_: str) -> None:
    assert (await post(api, event(), type_)).status_code == 200
    many = await post(api, [event(), event()], type_)
    assert [r["status"] for r in many.json()["results"]] == ["accepted", "accepted"]


@pytest.mark.parametrize(
    ("body", "type_"),
    [(b"42", EVENT), (b'"x"', BATCH), (b"null", "application/json"), (b"[]", EVENT), (b"[[]]", BATCH), (b"{}", BATCH)],
)
async def test_json_that_is_no_event_is_one_refused_result(api: Running, body: bytes, type_: str) -> None:
    answer = await post(api, body, type_)
    assert answer.status_code == 207
    (result,) = answer.json()["results"]
    assert (result["id"], result["source"], result["status"]) == (None, None, "refused")
    await quarantined(api, body if body != b"[[]]" else b"[]")


async def test_an_empty_batch_has_no_results(api: Running) -> None:
    answer = await post(api, [], BATCH)
    assert (answer.status_code, answer.json()) == (200, {"results": []})


@pytest.mark.parametrize("body", [b"", b"{", b"not json", b'{"a":1}{"b":2}', b"\xff\xfe{}", b"[1,", b"[{]", b"{'a':1}"])
@pytest.mark.parametrize("type_", [EVENT, BATCH, "application/json"])
async def test_what_is_not_json_is_400_and_kept(api: Running, body: bytes, type_: str) -> None:
    answer = await post(api, body, type_)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "body-not-json"
    await quarantined(api, body)


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"data": {"plate": "A", "mass_kg": "48920"}}, "data-invalid", "/data/mass_kg"),
        ({"data": {"plate": "A", "mass_kg": 1.5}}, "data-invalid", "/data/mass_kg"),
        ({"data": {"plate": "A", "mass_kg": -1}}, "data-invalid", "/data/mass_kg"),
        ({"data": {"plate": "A"}}, "data-invalid", "/data/mass_kg"),
        ({"data": {"plate": "A", "mass_kg": 1, "x": 1}}, "data-invalid", "/data/x"),
        ({"data": []}, "data-invalid", "/data"),
        ({"data": ...}, "data-missing", "/data"),
        ({"type": "warning.raised"}, "type-not-writable", "/type"),
        (
            {"type": "district.registered", "data": {"division": "150302", "name": "海勃湾区"}},
            "registrar-only",
            "/type",
        ),
        ({"type": "no.such"}, "unknown-type", "/type"),
        ({"time": "2026-13-01T00:00:00Z"}, "attribute-form", "/time"),
        ({"time": "2026-02-30T00:00:00Z"}, "attribute-form", "/time"),
        ({"time": "2026-03-01T00:00:00"}, "attribute-form", "/time"),
        ({"time": "1066-10-14T00:00:00Z"}, "time-too-early", "/time"),
        ({"time": (datetime.now(UTC) + timedelta(days=3)).isoformat()}, "time-too-late", "/time"),
        ({"time": ...}, "attribute-missing", "/time"),
        ({"id": ""}, "attribute-length", "/id"),
        ({"id": 7}, "attribute-type", "/id"),
        ({"specversion": "0.3"}, "specversion-unsupported", "/specversion"),
        ({"source": "urn:dev:org:32473-unknown"}, "device-unknown", "/source"),
        ({"source": "urn:x:not-mine"}, "out-of-scope", "/source"),
    ],
)
async def test_a_refusal_says_what_and_where_in_both_languages(
    api: Running, changes: dict[str, Any], code: str, pointer: str
) -> None:
    sent = event(**changes)
    chinese = (await post(api, sent)).json()["results"][0]
    english = (await post(api, sent, **{"Accept-Language": "en-GB,en;q=0.9,zh;q=0.5"})).json()["results"][0]
    for result in (chinese, english):
        assert result["status"] == "refused"
        assert (result["problem"]["code"], result["problem"]["pointer"]) == (code, pointer)
    assert any("\u4e00" <= c <= "\u9fff" for c in chinese["problem"]["title"])
    assert english["problem"]["title"].isascii()
    assert "{" not in chinese["problem"]["detail"] + english["problem"]["detail"]


async def test_the_same_id_with_other_content_is_refused(api: Running) -> None:
    sent = event()
    assert (await post(api, sent)).json()["results"][0]["status"] == "accepted"
    spaced = orjson.dumps(sent, option=orjson.OPT_INDENT_2)
    assert (await post(api, spaced)).json()["results"][0]["status"] == "duplicate", "spacing is no content"
    changed = {**sent, "data": {**sent["data"], "mass_kg": 48_921}}
    result = (await post(api, changed)).json()["results"][0]
    assert (result["status"], result["problem"]["code"]) == ("refused", "id-reused")


@pytest.mark.parametrize(
    "body",
    [
        b'{"specversion":"1.0","id":"d1","id":"d2","source":"x","type":"y"}',
        b'{"specversion":"1.0","id":"n","source":"x","type":"y","data":NaN}',
        b'{"specversion":"1.0","id":"\\ud800","source":"x","type":"y"}',
        b'{"specversion":"1.0","id":"deep","source":"x","type":"y","data":' + b"[" * 500 + b"]" * 500 + b"}",
    ],
)
async def test_json_that_two_parsers_read_differently_is_refused(api: Running, body: bytes) -> None:
    answer = await post(api, body)
    assert answer.status_code in (207, 400)
    assert answer.status_code == 400 or answer.json()["results"][0]["status"] == "refused"
    await quarantined(api, body)


async def test_the_order_of_checks_needs_a_token_first(api: Running) -> None:
    answer = await api.client.post("/v1/events", content=b"x" * 300_000, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "unauthenticated"


@pytest.mark.parametrize(
    "value", ["Bearer wrong", "Bearer", "Basic YTpi", "Bearer a b", "bearer " + "x" * 5000, "Bearer \u00ff"]
)
async def test_a_wrong_token_is_401(api: Running, value: str) -> None:
    headers = [(b"Authorization", value.encode("latin-1")), (b"Content-Type", EVENT.encode())]
    answer = await api.client.post("/v1/events", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid-token")


@pytest.mark.parametrize("who", ["reader", "admin", "everything"])
async def test_a_token_that_may_not_write_is_403(api: Running, who: str) -> None:
    answer = await post(api, event(), who=who)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_device_of_another_scope_is_one_refused_result(api: Running) -> None:
    answer = await post(api, event(), who="other")
    assert answer.status_code == 207
    assert answer.json()["results"][0]["problem"]["code"] == "out-of-scope"


@pytest.mark.parametrize("type_", ["text/plain", "", "application/xml", "application/json; charset=gbk"])
async def test_another_media_type_is_415(api: Running, type_: str) -> None:
    answer = await post(api, event(), type_)
    assert (answer.status_code, answer.json()["code"]) == (415, "media-type")


async def test_a_compressed_body_is_415(api: Running) -> None:
    answer = await post(api, event(), **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "content-encoding")


async def test_a_batch_of_too_many_events_is_413(api: Running) -> None:
    body = b"[" + b",".join([b"{}"] * 1001) + b"]"
    answer = await post(api, body, BATCH)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-many-events")
    await quarantined(api, body)


async def test_an_oversized_body_is_413_and_its_digest_kept(api: Running) -> None:
    body = b'{"x":"' + b"y" * 500_000 + b'"}'
    answer = await post(api, body)
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")
    row = await quarantined(api, body)
    assert row["size_bytes"] == len(body)
    assert len(row["payload_base64"]) <= 65_536 * 4 // 3 + 4
    assert (await api.client.get("/v1/quarantine", params={"id": row["id"]})).json()["items"][0]["digest"] == row["digest"]
    released = await api.client.post(f"/v1/quarantine/{row['id']}/release", headers=api.bearer("admin"))
    assert (released.status_code, released.json()["code"]) == (409, "payload-truncated")


async def test_an_oversized_chunked_body_is_413_too(api: Running) -> None:
    async def pieces() -> Any:
        for _ in range(60):
            yield b"z" * 10_000

    answer = await api.client.post("/v1/events", content=pieces(), headers={"Content-Type": EVENT, **api.bearer("device")})
    assert answer.status_code == 413
    assert (await quarantined(api, b"z" * 600_000))["size_bytes"] == 600_000


async def test_an_endless_body_is_cut_off(api: Running) -> None:
    head = f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {EVENT}\r\nTransfer-Encoding: chunked\r\n"
    async with wire(api.port) as w:
        await w.send(f"{head}Authorization: Bearer {api.tokens['device']}\r\n\r\n".encode())
        piece = b"10000\r\n" + b"q" * 65_536 + b"\r\n"
        sent = 0
        try:
            for _ in range(1000):
                await asyncio.wait_for(w.send(piece), 5)
                sent += 65_536
        except ConnectionError:
            pass
        assert sent < 40_000_000, "the server stopped reading"
    assert api.deps.limits.drain_bytes == 2_000_000


async def test_a_slow_body_is_408(api: Running) -> None:
    async with wire(api.port) as w:
        head = f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {EVENT}\r\nContent-Length: 1000\r\n"
        await w.send(f"{head}Authorization: Bearer {api.tokens['device']}\r\n\r\n{{".encode())
        answer = await w.answer(timeout=3)
        assert (answer.status, answer.json()["code"]) == (408, "slow-request")
        assert await w.closed()


async def test_a_client_that_hangs_up_leaves_nothing_behind(api: Running) -> None:
    for _ in range(20):
        async with wire(api.port) as w:
            head = f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {EVENT}\r\nContent-Length: 100000\r\n"
            await w.send(f"{head}Authorization: Bearer {api.tokens['device']}\r\n\r\n".encode() + b"x" * 50_000)
    await asyncio.sleep(0.2)
    assert (await post(api, event())).status_code == 200


async def test_a_released_event_goes_the_way_of_every_event(api: Running) -> None:
    sent = orjson.dumps(event())
    refused = await post(api, sent, who="other")
    assert refused.json()["results"][0]["status"] == "refused"
    row = await quarantined(api, sent)
    path = f"/v1/quarantine/{row['id']}/release"
    assert (await api.client.post(path)).status_code == 401
    assert (await api.client.post(path, headers=api.bearer("device"))).status_code == 403
    released = await api.client.post(path, headers=api.bearer("admin"))
    assert (released.status_code, released.json()["results"][0]["status"]) == (200, "accepted")
    again = await api.client.post(path, headers=api.bearer("admin"))
    assert again.json()["results"][0]["status"] == "duplicate"
    nothing = await api.client.post("/v1/quarantine/0-999999/release", headers=api.bearer("admin"))
    assert nothing.status_code == 404


async def test_concurrent_copies_of_one_event_are_accepted_once(api: Running) -> None:
    sent = event()
    answers = await asyncio.gather(*(post(api, sent) for _ in range(20)))
    statuses = sorted(a.json()["results"][0]["status"] for a in answers)
    assert statuses == ["accepted"] + ["duplicate"] * 19


async def test_nothing_here_was_a_fault(api: Running) -> None:
    """Last in this file: all the bad input above, and not one unexpected exception."""
    assert api.deps.meters.value("http_faults_total") == 0
    assert (await api.client.get("/readyz")).status_code == 200
