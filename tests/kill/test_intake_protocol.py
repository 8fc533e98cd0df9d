"""The intake protocol, killed at every numbered step: nothing acknowledged is lost, nothing counts twice.

The child ends with ``os._exit`` inside the step, so nothing is flushed, answered or closed behind it. Then another child
sends again what was not acknowledged, dies in its turn, and the last one finishes.
"""

import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hengliu.intake.guards import STEPS
from tests.contract.event_log_support import event_log_kafka
from tests.intake.city import decoded, records
from tests.kill.intake_child import HEARD, events_of, open_log, prefix_of

__all__ = ["event_log_kafka"]

ROOT = Path(__file__).parents[2]
_numbers = itertools.count()


class Case:
    """One log, and what the children and their parent know of it."""

    def __init__(self, kind: str, place: str, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.kind, self.place = kind, place
        self.tag = f"kill{os.getpid()}x{next(_numbers)}"
        self.events = events_of(self.tag)
        self._acknowledged = folder / "acknowledged"

    @classmethod
    def local(cls, folder: Path) -> "Case":
        return cls("local", str(folder / "log"), folder)

    def child(self, step: str = "-", occurrence: int = 1, guard: str = "-") -> int:
        arguments = [self.kind, self.place, self.tag, str(self._acknowledged), step, str(occurrence), guard]
        command = [sys.executable, "-m", "tests.kill.intake_child", *arguments]
        return subprocess.run(command, cwd=ROOT, timeout=100, check=False).returncode

    async def written(self) -> Counter[tuple[str, str]]:
        async with open_log(self.kind, self.place, self.tag) as log:
            events = [decoded(value) for _, value in await records(log, "weighing")]
        mine = prefix_of(self.tag)
        return Counter((event["source"], event["id"]) for event in events if event["source"].startswith(mine))

    @property
    def acknowledged(self) -> set[tuple[str, str]]:
        lines = self._acknowledged.read_text(encoding="utf-8").splitlines() if self._acknowledged.exists() else []
        return {(source, id_) for source, _, id_ in (line.partition(" ") for line in lines)}

    async def killed_at(self, step: str, *occurrences: int) -> None:
        for occurrence in occurrences:
            assert self.child(step, occurrence) == 9, "the step was not reached"
            there = await self.written()
            assert self.acknowledged <= set(there), "acknowledged and lost"
            assert set(there.values()) <= {1}
            assert len(there) < len(self.events), "killed too late to show anything"
        assert self.child() == 0
        assert await self.written() == Counter(self.events)
        assert self.acknowledged == set(self.events)


@pytest.mark.parametrize("step", STEPS)
async def test_killed_after_each_step(tmp_path: Path, step: str) -> None:
    await Case.local(tmp_path).killed_at(step, 1, 3)


@pytest.mark.kafka
@pytest.mark.parametrize("step", ["intake.3-committing", "intake.4-committed"])
async def test_killed_around_the_commit_on_kafka(tmp_path: Path, event_log_kafka: str, step: str) -> None:
    await Case("kafka", event_log_kafka, tmp_path).killed_at(step, 3)


async def test_dedup_off_turns_the_resend_into_second_copies(tmp_path: Path) -> None:
    case = Case.local(tmp_path)
    assert case.child("intake.4-committed", 3, "dedup") == 9
    assert case.child(guard="dedup") == 0
    assert max((await case.written()).values()) == 2


async def test_answering_before_the_commit_loses_what_was_acknowledged(tmp_path: Path) -> None:
    on, off = Case.local(tmp_path / "on"), Case.local(tmp_path / "off")
    assert on.child(HEARD, 5) == 9
    assert len(on.acknowledged) >= 5 * 7
    assert on.acknowledged <= set(await on.written())

    assert off.child(HEARD, 5, "commit_before_answer") == 9
    assert off.acknowledged - set(await off.written()), "nothing was lost, so the guard proves nothing"
