"""The short form of ``tests.kill.windows``: the hardest kind of source topic, one kill at each size of the group."""

from pathlib import Path

import pytest

from tests.kill.windows import PHASES, prove


@pytest.mark.timeout(300)
async def test_killed_workers_leave_every_window_exact(tmp_path: Path) -> None:
    outcome = await prove("both", kills=len(PHASES), seed=7, folder=tmp_path)
    assert outcome.faults == []
    assert outcome.kills == len(PHASES)
    assert outcome.broker_restarts == len(PHASES) - 1
    assert outcome.windows > 100  # how many depends on how fast the machine writes while workers die
