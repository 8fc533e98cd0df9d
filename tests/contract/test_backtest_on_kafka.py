"""A back-test reads a Kafka log as it reads the local one, also from the middle on."""

from pathlib import Path

import pytest

from hengliu.events.catalog import Catalog
from infra.kafka_log import KafkaLog
from infra.services.kafka import KafkaService
from streams.backtest import Backtest
from streams.rules.catalog import RULES_BY_NAME
from tests.rules.city_log import START, fill

pytestmark = pytest.mark.kafka

HOUR = 3_600_000


async def test_unchanged_parameters_reproduce_exactly_what_was_raised(tmp_path: Path) -> None:
    # A broker of its own: the platform's topics bear their plain names here and have one partition.
    async with KafkaService(tmp_path, heap_mb=384) as bootstrap, KafkaLog.open(bootstrap) as log:
        await fill(log, 16, partitions=1)
        for from_h, warm_up_ms in ((0, None), (12, 6 * HOUR)):
            test = Backtest(
                log, Catalog(), RULES_BY_NAME["overload"], START + from_h * HOUR, START + 16 * HOUR, warm_up_ms=warm_up_ms
            )
            found = await test.run()
            assert (found.only_now, found.only_then, found.changed) == ((), (), ())
            assert from_h or found.both
