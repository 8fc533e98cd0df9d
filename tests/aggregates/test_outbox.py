"""The outbox on a real event store, a real log and a real intake: ``docs/protocols/outbox.md``, step by step."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from aggregates.outbox import SOURCE, Outbox, OutboxBlocked
from aggregates.registration import InvariantViolated, Registration
from aggregates.registry import Registry, event_store_environment
from hengliu.events import topics
from hengliu.events.envelope import iso_ms, ms_of
from hengliu.intake.guards import ALL_GUARDS, Guards
from hengliu.ports.clock import ManualClock, SystemClock
from tests.intake.city import NOW, REGISTRAR, City, decoded, eventually, registration, running

ENTERPRISE = ("enterprise.registered", {"enterprise": "m01", "name": "示例煤矿", "kind": "mine", "division": "150303"})
SITE = (
    "site.registered",
    {"site": "m01", "enterprise": "m01", "name": "示例煤矿", "division": "150303", "kind": "mine"},
)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry(event_store_environment("sqlite", str(tmp_path)), SystemClock())
    yield opened
    opened.close()


class Way:
    """The way to intake; remembers what was handed over, and dies after the answer as often as asked."""

    def __init__(self, city: City, deaths: int = 0) -> None:
        self._city = city
        self.deaths = deaths
        self.handed: list[str] = []

    async def submit(self, events: Sequence[bytes]) -> list[str]:
        outcomes = await self._city.intake.submit(REGISTRAR, events)
        self.handed += [str(decoded(event)["id"]) for event in events]
        if self.deaths:
            self.deaths -= 1
            raise ConnectionAbortedError
        return [str(outcome.status) for outcome in outcomes]


@contextlib.asynccontextmanager
async def published(outbox: Outbox) -> AsyncIterator[asyncio.Task[None]]:
    """The outbox at work."""
    task = asyncio.create_task(outbox.run())
    try:
        yield task
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def in_topic(city: City) -> list[str]:
    """Ids of the registry's events in the log, in order."""
    return [str(decoded(v)["id"]) for _, v in await city.records(topics.REGISTRY) if decoded(v)["source"] == SOURCE]


async def until(city: City, count: int) -> list[str]:
    for _ in range(2_000):
        ids = await in_topic(city)
        if len(ids) >= count:
            return ids
        await asyncio.sleep(0.005)
    raise AssertionError(f"{count} events did not come")


async def test_what_is_registered_reaches_the_log_in_order_and_once(tmp_path: Path, registry: Registry) -> None:
    async with running(tmp_path / "log.sqlite", register=False, clock=SystemClock()) as city:
        way = Way(city)
        registry.register([ENTERPRISE, SITE], "ann")
        async with published(Outbox(registry, city.log, way.submit)):
            assert await until(city, 2) == ["1", "2"]
        async with published(Outbox(registry, city.log, way.submit, poll_s=0.01)):
            await asyncio.sleep(0.1)
        assert way.handed == ["1", "2"]  # the second outbox went on behind them


async def _die_between_answer_and_commit(tmp_path: Path, registry: Registry, guards: Guards) -> tuple[list[str], list[str]]:
    """(ids handed over, ids in the log) of an outbox that died after step 2 and was started again."""
    async with running(tmp_path / "log.sqlite", register=False, clock=SystemClock(), guards=guards) as city:
        way = Way(city, deaths=1)
        registry.register([ENTERPRISE], "ann")
        with pytest.raises(ConnectionAbortedError):
            await Outbox(registry, city.log, way.submit).run()
        async with published(Outbox(registry, city.log, way.submit)):
            registry.register([SITE], "ann")
            await eventually(lambda: "2" in way.handed)
        return way.handed, await in_topic(city)


async def test_death_after_the_answer_hands_over_again_and_counts_once(tmp_path: Path, registry: Registry) -> None:
    handed, stored = await _die_between_answer_and_commit(tmp_path, registry, ALL_GUARDS)
    assert handed.count("1") == 2
    assert stored == ["1", "2"]


async def test_without_dedup_it_counts_twice(tmp_path: Path, registry: Registry) -> None:
    _, stored = await _die_between_answer_and_commit(tmp_path, registry, Guards(dedup=False))
    assert stored.count("1") == 2


async def test_a_refusal_stops_the_outbox_and_stays_first_in_line(tmp_path: Path, registry: Registry) -> None:
    async with running(tmp_path / "log.sqlite", register=False, clock=SystemClock()) as city:
        handed: list[int] = []

        async def refusing(events: Sequence[bytes]) -> list[str]:
            handed.append(len(events))
            return ["refused"] * len(events)

        registry.register([ENTERPRISE], "ann")
        for _ in range(2):
            with pytest.raises(OutboxBlocked, match="notification 1"):
                await Outbox(registry, city.log, refusing).run()
        assert handed == [1, 1]


async def test_who_registered_and_when_by_our_clock(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    registry = Registry(event_store_environment("sqlite", str(tmp_path)), clock)
    try:
        registry.register([ENTERPRISE, SITE], "ann")
        clock.advance(5_000)
        later = {**ENTERPRISE[1], "name": "改名", "valid_from": iso_ms(NOW + 60_000)}
        registry.register([(ENTERPRISE[0], later)], "bob")
        told = [(n.principal, ms_of(n.time)) for n in registry.notifications(0)]
        assert told == [("ann", NOW), ("ann", NOW), ("bob", NOW + 5_000)]
        async with running(tmp_path / "log.sqlite", register=False, clock=clock) as city:
            way = Way(city)
            async with published(Outbox(registry, city.log, way.submit)):
                assert await until(city, 3) == ["1", "2", "3"]
            written = [(h.principal, decoded(v)["registrar"]) for h, v in await city.records(topics.REGISTRY)]
            assert written == [("ann", "ann"), ("ann", "ann"), ("bob", "bob")]
            # What nobody is named for, and what is no reference event, is its sender's.
            await city.intake.submit(REGISTRAR, [registration("rule.published", 9, rule="r", version=1, parameters={})])
            assert (await city.records(topics.REGISTRY))[-1][0].principal == REGISTRAR.name
    finally:
        registry.close()


def test_events_stored_before_names_were_kept_are_still_read(registry: Registry) -> None:
    old = {"event_type": "x", "payload": "{}"}
    for kind in (Registration.Created, Registration.Amended):
        state = dict(old)
        kind.upcast_v1_v2(state)
        assert state == {**old, "principal": ""}
        assert kind.class_version == 2


def test_a_repeated_command_stores_nothing_and_waits_for_what_is_stored(registry: Registry) -> None:
    first = registry.register([ENTERPRISE, SITE], "ann")
    assert registry.register([ENTERPRISE], "ann") == first
    assert [n.id for n in registry.notifications(0)] == [1, 2]


def test_a_command_that_breaks_an_invariant_stores_nothing_of_it(registry: Registry) -> None:
    with pytest.raises(InvariantViolated, match="enterprise-unknown"):
        registry.register([("district.registered", {"division": "150303", "name": "海南区"}), SITE], "ann")
    assert list(registry.notifications(0)) == []
