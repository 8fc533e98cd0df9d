"""Each guard of intake, on and off: with it the run is right, without it the violation really happens."""

import asyncio
import re
from pathlib import Path

import pytest

from hengliu.intake.guards import STEPS, Guards
from hengliu.intake.service import IntakePolicy, Outcome, Status, Unavailable
from hengliu.ports.faults import Faults
from hengliu.ports.log import LogUnavailable, TopicPartition, partition_for
from tests.intake.city import DEVICE, PARTITIONS, SOURCE, City, eventually, running, weighing

FAST = IntakePolicy(reopen_min_s=0.01, reopen_max_s=0.05)


def fail_second_commit() -> Faults:
    """The first commit is the registration; the second fails."""
    calls = [0]

    def faults(step: str) -> None:
        if step == STEPS[2]:
            calls[0] += 1
            if calls[0] == 2:
                raise LogUnavailable("as the test says")

    return faults


async def _twice(path: Path, guards: Guards) -> int:
    async with running(path, guards=guards) as city:
        await city.intake.submit(DEVICE, [weighing(1)])
        await city.intake.submit(DEVICE, [weighing(1)])
        return len(await city.records("weighing"))


async def test_dedup(tmp_path: Path) -> None:
    assert await _twice(tmp_path / "on", Guards()) == 1
    assert await _twice(tmp_path / "off", Guards(dedup=False)) == 2


async def _acknowledged_and_written(path: Path, guards: Guards) -> tuple[int, int]:
    """Events acknowledged, and events in the log, when the commit fails."""
    async with running(path, guards=guards, faults=fail_second_commit(), policy=FAST) as city:
        await eventually(lambda: len(city.directory) == 8)  # with an early answer the registration comes after it
        try:
            outcomes = await city.intake.submit(DEVICE, [weighing(1)])
        except Unavailable:
            outcomes = []
        acknowledged = sum(o.status is Status.ACCEPTED for o in outcomes)
        return acknowledged, len(await city.records("weighing"))


async def test_commit_before_answer(tmp_path: Path) -> None:
    assert await _acknowledged_and_written(tmp_path / "on", Guards()) == (0, 0)
    acknowledged, written = await _acknowledged_and_written(tmp_path / "off", Guards(commit_before_answer=False))
    assert (acknowledged, written) == (1, 0)  # acknowledged and lost


async def _received(path: Path, guards: Guards) -> list[int]:
    async with running(path, guards=guards, policy=IntakePolicy(tick_after_ms=50)) as city:
        city.clock.advance(10_000)
        await _ticked(city)
        city.clock.advance(-5_000)
        await city.intake.submit(DEVICE, [weighing(1)])
        tp = TopicPartition("weighing", partition_for(SOURCE.encode(), PARTITIONS))
        part = await city.log.read_range(tp, 0, (await city.log.end_positions([tp]))[tp])
        return [h.received for h in part.headers]


async def _ticked(city: City) -> None:
    goal = city.intake.counts.ticks + PARTITIONS * len(city.intake.canonical)
    await eventually(lambda: city.intake.counts.ticks >= goal)


async def test_monotone_received(tmp_path: Path) -> None:
    on = await _received(tmp_path / "on", Guards())
    assert on == sorted(on)
    off = await _received(tmp_path / "off", Guards(monotone_received=False))
    assert off != sorted(off)  # a record stands behind a tick that said it could not


async def _second_copy(path: Path, guards: Guards) -> tuple[list[str], int]:
    """What two callers with the same event in one batch hear when the commit fails, and what the log then holds."""
    async with running(path, guards=guards, faults=fail_second_commit(), policy=FAST) as city:
        answers = await asyncio.gather(*(city.intake.submit(DEVICE, [weighing(1)]) for _ in range(2)), return_exceptions=True)

        def heard(answer: list[Outcome] | BaseException) -> str:
            return type(answer).__name__ if isinstance(answer, BaseException) else str(answer[0].status)

        return [heard(answer) for answer in answers], len(await city.records("weighing"))


async def test_in_flight_wait(tmp_path: Path) -> None:
    assert await _second_copy(tmp_path / "on", Guards()) == (["Unavailable", "Unavailable"], 0)
    # "duplicate" counts as taken: this caller will not send again, and nothing is written.
    assert await _second_copy(tmp_path / "off", Guards(in_flight_wait=False)) == (["Unavailable", "duplicate"], 0)


@pytest.mark.parametrize("guard", list(Guards.__dataclass_fields__))
def test_every_guard_has_its_test(guard: str) -> None:
    assert f"test_{guard}" in globals()


def test_the_protocol_document_names_every_step_guard_and_test() -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs/protocols/intake.md").read_text(encoding="utf-8")
    tests = Path(__file__).read_text(encoding="utf-8") + (root / "tests/kill/test_intake_protocol.py").read_text(
        encoding="utf-8"
    )
    for number, step in enumerate(STEPS, 1):
        assert f"| {number} | `{step}` |" in text
    for guard in Guards.__dataclass_fields__:
        assert f"| `{guard}` |" in text
    named = set(re.findall(r"`(test_[a-z_]+)`", text))
    assert len(named) >= len(Guards.__dataclass_fields__)
    assert all(f"def {name}(" in tests for name in named), named
