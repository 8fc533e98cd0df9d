"""Host, Origin, headers, open reading, and what an unexpected fault looks like."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from api.app import ROUTES
from api.problems import ALL_PROBLEMS, language_of
from api.security import Gate, host_name, is_local, same_origin
from hengliu.metrics import Meters
from tests.api.conftest import Running, beside
from tests.api.test_events import EVENT
from tests.api.wire import serve, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def closed(api: Running) -> AsyncIterator[Running]:
    """An API whose reading is not open."""
    async with beside(api, open_reading=False) as made:
        yield made


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a b", "", "[::2]:80", "::1"]
)
async def test_another_host_name_is_not_answered(api: Running, host: str) -> None:
    async with wire(api.port) as w:
        await w.send(f"GET /v1/weighings HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = await w.answer()
        assert answer.status == 421
        assert b"plate" not in answer.body
        assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8000", "localhost."])
async def test_loopback_names_are_answered(api: Running, host: str) -> None:
    async with wire(api.port) as w:
        await w.send(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert (await w.answer()).status == 200


async def test_without_the_host_check_a_rebound_name_reads_the_demo(api: Running) -> None:
    async with beside(api, gate={"check_host": False}) as made, wire(made.port) as w:
        await w.send(b"GET /v1/weighings HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert (await w.answer()).status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://localhost:1", "file://", "http://localhost.evil.example"]
)
async def test_another_sites_page_cannot_write(api: Running, origin: str) -> None:
    answer = await api.client.post(
        "/v1/events", content=b"{}", headers={"Content-Type": EVENT, "Origin": origin, **api.bearer("device")}
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "wrong-origin")
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_without_the_origin_check_it_can(api: Running) -> None:
    async with beside(api, gate={"check_origin": False}) as made:
        answer = await made.client.post(
            "/v1/events",
            content=b"{}",
            headers={"Content-Type": EVENT, "Origin": "http://evil.example", **api.bearer("device")},
        )
        assert answer.status_code == 207


async def test_our_own_page_may(api: Running) -> None:
    answer = await api.client.post(
        "/v1/events", content=b"{}", headers={"Content-Type": EVENT, "Origin": api.url, **api.bearer("device")}
    )
    assert answer.status_code == 207


async def test_preflights_are_not_granted(api: Running) -> None:
    answer = await api.client.options(
        "/v1/events", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_every_answer_carries_the_security_headers(api: Running) -> None:
    for path in ("/", "/v1/weighings", "/nothing", "/openapi.json", "/healthz"):
        headers = (await api.client.get(path)).headers
        policy = headers["content-security-policy"]
        for part in ("default-src 'self'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action"):
            assert part in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


async def test_an_unknown_address_and_method_are_problems(api: Running) -> None:
    missing = await api.client.get("/v1/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "not-found")
    wrong = await api.client.delete("/v1/events")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method-not-allowed")
    assert wrong.headers["allow"]


async def test_reading_is_closed_unless_it_was_opened(closed: Running) -> None:
    open_to_all = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json", "/v1/schemas", "/problems"}
    for endpoint in ROUTES:
        if endpoint.method != "GET" or "{" in endpoint.path:
            continue
        status = (await closed.client.get(endpoint.path)).status_code
        assert status == 401 if endpoint.path not in open_to_all else status in (200, 503), endpoint.path
    assert (await closed.client.get("/v1/weighings", headers=closed.bearer("everything"))).status_code == 200
    assert (await closed.client.get("/v1/events/weighing.measured")).status_code == 401


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
async def test_what_a_proxy_forwards_is_not_local(api: Running, name: str) -> None:
    assert (await api.client.get("/v1/weighings")).status_code == 200
    assert (await api.client.get("/v1/weighings", headers={name: "127.0.0.1"})).status_code == 401


@pytest.mark.parametrize(
    ("client", "local"),
    [(("127.0.0.1", 1), True), (("127.8.8.8", 1), True), (("::1", 1), True), (("10.0.0.1", 1), False),
     (("::ffff:10.0.0.1", 1), False), (("x", 1), False), (None, False)],
)  # fmt: skip
async def test_only_loopback_addresses_are_local(client: Any, local: bool) -> None:
    assert is_local(HTTPConnection({"type": "http", "client": client, "headers": []})) is local


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [("http://a", "a", True), ("http://a:80", "a", True), ("http://a:81", "a", False), ("https://a", "a:443", True),
     ("http://A", "a", True), ("ws://a", "a", False), ("http://a:x", "a", False), ("http://[::1]:8", "[::1]:8", True)],
)  # fmt: skip
async def test_origins_are_compared_whole(origin: str, host: str, same: bool) -> None:
    assert same_origin(origin, host) is same


@pytest.mark.parametrize("host", ["a@b", "a/b", "a\\b", "a,b", "[::1"])
async def test_a_malformed_host_is_no_name(host: str) -> None:
    assert host_name(host) == ""


@pytest.mark.parametrize(
    ("header", "language"),
    [("", "zh"), ("en", "en"), ("en-US,en;q=0.5", "en"), ("fr", "zh"), ("zh;q=0.1,en;q=0.2", "en"), ("en;q=x", "zh"),
     ("en;q=0", "zh"), ("zh-TW,en;q=0.9", "zh"), ("*", "zh"), ("," * 10_000, "zh")],
)  # fmt: skip
async def test_the_callers_language(header: str, language: str) -> None:
    assert language_of(header) == language


@pytest.mark.logs_errors
async def test_an_unexpected_fault_is_a_503_problem_with_an_incident(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError("secret detail")

    meters = Meters()
    async with serve(Gate(broken, meters)) as server, wire(server.port) as w:
        await w.send(b"GET /x HTTP/1.1\r\nHost: localhost\r\nAccept-Language: en\r\n\r\n")
        answer = await w.answer()
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    problem = answer.json()
    assert problem["code"] == "internal-fault"
    assert problem["parameters"]["incident"] in caplog.text
    assert "secret" not in answer.body.decode()
    assert meters.value("http_faults_total") == 1


async def test_large_headers_in_one_piece_are_431(api: Running) -> None:
    async with wire(api.port) as w:
        await w.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 30_000 + b"\r\n\r\n")
        assert (await w.answer()).status == 431


async def test_every_problem_has_words_in_both_languages_and_no_5xx_but_503() -> None:
    for code, words in ALL_PROBLEMS.items():
        for text in (words.title, words.detail):
            assert any("\u4e00" <= c <= "\u9fff" for c in text.zh), code
            assert text.en, code
            assert not any("\u4e00" <= c <= "\u9fff" for c in text.en), code
        assert words.status < 500 or words.status == 503, code
    assert Headers({"a": "b"})["a"] == "b"
