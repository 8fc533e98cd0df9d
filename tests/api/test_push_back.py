"""A log that cannot be written: 429 and 503 with Retry-After, and everything goes on when it can."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from api.deps import ApiLimits
from hengliu.intake.service import IntakePolicy
from tests.api.conftest import Running, beside, running
from tests.api.test_events import BATCH, event, post

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """An API whose intake queue is short and whose requests do not wait long for their commit."""
    limits = ApiLimits(commit_s=2.0)
    async with running(tmp_path_factory.mktemp("small"), limits, intake_policy=IntakePolicy(queue_events=10)) as made:
        yield made


@contextlib.asynccontextmanager
async def hung(path: Path) -> AsyncIterator[None]:
    """Another process holds the write lock of the log's file: a disk that does not answer."""
    pipe = asyncio.subprocess.PIPE
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", LOCK, str(path / "log.sqlite"), stdin=pipe, stdout=pipe)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert await holder.stdout.readline() == b"locked\n"
    try:
        yield
    finally:
        holder.stdin.close()
        await holder.wait()


async def settled(api: Running, batch: list[dict[str, Any]]) -> list[str]:
    """Send until it is taken, as a device does."""
    for _ in range(30):
        answer = await post(api, batch, BATCH)
        if answer.status_code == 200:
            return [result["status"] for result in answer.json()["results"]]
        assert answer.status_code in (429, 503), answer.text
        await asyncio.sleep(int(answer.headers["retry-after"]))
    raise AssertionError("never taken")


@pytest.mark.logs_errors
async def test_a_hung_log_is_503_a_full_queue_429_and_nothing_is_lost_or_doubled(small: Running) -> None:
    batches = [[event() for _ in range(20)] for _ in range(5)]
    async with hung(small.path):
        answers = await asyncio.gather(*(post(small, batch, BATCH) for batch in batches))
    codes = {answer.status_code for answer in answers}
    assert codes == {429, 503}, "the first wait for the log, the rest find the queue full"
    for answer in answers:
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == ("overloaded" if answer.status_code == 429 else "unavailable")
    for batch in batches:
        assert set(await settled(small, batch)) <= {"accepted", "duplicate"}
    ids = ",".join(sent["id"] for batch in batches for sent in batch)
    for _ in range(100):
        read = await small.client.get("/v1/events/weighing.measured", params={"id": ids, "limit": "1000"})
        if len(read.json()["items"]) == 100:
            break
        await asyncio.sleep(0.1)
    rows = [row["id"] for row in read.json()["items"]]
    assert len(rows) == len(set(rows)) == 100


@pytest.mark.logs_errors
async def test_a_log_that_hangs_makes_it_not_ready_and_then_ready_again(small: Running) -> None:
    async def reasons() -> set[str]:
        answer = await small.client.get("/readyz")
        found = {reason["code"] for reason in answer.json()["reasons"]}
        assert answer.status_code == (503 if found else 200)
        return found

    monitor = small.deps.monitor
    patience = monitor._stalled_s
    monitor._stalled_s = 2.0
    try:
        async with hung(small.path):
            for _ in range(150):
                if "intake-stalled" in await reasons():
                    break
                await asyncio.sleep(0.1)
            assert "intake-stalled" in await reasons()
            assert (await small.client.get("/healthz")).status_code == 200, "it answers, it only does not commit"
        for _ in range(150):
            if not await reasons():
                break
            await asyncio.sleep(0.1)
        assert not await reasons()
    finally:
        monitor._stalled_s = patience


async def test_a_process_without_the_registry_says_when_to_come_back(small: Running) -> None:
    async with beside(small, commands=None) as made:
        answer = await made.client.post("/v1/registry/vehicles", json={"plate": "A"}, headers=made.bearer("registrar"))
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
