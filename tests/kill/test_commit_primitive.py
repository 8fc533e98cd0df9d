"""The commit primitive under kill -9, on both logs: the short form of ``python -m tests.kill.commit_primitive``."""

import asyncio
import signal
from pathlib import Path

import pytest

from infra.log_guards import STEPS
from infra.services.common import free_ports
from infra.services.kafka import KafkaService
from tests.contract.event_log_support import event_log_kafka
from tests.kill.commit_primitive import Site, Worker, compare, prepare, random_kills
from tests.kill.commit_worker import FENCED, open_log

__all__ = ["event_log_kafka"]

pytestmark = pytest.mark.timeout(300)  # several processes a test, on cores that others may share

_names = iter(range(10**6))

BOTH = pytest.mark.parametrize("log", ["local", pytest.param("kafka", marks=pytest.mark.kafka)])


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path, log: str) -> Site:
    """A place of its own with little input; tests raise ``per_partition`` before they prepare it."""
    place = str(tmp_path / "log.db") if log == "local" else request.getfixturevalue("event_log_kafka")
    return Site(log, place, f"kill{next(_names)}", 600)


async def _finish(site: Site) -> None:
    worker = await Worker.start(site, "--pace-ms", "0", "--batch", "500")
    assert await worker.ended() == 0
    assert 0 <= worker.restored < site.total


@BOTH
async def test_three_kills_at_random_moments_double_and_lose_nothing(site: Site) -> None:
    site.per_partition = 5000
    await prepare(site)
    outcome = await random_kills(site, 3, 11, "--dwell-ms", "0.5")
    assert outcome.exact, outcome
    assert outcome.lives == 4


PLACES = [("local", step) for step in STEPS]
PLACES += [("kafka", step) for step in STEPS if step not in {"3-checked", "6-published"}]


@pytest.mark.parametrize(
    ("log", "step"), [pytest.param(*s, marks=pytest.mark.kafka if s[0] == "kafka" else ()) for s in PLACES]
)
async def test_death_after_each_step(site: Site, step: str) -> None:
    """The numbered steps of docs/protocols/commit.md: up to 4 nothing of the commit is left, from 5 on all of it."""
    await prepare(site)
    worker = await Worker.start(site, "--die-at", step, "--batch", "1")
    assert await worker.ended() == -signal.SIGKILL
    assert worker.last == step
    assert worker.commits == 4
    after = await Worker.start(site, "--pace-ms", "0", "--batch", "500")
    assert await after.ended() == 0
    assert after.restored == (4 if step[0] in "1234" else 5)
    outcome = await compare(site)
    assert outcome.exact, outcome


@BOTH
async def test_guard_transaction_off_doubles_under_kill(site: Site) -> None:
    await prepare(site)
    worker = await Worker.start(site, "--guard-off", "transaction", "--die-at", "between")
    assert await worker.ended() == -signal.SIGKILL
    await _finish(site)
    outcome = await compare(site)
    assert outcome.duplicates > 0


@pytest.mark.parametrize("log", ["local"])
async def test_a_stopped_local_process_keeps_everybody_else_out_until_it_is_dead(site: Site) -> None:
    """A process stopped in mid-commit cannot be overtaken, so it can be no zombie; dead, its lock is free at once."""
    site.per_partition = 3000
    await prepare(site)
    worker = await Worker.start(site, "--dwell-ms", "2")
    await worker.working()
    worker.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(Exception, match="in use by another process"):
            async with open_log(site.log, site.place, site.prefix):
                pass
    finally:
        await worker.kill()
    await _finish(site)
    outcome = await compare(site)
    assert outcome.exact, outcome


async def _zombie(site: Site, *options: str) -> int:
    """One worker stopped in mid-stream, another takes over, the first goes on: the first one's exit status."""
    site.per_partition = 2500
    await prepare(site)
    old = await Worker.start(site, *options, "--pace-ms", "5")
    new: Worker | None = None
    try:
        await old.working()
        old.process.send_signal(signal.SIGSTOP)
        new = await Worker.start(site, *options, "--pace-ms", "5")
        await new.working()
        old.process.send_signal(signal.SIGCONT)
        status = await asyncio.wait_for(old.ended(), 60)
        assert await asyncio.wait_for(new.ended(), 100) == 0
        return status
    finally:
        await old.kill()
        if new is not None:
            await new.kill()


@pytest.mark.kafka
@pytest.mark.parametrize("log", ["kafka"])
async def test_a_zombie_is_fenced_and_doubles_nothing(site: Site) -> None:
    assert await _zombie(site) == FENCED
    outcome = await compare(site)
    assert outcome.exact, outcome


@pytest.mark.kafka
@pytest.mark.parametrize("log", ["kafka"])
async def test_guard_fencing_off_lets_the_zombie_double(site: Site) -> None:
    assert await _zombie(site, "--guard-off", "fencing") == 0
    outcome = await compare(site)
    assert outcome.duplicates > 0


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("log", ["kafka"])
async def test_a_killed_broker_doubles_and_loses_nothing(site: Site, tmp_path: Path) -> None:
    """kill -9 of the broker in mid-stream, back on its directory: what it acknowledged is there, what was open is aborted."""
    service = KafkaService(tmp_path / "broker", port=free_ports(1)[0], heap_mb=384)
    worker: Worker | None = None
    try:
        site.place = await service.start()
        site.per_partition = 4000
        await prepare(site)
        worker = await Worker.start(site, "--pace-ms", "5")
        await worker.working()
        await service.kill()
        await service.start()
        before = worker.commits
        for _ in range(5):  # a worker may wait the broker out, or give up and leave it to the next
            status = await worker.ended()
            if status == 0:
                break
            worker = await Worker.start(site)
        assert status == 0
        assert before * 40 < site.total
        outcome = await compare(site)
        assert outcome.exact, outcome
    finally:
        if worker is not None:
            await worker.kill()
        await service.stop()
