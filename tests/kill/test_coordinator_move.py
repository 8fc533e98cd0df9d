"""The short form of ``python -m tests.kill.coordinator_move``."""

from pathlib import Path

import pytest

from tests.kill.coordinator_move import prove


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_commits_go_on_exactly_when_their_coordinator_dies(tmp_path: Path) -> None:
    seen = await prove(tmp_path, 1)
    assert seen.coordinators[0] != seen.coordinators[1]
    assert seen.outcome.exact, seen.outcome
