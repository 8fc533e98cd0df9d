"""What workers tell their consumer groups is seen by a process that has no part in them."""

import asyncio
import contextlib
import socket

import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place

from hengliu.ports.log import LogUnavailable, TopicPartition
from infra.kafka_groups import ConsumerGroupPositions
from tests.contract.event_log_support import KafkaBed, make_topic


async def answered(positions: ConsumerGroupPositions) -> None:
    """One look. A broker that has just started says for a while that it does not keep the group yet."""
    for _ in range(100):
        with contextlib.suppress(LogUnavailable):
            return await positions.poll()
        await asyncio.sleep(0.1)
    raise AssertionError("the groups have no coordinator")


@pytest.mark.kafka
async def test_committed_positions_of_groups(kafka_bed: KafkaBed) -> None:
    async with kafka_bed.open() as log:
        tp = await make_topic(log, kafka_bed)
    one, other = kafka_bed.name("one"), kafka_bed.name("other")
    positions = ConsumerGroupPositions(kafka_bed.bootstrap, [one, other])
    assert positions.of(one) == {}
    await answered(positions)
    assert (positions.of(one), positions.of(other)) == ({}, {})
    member = Consumer({"bootstrap.servers": kafka_bed.bootstrap, "group.id": one, "enable.auto.commit": False})
    try:
        for offset in (7, 11):
            member.commit(offsets=[Place(tp.topic, tp.partition, offset)], asynchronous=False)
            await answered(positions)
            assert (positions.of(one), positions.of(other)) == ({tp: offset}, {})
    finally:
        member.close()
    await answered(positions)
    await positions.close()
    assert positions.of(one) == {TopicPartition(tp.topic, tp.partition): 11}, "a worker that is gone stays where it was"


@pytest.mark.logs_errors
async def test_a_broker_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.kafka_groups.TIMEOUT_S", 0.3)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        positions = ConsumerGroupPositions(f"127.0.0.1:{nobody.getsockname()[1]}", ["g"])
        with pytest.raises(LogUnavailable, match="consumer groups"):
            await positions.poll()
        assert positions.of("g") == {}
