"""The intake protocol, killed at every numbered step: nothing acknowledged is lost, nothing counts twice.

The child ends with ``os._exit`` inside the step, so nothing is flushed, answered or closed behind it. Then another child
sends again what was not acknowledged, dies in its turn, and the last one finishes.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hengliu.intake.guards import STEPS
from infra.local_log import LocalLog
from tests.intake.city import decoded, records
from tests.kill.intake_child import EVENTS, HEARD

ROOT = Path(__file__).parents[2]


def child(folder: Path, step: str = "-", occurrence: int = 1, guard: str = "-") -> int:
    folder.mkdir(exist_ok=True)
    arguments = [str(folder / "log"), str(folder / "acknowledged"), step, str(occurrence), guard]
    command = [sys.executable, "-m", "tests.kill.intake_child", *arguments]
    return subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode


async def written(folder: Path) -> Counter[tuple[str, str]]:
    async with LocalLog.open(folder / "log") as log:
        events = [decoded(value) for _, value in await records(log, "weighing")]
    return Counter((event["source"], event["id"]) for event in events)


def acknowledged(folder: Path) -> set[tuple[str, str]]:
    path = folder / "acknowledged"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {(source, id_) for source, _, id_ in (line.partition(" ") for line in lines)}


@pytest.mark.parametrize("step", STEPS)
async def test_killed_after_each_step(tmp_path: Path, step: str) -> None:
    for occurrence in (1, 3):
        assert child(tmp_path, step, occurrence) == 9, "the step was not reached"
        there = await written(tmp_path)
        assert acknowledged(tmp_path) <= set(there), "acknowledged and lost"
        assert set(there.values()) <= {1}
        assert len(there) < len(EVENTS), "killed too late to show anything"
    assert child(tmp_path) == 0
    assert await written(tmp_path) == Counter(EVENTS)
    assert acknowledged(tmp_path) == set(EVENTS)


async def test_dedup_off_turns_the_resend_into_second_copies(tmp_path: Path) -> None:
    assert child(tmp_path, "intake.4-committed", 3, "dedup") == 9
    assert child(tmp_path, guard="dedup") == 0
    assert max((await written(tmp_path)).values()) == 2


async def test_answering_before_the_commit_loses_what_was_acknowledged(tmp_path: Path) -> None:
    assert child(tmp_path / "on", HEARD, 5) == 9
    assert len(acknowledged(tmp_path / "on")) >= 5 * 7
    assert acknowledged(tmp_path / "on") <= set(await written(tmp_path / "on"))

    assert child(tmp_path / "off", HEARD, 5, "commit_before_answer") == 9
    assert acknowledged(tmp_path / "off") - set(await written(tmp_path / "off")), (
        "nothing was lost, so the guard proves nothing"
    )
