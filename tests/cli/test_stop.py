"""One process, started and stopped: the exit code says whether everything closed."""

import os
import signal
from pathlib import Path

import httpx
import pytest

from hengliu.compose.platform import Platform, serve
from hengliu.settings import Role, Settings
from infra.local_log import LocalLog


async def ask_to_stop(platform: Platform) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def settings(folder: Path) -> Settings:
    return Settings(data_dir=folder, port=0, partitions=1)


async def test_a_clean_stop_is_zero(tmp_path: Path) -> None:
    answers: list[int] = []

    async def read_then_stop(platform: Platform) -> None:
        async with httpx.AsyncClient(base_url=platform.url, trust_env=False, timeout=20) as client:
            answer = await client.get("/v1/weighings", params={"after": "nowhere/0/1"})
            answers.append(answer.status_code)
        await ask_to_stop(platform)

    wanted = settings(tmp_path).model_copy(update={"open_reading": True})
    assert await serve(wanted, frozenset(Role), read_then_stop) == 0
    # Asked of the projector itself, which knows at once that no table reads this topic (and flushes what is waited for).
    assert answers == [400]


@pytest.mark.logs_errors
async def test_a_close_that_fails_is_told_and_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    close = LocalLog.close

    async def fail_after(log: LocalLog) -> None:
        await close(log)
        raise OSError("as the test says")

    monkeypatch.setattr(LocalLog, "close", fail_after)
    assert await serve(settings(tmp_path), frozenset(Role), ask_to_stop) == 1
    assert "log did not close cleanly" in caplog.text
    monkeypatch.undo()
    await (await LocalLog.open(tmp_path / "log.sqlite")).close()  # whatever failed, its lock is free
