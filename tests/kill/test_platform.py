"""Three kills a deployment; the make target ``kill`` does fifty."""

import random
from pathlib import Path

import pytest

from tests.kill.platform import deployed, prove

KAFKA = pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.postgres])


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("engine", ["local", KAFKA])
async def test_nothing_is_lost_or_doubled_under_kill_9(engine: str, tmp_path: Path) -> None:
    async with deployed(engine, tmp_path) as (deployment, settings):
        outcome = await prove(deployment, settings, 3, random.Random(11), 30)
    assert outcome.faults == []
    assert outcome.kills == 3
    assert min(outcome.half_tickets) > 0
    assert min(outcome.open_windows) > 0
