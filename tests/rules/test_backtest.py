"""Without other parameters a back-test gives exactly what was raised; with others, what differs; it writes nothing."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hengliu.events.catalog import Catalog
from hengliu.ports.log import TopicPartition
from infra.local_log import LocalLog
from streams.backtest import Backtest, Comparison, Raised, compare
from streams.rules.catalog import RULES_BY_NAME
from tests.rules.city_log import START, build

HOUR = 3_600_000
END = START + 48 * HOUR
RETIRED = {"rule": "overload", "version": 2, "parameters": {}, "status": "retired", "valid_from": "2026-03-03T06:00:00Z"}
ACTIVE = {"rule": "overload", "version": 3, "parameters": {}, "status": "active", "valid_from": "2026-03-03T10:00:00Z"}


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days, with the rule ``overload`` retired for four hours of the second."""
    path = tmp_path_factory.mktemp("city") / "log.sqlite"
    asyncio.run(build(path, 48, [(START + 20 * HOUR, RETIRED), (START + 21 * HOUR, ACTIVE)]))
    return path


async def replay(
    path: Path, rule: str = "overload", from_ms: int = START, to_ms: int = END, **more: Any
) -> tuple[Backtest, Comparison]:
    log = await LocalLog.open_read_only(path)
    try:
        test = Backtest(log, Catalog(), RULES_BY_NAME[rule], from_ms, to_ms, **more)
        return test, await test.run()
    finally:
        await log.close()


RAISED = {"tickets", "overload", "shipment", "position", "price", "plate-match", "repeated-weighing", "idle-zero"}
"""Rules of which the two days have warnings."""


@pytest.mark.parametrize("rule", RULES_BY_NAME)
async def test_unchanged_parameters_reproduce_exactly_what_was_raised(city: Path, rule: str) -> None:
    """Of every rule: ids, times, severities, parameters and rule versions."""
    test, found = await replay(city, rule)
    assert (found.only_now, found.only_then, found.changed) == ((), (), ())
    assert all(now == then for now, then in found.both)
    assert (test.beyond, test.other_version) == (0, 0)
    assert found.both or rule not in RAISED


@pytest.mark.parametrize(("from_h", "to_h", "warm_up_h"), [(24, 48, 12), (36, 44, 12)])
async def test_from_the_warm_up_on_it_is_the_same(city: Path, from_h: int, to_h: int, warm_up_h: int) -> None:
    """Only a part of the log is read."""
    from_ms, to_ms = START + from_h * HOUR, START + to_h * HOUR
    whole, _ = await replay(city, "overload", from_ms, to_ms)
    test, found = await replay(city, "overload", from_ms, to_ms, warm_up_ms=warm_up_h * HOUR)
    assert (found.only_now, found.only_then, found.changed) == ((), (), ())
    assert found.both
    assert test.progress.records < whole.progress.records


async def test_without_warm_up_what_began_before_is_missed(city: Path) -> None:
    """The guard off: a laden truck whose tare was weighed before the beginning has no ticket, so no warning."""
    _, whole = await replay(city, "overload")
    missed = 0
    for now, _ in whole.both[:6]:
        _, warm = await replay(city, "overload", now.time - 1_000, now.time + 1, warm_up_ms=24 * HOUR)
        _, cold = await replay(city, "overload", now.time - 1_000, now.time + 1, warm_up_ms=0)
        assert (warm.only_then, len(warm.both)) == ((), 1)
        missed += len(cold.only_then)
    assert missed, "the first six are not all of trucks that were weighed laden first"


async def test_a_lower_limit_raises_more_and_a_higher_one_less(city: Path) -> None:
    _, lower = await replay(city, parameters={"combination-6": "40000"})
    _, higher = await replay(city, parameters={"combination-6": "53000"})
    assert len(lower.only_now) > 5
    assert lower.only_then == ()
    assert higher.only_now == ()
    assert higher.only_then
    # The same tickets, over another limit: what is told of them differs.
    changed = {now.warning for now, _ in lower.changed}
    assert changed == {now.warning for now, _ in lower.both if now.parameters["limit_kg"] == "40000"}
    assert {r.parameters["limit_kg"] for r in lower.only_now} == {"40000"}


async def test_what_one_group_derives_reaches_the_next(city: Path) -> None:
    """Legs are joined in one group, judged in another: a parameter of the join shows in the warnings."""
    _, found = await replay(city, "shipment", parameters={"match_within_s": "60"})
    _, unchanged = await replay(city, "shipment")
    assert len(found.both) + len(found.only_now) != len(unchanged.both)
    assert found.only_then


