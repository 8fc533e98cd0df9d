"""The broker that tests and the demo start: comes back on its data, dies with its owner, says what is missing."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from hengliu.ports.log import TopicKind, TopicPartition, TopicSpec
from infra.kafka_log import KafkaLog
from infra.services.common import ServiceFailed, cache_directory
from infra.services.kafka import KafkaService, fetch_kafka
from tests.contract.event_log_support import record, values_of

ROOT = Path(__file__).resolve().parents[2]

OWNER = """
import asyncio, sys
from pathlib import Path
from infra.services.kafka import KafkaService

async def main():
    service = KafkaService(Path(sys.argv[1]), heap_mb=384)
    await service.start()
    print(service.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_data_outlives_the_broker_and_the_broker_not_its_owner(tmp_path: Path) -> None:
    async with KafkaService(tmp_path, heap_mb=384) as bootstrap:
        assert bootstrap.startswith("127.0.0.1:")
        async with KafkaLog.open(bootstrap) as log:
            await log.create_topics([TopicSpec("kept", TopicKind.CANONICAL, 1)])
            await log.append("kept", 0, [record("a")])
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_path), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    broker = int(await owner.stdout.readline())
    try:
        assert _alive(broker)
        owner.kill()
        await owner.wait()
        for _ in range(300):
            if not _alive(broker):
                break
            await asyncio.sleep(0.1)
        assert not _alive(broker)
    finally:
        if _alive(broker):
            os.kill(broker, signal.SIGKILL)
    async with KafkaService(tmp_path, heap_mb=384) as bootstrap, KafkaLog.open(bootstrap) as log:
        assert await values_of(log, TopicPartition("kept", 0), 1) == [b"a"]


async def test_missing_tools_are_named_with_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceFailed, match="apt-get install default-jre-headless") as refusal:
        await KafkaService(tmp_path / "data").start()
    assert "没有找到" in str(refusal.value)
    with pytest.raises(ServiceFailed, match="apt-get install maven"):
        fetch_kafka(tmp_path)


def test_a_failed_download_leaves_nothing_that_looks_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\nmkdir -p libs; echo '[ERROR] no network'; exit 3\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ServiceFailed, match="mvn returned 3"):
        fetch_kafka(tmp_path / "cache", said.append)
    assert "[ERROR] no network" in said
    assert not (tmp_path / "cache" / "kafka-4.3.0" / "libs").exists()


def test_the_cache_is_where_the_environment_says() -> None:
    assert cache_directory({"HENGLIU_CACHE": "/somewhere"}) == Path("/somewhere")
    assert cache_directory({}) == Path.home() / ".cache" / "hengliu"
