"""docs/http-api.md: every request is sent, every answer compared, every limit true."""

import asyncio
import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from api.deps import ApiLimits
from api.live import IDLE_INTERVAL_S, MIN_INTERVAL_S
from api.server import ServerLimits
from tests.api.conftest import Running

GUIDE = Path(__file__).parents[2] / "docs" / "http-api.md"


def exchanges() -> list[tuple[str, str]]:
    blocks = re.findall(r"```http\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return list(zip(blocks[::2], blocks[1::2], strict=True))


def same(found: Any, said: Any) -> bool:
    if said == "…":
        return True
    if isinstance(said, dict) and isinstance(found, dict):
        return found.keys() == said.keys() and all(same(found[name], said[name]) for name in said)
    if isinstance(said, list) and isinstance(found, list):
        return len(found) == len(said) and all(map(same, found, said))
    return bool(found == said)


@pytest.mark.asyncio(loop_scope="module")
async def test_every_request_of_the_guide_is_answered_as_it_says(api: Running) -> None:
    assert len(exchanges()) == 5
    for request, answer in exchanges():
        head, _, body = request.partition("\n\n")
        first, *lines = head.strip().split("\n")
        method, path = first.split(" ")
        headers = dict(line.split(": ", 1) for line in lines)
        if "Authorization" in headers:
            who = {"$TOKEN": "device", "$REGISTRAR": "registrar"}
            headers["Authorization"] = api.bearer(who[headers["Authorization"].split()[1]])["Authorization"]
        status, _, said = answer.partition("\n\n")
        for _ in range(50):
            got = await api.client.request(method, path, headers=headers, content=body.encode() if body else None)
            if got.json().get("items") != []:
                break
            await asyncio.sleep(0.1)  # the tables are a moment behind the log
        assert got.status_code == int(status), got.text
        assert same(got.json(), orjson.loads(said)), got.text


def test_the_limits_in_the_guide_are_the_defaults() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    limits, server = ApiLimits(), ServerLimits()
    assert f"{limits.body_bytes // 2**20} MiB and {limits.batch_events:,} events" in text
    assert f"pauses at most {limits.body_idle_s:g} s and takes at most {limits.body_total_s:g} s" in text
    assert f"{limits.bodies_bytes // 2**20} MiB. Headers: {server.header_bytes // 1024} KiB" in text
    assert f"within {server.header_timeout_s:g} s. Connections: {server.max_connections};" in text
    assert f"moved for {limits.stalled_s:g} s" in text
    assert limits.after_s == 2
    assert (MIN_INTERVAL_S, IDLE_INTERVAL_S) == (1, 5)
    assert limits.kept_bytes == 64 * 1024