async def test_a_retired_rule_is_tested_before_it_is_switched_on(city: Path) -> None:
    _, as_was = await replay(city)
    _, switched = await replay(city, active=True)
    assert as_was.only_now == ()
    assert {r.time // HOUR * HOUR for r in switched.only_now} <= {START + h * HOUR for h in range(30, 34)}
    assert switched.only_now
    assert switched.only_then == ()


async def test_warnings_name_the_version_that_was_in_force(city: Path) -> None:
    _, found = await replay(city, parameters={"combination-6": "40000"})
    versions = {r.rule_version for r in found.only_now}
    assert versions == {1, 3}


async def test_it_writes_nothing(city: Path) -> None:
    async def ends() -> dict[TopicPartition, int]:
        log = await LocalLog.open_read_only(city)
        try:
            tps = [TopicPartition(s.name, p) for s in await log.topics() for p in range(s.partitions)]
            return dict(await log.end_positions(tps))
        finally:
            await log.close()

    before = await ends()
    await replay(city, parameters={"combination-6": "40000"})
    assert await ends() == before


def raised(id_: str, since: str = "2026-03-01T00:00:00.000Z", severity: str = "high") -> Raised:
    return Raised(id_, "overload", "蒙C1", severity, since, 0, "m01", "m01", {}, 1, 1)


def test_what_another_version_raised_is_matched_by_its_cause() -> None:
    found = compare([raised("a"), raised("b", "x"), raised("n", "y")], [raised("a", severity="low"), raised("c", "x")])
    assert [(now.warning, then.warning) for now, then in found.both] == [("a", "a"), ("b", "c")]
    assert [now.warning for now, _ in found.changed] == ["a"]
    assert [r.warning for r in found.only_now] == ["n"]
    assert found.only_then == ()


def command(path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "HENGLIU_DATA_DIR": str(path.parent), "HENGLIU_LOG": "local", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "hengliu", "backtest", *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


async def test_the_command_beside_the_process_that_owns_the_log(city: Path) -> None:
    """The log is open for writing here, as by a running platform; the command is another process."""
    async with LocalLog.open(city):
        done = await asyncio.to_thread(
            command, city, "overload", "--from", "2026-03-02", "--to", "2026-03-05", "--set", "combination-6=40000", "--json"
        )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["counts"]["only_then"] == 0
    assert document["counts"]["only_now"] == len(document["only_now"]) > 5
    assert document["parameters"] == {"combination-6": "40000"}
    assert document["records"] > 1_000


def test_the_command_shows_both_sides(city: Path) -> None:
    done = command(
        city,
        "overload",
        "--from",
        "2026-03-02T08:00",
        "--to",
        "2026-03-04T08:00",
        "--set",
        "combination-6=53000",
        "--warm-up",
        "all",
    )
    assert done.returncode == 0, done.stderr
    assert "仅当时发布 / only then" in done.stdout
    assert "蒙C" in done.stdout


def invoke(folder: Path, *arguments: str) -> Any:
    from typer.testing import CliRunner

    from hengliu.cli import app

    return CliRunner(env={"HENGLIU_DATA_DIR": str(folder), "COLUMNS": "200"}).invoke(app, ["backtest", *arguments])


def test_the_help_has_an_example(tmp_path: Path) -> None:
    done = invoke(tmp_path, "--help")
    assert done.exit_code == 0
    assert "hengliu backtest overload --from" in done.output


def test_without_a_log_it_says_which_file_is_missing(tmp_path: Path) -> None:
    done = invoke(tmp_path, "overload", "--from", "1d", "--to", "now")
    assert done.exit_code == 2
    assert "log.sqlite" in done.output


def test_an_empty_log_is_told_from_one_without_warnings(tmp_path: Path) -> None:
    async def make() -> None:
        async with LocalLog.open(tmp_path / "log.sqlite") as log:
            await log.create_topics(Catalog().topic_specs(1))

    asyncio.run(make())
    done = invoke(tmp_path, "overload", "--from", "1d", "--to", "now")
    assert done.exit_code == 1
    assert "nothing to replay" in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no-such", "--from", "1d", "--to", "now"), "there is no rule"),
        (("overload", "--from", "1d", "--to", "now", "--set", "x=1"), "has no parameter"),
        (("overload", "--from", "1d", "--to", "now", "--set", "rigid-2=heavy"), "whole number"),
        (("overload", "--from", "1d", "--to", "now", "--set", "rigid-2"), "is not name=value"),
        (("overload", "--from", "yesterday", "--to", "now"), "is no time"),
        (("overload", "--from", "now", "--to", "1d"), "--to comes after --from"),
        (("overload", "--from", "1d", "--to", "now", "--warm-up", "long"), "is no duration"),
    ],
)
def test_what_cannot_be_done_is_said_in_both_languages(city: Path, arguments: tuple[str, ...], said: str) -> None:
    done = invoke(city.parent, *arguments)
    assert done.exit_code == 2
    assert said in done.output
