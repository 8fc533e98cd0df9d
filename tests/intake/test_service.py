"""Intake on the local log: what is written, what is answered, and when."""

import asyncio
from hashlib import sha256
from pathlib import Path

import pytest

from hengliu.events.families.warning import EventRefused
from hengliu.events.refused import Payload
from hengliu.intake.guards import STEPS
from hengliu.intake.parse import Refusal
from hengliu.intake.service import (
    IntakePolicy,
    NotPermitted,
    Outcome,
    Overloaded,
    Status,
    Unavailable,
)
from hengliu.ports.log import CLOCK_TYPE, Headers, LogUnavailable, Record, TaskId, TopicPartition, partition_for
from hengliu.rights import Principal, Role
from tests.intake.city import (
    DEVICE,
    NOW,
    PARTITIONS,
    REGISTRAR,
    SOURCE,
    City,
    city_events,
    decoded,
    eventually,
    registration,
    running,
    weighing,
)

OTHER = "urn:dev:org:32473-wb-m01-2"
FAST = IntakePolicy(reopen_min_s=0.01, reopen_max_s=0.05)


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [str(outcome.status) for outcome in outcomes]


async def until_open(city: City) -> None:
    await eventually(lambda: city.intake.open)


async def test_an_accepted_event_is_stored_verbatim_with_its_scope(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        value = weighing("e1-1").replace(b'"data"', b'\n  "data" ')
        (outcome,) = await city.intake.submit(DEVICE, [value])
        assert (outcome.status, outcome.id, outcome.source) == (Status.ACCEPTED, "e1-1", SOURCE)
        ((headers, stored),) = await city.records("weighing")
        assert stored == value
        assert (headers.received, headers.type, headers.principal) == (NOW, "weighing.measured", "tester")
        assert (headers.enterprise, headers.site, headers.division) == ("m01", "m01", "150303")


async def test_outcomes_stand_in_the_order_sent_and_bad_elements_alone_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        sources = [f"urn:dev:org:32473-wb-m01-{1 + n % 8}" for n in range(40)]
        elements = [weighing(n, source) for n, source in enumerate(sources)]
        elements[7] = b"{"
        elements[11] = weighing(11, sources[11], mass_kg="heavy")
        outcomes = await city.intake.submit(DEVICE, elements)
        assert [o.id for o in outcomes] == [None if n == 7 else str(n) for n in range(40)]
        assert [o.source for o in outcomes] == [None if n == 7 else source for n, source in enumerate(sources)]
        refused = {n: o.problem.code for n, o in enumerate(outcomes) if o.problem is not None}
        assert refused == {7: "not-json", 11: "data-invalid"}
        assert len({partition_for(source.encode(), PARTITIONS) for source in sources}) == PARTITIONS
        assert sorted(int(decoded(v)["id"]) for _, v in await city.records("weighing")) == [
            n for n in range(40) if n not in (7, 11)
        ]


async def test_a_position_covers_its_event(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        for number in range(3):
            (outcome,) = await city.intake.submit(DEVICE, [weighing(number)])
            assert outcome.position is not None
            tp = TopicPartition(outcome.position.topic, outcome.position.partition)
            part = await city.log.read_range(tp, 0, outcome.position.position)
            assert decoded(bytes(part.values[-1]))["id"] == str(number)


async def test_a_second_copy_is_a_duplicate_and_other_content_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        first = weighing("e1-1")
        assert statuses(await city.intake.submit(DEVICE, [first, first])) == ["accepted", "duplicate"]
        spaced = first.replace(b",", b" ,\n ")
        assert statuses(await city.intake.submit(DEVICE, [spaced])) == ["duplicate"]
        reused, fresh = await city.intake.submit(DEVICE, [weighing("e1-1", mass_kg=1), weighing("e1-1", OTHER)])
        assert reused.problem is not None
        assert reused.problem.code == "id-reused"
        assert fresh.status is Status.ACCEPTED
        assert len(await city.records("weighing")) == 2
        assert city.intake.counts.duplicate == 2


async def test_copies_in_flight_at_once_are_written_once(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        answers = await asyncio.gather(*(city.intake.submit(DEVICE, [weighing(n) for n in range(20)]) for _ in range(10)))
        flat = [status for answer in answers for status in statuses(answer)]
        assert (flat.count("accepted"), flat.count("duplicate")) == (20, 180)
        assert len(await city.records("weighing")) == 20


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        await city.intake.submit(DEVICE, [weighing("e1-1"), weighing("row 1x")])
        city.clock.advance(5_000)
        await city.intake.submit(DEVICE, [weighing("e1-2")])
    async with running(tmp_path / "log", register=False) as city:  # its clock stands five seconds earlier
        events = [weighing("e1-1"), weighing("row 1x"), weighing("e1-2"), weighing("e1-3")]
        assert statuses(await city.intake.submit(DEVICE, events)) == ["duplicate"] * 3 + ["accepted"]
        received = [h.received for h, _ in await city.records("weighing")]
        assert received == [NOW, NOW, NOW + 5_000, NOW + 5_000]


async def test_what_is_refused_is_kept_for_people(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        bad = weighing("e1-1", mass_kg=-5, colour="black")
        large = b'{"x":"' + b"y" * 200_000 + b'"}'
        await city.intake.submit(DEVICE, [bad, large, b"[]"])
        kept = {d["data"]["digest"]: (h, d) for h, v in await city.records("quarantine") for d in [decoded(v)]}
        assert len(kept) == 3
        headers, event = kept[sha256(bad).hexdigest()]
        assert (headers.type, headers.principal, event["source"]) == ("event.refused", "tester", "/intake")
        data = EventRefused.model_validate(event["data"])
        assert (data.reason, data.refused_source, data.refused_id) == ("data-invalid", SOURCE, "e1-1")
        assert data.refused_type == "weighing.measured"
        assert data.parameters == {"count": "2", "/data/mass_kg": "field-range", "/data/colour": "field-unexpected"}
        whole = EventRefused.model_validate(kept[sha256(large).hexdigest()][1]["data"])
        assert (whole.reason, whole.size_bytes) == ("too-large", len(large))
        assert len(whole.payload_base64) == 65_536 // 3 * 4 + 4
        assert len({event["id"] for _, event in kept.values()}) == 3


async def test_an_event_beyond_the_log_s_record_size_is_refused_alone(tmp_path: Path) -> None:
    policy = IntakePolicy(max_event_bytes=2_000_000)
    async with running(tmp_path / "log", policy=policy) as city:
        plain = weighing(2)
        wide = plain[:-1] + b" " * (1_048_576 - len(plain)) + b"}"  # the record's key and headers go beyond the limit
        outcomes = await city.intake.submit(DEVICE, [weighing(1), wide, weighing(3)])
        assert statuses(outcomes) == ["accepted", "refused", "accepted"]
        problem = outcomes[1].problem
        assert problem is not None
        assert (problem.code, problem.parameters["size"]) == ("too-large", "1048576")
        assert 1_048_000 < int(problem.parameters["limit"]) < 1_048_576
        assert [decoded(v)["id"] for _, v in await city.records("weighing")] == ["1", "3"]
        assert len(await city.records("quarantine")) == 1
        # Its id stays free.
        assert statuses(await city.intake.submit(DEVICE, [weighing(2)])) == ["accepted"]
        assert city.intake.counts.reopened == 0


async def test_a_body_that_never_was_events_is_kept_by_its_head(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        refusal = Refusal("too-large", parameters={"size": "9", "limit": "5"})
        outcome = await city.intake.refuse(DEVICE, refusal, Payload(b"head", 10_000_000, "0" * 64))
        assert (outcome.status, outcome.id, outcome.source) == (Status.REFUSED, None, None)
        await city.intake.refuse(DEVICE, Refusal("not-a-batch"), b"{}")
        sizes = sorted(decoded(v)["data"]["size_bytes"] for _, v in await city.records("quarantine"))
        assert sizes == [2, 10_000_000]


async def test_quarantine_has_a_quota_and_the_rest_is_counted(tmp_path: Path) -> None:
    policy = IntakePolicy(quarantine_records=3, quarantine_bytes=1000)
    async with running(tmp_path / "log", policy=policy) as city:
        outcomes = await city.intake.submit(DEVICE, [b"{"] * 10)
        assert statuses(outcomes) == ["refused"] * 10
        assert len(await city.records("quarantine")) == 3
        assert (city.intake.counts.quarantined, city.intake.counts.unquarantined) == (3, 7)
        other = Principal("other", frozenset({Role.DEVICE}), ("*",))
        await city.intake.submit(other, [b" " * 900, b" " * 900])
        assert len(await city.records("quarantine")) == 4
        city.clock.advance(3_600_000)
        await city.intake.submit(DEVICE, [b"{"])
        assert len(await city.records("quarantine")) == 5


async def test_scope_follows_token_registration_and_role(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        narrow = Principal("narrow", frozenset({Role.DEVICE}), (SOURCE,))
        both = Principal("both", frozenset({Role.DEVICE, Role.REGISTRAR}), ("urn:*",))
        cases = [
            (DEVICE, weighing(1, "urn:dev:org:32473-nobody"), "device-unknown"),
            (narrow, weighing(1, OTHER), "out-of-scope"),
            (DEVICE, weighing(1, "urn:dev:org:99999-x"), "out-of-scope"),
            (REGISTRAR, weighing(1, "/aggregates/registry"), "out-of-scope"),
            (DEVICE, registration("rule.published", 99, rule="overload", version=1, parameters={}), "registrar-only"),
            (both, registration("rule.published", 99, rule="overload", version=1, parameters={}), "out-of-scope"),
        ]
        for principal, element, code in cases:
            (outcome,) = await city.intake.submit(principal, [element])
            assert outcome.problem is not None, code
            assert (outcome.problem.code, outcome.source is not None) == (code, True)
        assert await city.records("weighing") == []
        with pytest.raises(NotPermitted):
            await city.intake.submit(Principal("r", frozenset({Role.READER}), ("*",)), [weighing(1)])
        # The refused id stays free.
        assert statuses(await city.intake.submit(DEVICE, [weighing(1, OTHER)])) == ["accepted"]


async def test_scope_is_that_of_the_event_s_time(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        moved = "urn:dev:org:32473-moved"
        iso = "2026-02-01T00:00:00Z"
        events = [
            registration("site.registered", 50, site="m02", enterprise="m09", name="乙矿", division="150304", kind="mine"),
            registration("device.registered", 51, device="d", source=moved, kind="weighbridge", site="m01"),
            registration("device.registered", 52, device="d", source=moved, kind="weighbridge", site="m02", valid_from=iso),
            registration("device.registered", 53, device="n", source=OTHER + "n", kind="gps", site="m02", valid_from=iso),
            registration("device.registered", 54, device="l", source=OTHER + "l", kind="gps", site="nowhere"),
        ]
        assert statuses(await city.intake.submit(REGISTRAR, events)) == ["accepted"] * 5
        january, march = 1_767_225_600_000, NOW
        await city.intake.submit(DEVICE, [weighing(1, moved, march), weighing(2, moved, january)])
        scopes = {decoded(v)["id"]: (h.enterprise, h.site, h.division) for h, v in await city.records("weighing")}
        assert scopes == {"1": ("m09", "m02", "150304"), "2": ("m01", "m01", "150303")}
        early, lost = await city.intake.submit(DEVICE, [weighing(1, OTHER + "n", january), weighing(1, OTHER + "l")])
        assert early.problem is not None
        assert lost.problem is not None
        assert (early.problem.code, lost.problem.code) == ("device-not-valid", "site-unknown")
        registry = {decoded(v)["id"]: (h.enterprise, h.site, h.division) for h, v in await city.records("registry")}
        assert registry["50"] == ("m09", "m02", "150304")
        assert registry["51"] == ("m01", "m01", "150303")


async def test_another_process_s_registration_is_read_from_the_log(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        # As another intake would: through the log alone.
        await city.intake.submit(REGISTRAR, [registration("rule.published", 60, rule="r", version=1, parameters={})])
        (headers, _), *_ = await city.records("registry")
        value = registration("device.registered", 61, device="d", source=OTHER + "x", kind="gps", site="m01")
        record = Record(b"/aggregates/registry", value, Headers(received=headers.received, type="device.registered"))
        position = await city.log.append("registry", 1, [record])
        await asyncio.wait_for(city.directory.wait_until_read(TopicPartition("registry", 1), position), 5)
        assert statuses(await city.intake.submit(DEVICE, [weighing(1, OTHER + "x")])) == ["accepted"]


# ---- clocks ----------------------------------------------------------------------------------------------------------


async def ticks_of(city: City, topic: str) -> list[int]:
    return [h.received for h, _ in await city.records(topic, ticks=True) if h.type == CLOCK_TYPE]


async def wait_for_ticks(city: City, count: int) -> None:
    await eventually(lambda: city.intake.counts.ticks >= count)


async def test_a_silent_partition_gets_a_tick_once_its_clock_advances(tmp_path: Path) -> None:
    async with running(tmp_path / "log", policy=IntakePolicy(tick_after_ms=100), register=False) as city:
        topics = city.intake.canonical
        await wait_for_ticks(city, PARTITIONS * len(topics))  # a new partition owes its clock at once
        first = city.intake.counts.ticks
        await asyncio.sleep(0.3)
        assert city.intake.counts.ticks == first  # the clock stands, so there is nothing to say
        city.clock.advance(99)
        await asyncio.sleep(0.3)
        assert city.intake.counts.ticks == first
        city.clock.advance(1)
        await wait_for_ticks(city, first + PARTITIONS * len(topics))
        for topic in topics:
            assert await ticks_of(city, topic) == [NOW, NOW + 100] * PARTITIONS
        assert "quarantine" not in topics


async def test_a_busy_topic_does_not_hold_up_the_clock_of_a_silent_one(tmp_path: Path) -> None:
    async with running(tmp_path / "log", policy=IntakePolicy(tick_after_ms=1_000)) as city:
        await wait_for_ticks(city, 1)
        await city.intake.submit(DEVICE, [weighing(0)])
        before = len(await ticks_of(city, "metering"))
        for number in range(1, 4):
            city.clock.advance(1_000)
            await city.intake.submit(DEVICE, [weighing(number)])
        assert len(await ticks_of(city, "metering")) >= before + 3


@pytest.mark.parametrize(("policy", "told"), [(IntakePolicy(), PARTITIONS), (IntakePolicy(busy_tick_after_ms=1_000), 0)])
async def test_while_events_come_silent_partitions_tell_their_clocks_sooner(
    tmp_path: Path, policy: IntakePolicy, told: int
) -> None:
    async with running(tmp_path / "log", policy=policy) as city:
        await wait_for_ticks(city, PARTITIONS * (len(city.intake.canonical) - 1))  # all but the registry's
        city.clock.advance(500)
        await city.intake.submit(DEVICE, [weighing(0)])
        city.clock.advance(100)
        await asyncio.sleep(0.5)  # tasks look each 100 ms
        assert (await ticks_of(city, "metering")).count(NOW + 600) == told


async def test_receive_times_never_go_back_and_never_fall_behind_a_tick(tmp_path: Path) -> None:
    async with running(tmp_path / "log", policy=IntakePolicy(tick_after_ms=50)) as city:
        for number, jump in enumerate([0, 700, -400, 60, -5_000, 4_000, 10, 90]):
            city.clock.advance(jump)
            await asyncio.sleep(0.06)
            await city.intake.submit(DEVICE, [weighing(number), weighing(number, OTHER)])
        for topic in city.intake.canonical:
            for partition in range(PARTITIONS):
                tp = TopicPartition(topic, partition)
                part = await city.log.read_range(tp, 0, (await city.log.end_positions([tp]))[tp])
                received = [h.received for h in part.headers]
                assert received == sorted(received)


async def test_a_clock_set_back_holds_no_tick_back_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(tmp_path / "log", policy=IntakePolicy(tick_after_ms=100)) as city:
        sources = [f"{SOURCE[:-1]}{n}" for n in range(1, 9)]
        assert {partition_for(source.encode(), PARTITIONS) for source in sources} == set(range(PARTITIONS))
        await city.intake.submit(DEVICE, [weighing(1, source) for source in sources])
        city.clock.advance(-3_600_000)
        await city.intake.submit(DEVICE, [weighing(2)])
        assert city.intake.clock_ahead_ms == 3_600_000
        done = city.intake.counts.ticks
        for _ in range(6):  # at half speed: 200 ms of the wall for 100 ms of receive time
            city.clock.advance(100)
            await asyncio.sleep(0.12)
        await wait_for_ticks(city, done + 2 * PARTITIONS * len(city.intake.canonical))
        assert sum("half speed" in r.message for r in caplog.records) == PARTITIONS
        city.clock.advance(3_600_000)
        await eventually(lambda: sum("again" in r.message for r in caplog.records) == PARTITIONS)
        assert city.intake.clock_ahead_ms == 0


# ---- overload and failure --------------------------------------------------------------------------------------------


async def test_too_much_in_line_is_overload_and_nothing_of_it_is_taken(tmp_path: Path) -> None:
    async with running(tmp_path / "log", policy=IntakePolicy(queue_events=150)) as city:
        batches = [[weighing(100 * b + n) for n in range(90)] for b in range(6)]
        answers = await asyncio.gather(*(city.intake.submit(DEVICE, batch) for batch in batches), return_exceptions=True)
        overloaded = [a for a in answers if isinstance(a, Overloaded)]
        taken = [a for a in answers if isinstance(a, list)]
        assert (len(overloaded), len(taken)) == (5, 1)
        assert overloaded[0].retry_after_s >= 1
        assert len(await city.records("weighing")) == 90
        assert statuses(await city.intake.submit(DEVICE, batches[1])) == ["accepted"] * 90
        assert city.intake.queue == (0, 0)


async def test_bytes_in_line_are_bounded_too(tmp_path: Path) -> None:
    async with running(tmp_path / "log", policy=IntakePolicy(queue_bytes=1000)) as city:
        answers = await asyncio.gather(
            *(city.intake.submit(DEVICE, [weighing(n), weighing(n + 50)]) for n in range(5)), return_exceptions=True
        )
        assert sum(isinstance(a, Overloaded) for a in answers) >= 3
        assert sum(isinstance(a, list) for a in answers) >= 1


async def test_a_failed_commit_acknowledges_nothing_and_a_resend_counts_once(tmp_path: Path) -> None:
    failures = iter([False, True, True])  # the registration, then two commits that fail

    def faults(step: str) -> None:
        if step == STEPS[2] and next(failures, False):
            raise LogUnavailable("as the test says")

    async with running(tmp_path / "log", policy=FAST, faults=faults, register=False) as city:
        await city.intake.submit(REGISTRAR, city_events())
        events = [weighing(n) for n in range(5)]
        for _ in range(2):
            with pytest.raises(Unavailable) as refused:
                await city.intake.submit(DEVICE, events)
            assert refused.value.retry_after_s >= 1
            assert await city.records("weighing") == []
            await until_open(city)
        assert statuses(await city.intake.submit(DEVICE, events)) == ["accepted"] * 5
        assert len(await city.records("weighing")) == 5
        assert city.intake.counts.reopened == 2


async def test_a_commit_whose_answer_is_lost_is_found_again(tmp_path: Path) -> None:
    lost = iter([False, True])

    def faults(step: str) -> None:
        if step == STEPS[3] and next(lost, False):
            raise LogUnavailable("committed, and nobody heard it")

    async with running(tmp_path / "log", policy=FAST, faults=faults) as city:
        with pytest.raises(Unavailable):
            await city.intake.submit(DEVICE, [weighing(1)])
        await until_open(city)
        assert statuses(await city.intake.submit(DEVICE, [weighing(1)])) == ["duplicate"]
        assert len(await city.records("weighing")) == 1


async def test_a_task_that_was_taken_over_stops_and_says_so(tmp_path: Path) -> None:
    async with running(tmp_path / "log", policy=FAST) as city:
        partition = partition_for(SOURCE.encode(), PARTITIONS)
        taker = await city.log.open_task(TaskId("intake", partition))
        with pytest.raises(Unavailable):
            await city.intake.submit(DEVICE, [weighing(1)])
        assert await city.records("weighing") == []
        await until_open(city)  # after a pause it takes the partition back, and the other session is out
        assert statuses(await city.intake.submit(DEVICE, [weighing(1)])) == ["accepted"]
        await taker.close()


async def test_who_hangs_up_while_waiting_costs_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        gone = asyncio.create_task(city.intake.submit(DEVICE, [weighing(1)]))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        (outcome,) = await city.intake.submit(DEVICE, [weighing(1)])
        assert outcome.status in (Status.ACCEPTED, Status.DUPLICATE)
        assert len(await city.records("weighing")) == 1
        assert city.intake.queue == (0, 0)


async def test_stopping_finishes_what_is_in_line_and_refuses_what_comes_later(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        waiting = [asyncio.create_task(city.intake.submit(DEVICE, [weighing(n)])) for n in range(5)]
        await asyncio.sleep(0)
        await city.intake.stop()
        assert [statuses(await answer) for answer in waiting] == [["accepted"]] * 5
        with pytest.raises(Unavailable):
            await city.intake.submit(DEVICE, [weighing(9)])
        assert len(await city.records("weighing")) == 5


async def test_nothing_is_taken_for_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        assert await city.intake.submit(DEVICE, []) == []


@pytest.mark.logs_errors
async def test_a_foreign_record_in_the_registry_does_not_blind_intake(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        good = registration("device.registered", 70, device="d", source=OTHER + "y", kind="gps", site="m01")
        records = [Record(b"x", value, Headers(received=NOW, type="device.registered")) for value in (b"{", b'{"id":1}', good)]
        position = await city.log.append("registry", 0, records)
        await asyncio.wait_for(city.directory.wait_until_read(TopicPartition("registry", 0), position), 5)
        assert city.directory.unreadable == 2
        assert statuses(await city.intake.submit(DEVICE, [weighing(1, OTHER + "y")])) == ["accepted"]
