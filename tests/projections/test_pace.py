"""How long tables wait for their insert, in made time: the schedule alone, at the engine's measured cost of an insert."""

import random
from dataclasses import dataclass, replace

from projections.pace import Held, Pace, Policy

INSERT_S = 0.012
"""Of the embedded engine, whatever the size: 85 to 100 a second."""


@dataclass
class Seen:
    longest_s: float
    inserts_per_s: float
    flushes_per_s: float


def live(tables: int, policy: Policy, every_s: float = 0.25, seconds: float = 120, seed: int = 1) -> Seen:
    """Tables that get one record each ``every_s``, out of step, and two inserts of positions a second."""
    rng = random.Random(seed)
    pace = Pace(policy)
    coming = [rng.uniform(0, every_s) for _ in range(tables)]
    since: list[float | None] = [None] * tables
    now, positions, longest, inserts, flushes = 0.0, 0.0, 0.0, 0, 0
    while now < seconds:
        for i in range(tables):
            while coming[i] <= now:
                since[i] = coming[i] if since[i] is None else since[i]
                coming[i] += every_s
        held = [Held(0 if at is None else 1, 200, at or 0.0, asked=False) for at in since]
        due = pace.due(held, now)
        flushes += bool(due)
        for i in due:
            now += INSERT_S
            pace.spend()
            inserts += 1
            if now > 10:  # after the budget that it begins with
                longest = max(longest, now - held[i].since)
            since[i] = None
        if now - positions >= policy.position_ms / 1000:
            positions = now
            now += INSERT_S
            pace.spend()
            inserts += 1
        now += 0.02
    return Seen(longest, inserts / now, flushes / now)


def test_a_small_table_waits_a_second_however_many_there_are() -> None:
    for tables in (5, 12, 18, 24, 30):
        seen = live(tables, Policy())
        assert seen.longest_s < 1.0 + 0.02 + (tables + 1) * INSERT_S, (tables, seen)
        assert seen.inserts_per_s <= tables * 1.25 + 2, (tables, seen)
        assert seen.flushes_per_s < 2.5, "one commit for all, not one a table"


def test_within_the_budget_they_would_wait_two_seconds() -> None:
    """The same tables where the budget alone lets anything out, as a back-fill has it."""
    tight = replace(Policy(), flush_rows=1)
    assert live(18, tight).longest_s > 2.0
    assert live(24, tight).longest_s > 2.5


def test_a_back_fill_keeps_to_the_budget() -> None:
    policy = Policy()
    pace = Pace(policy)
    now, inserts = 0.0, 0
    while now < 30:
        for _ in pace.due([Held(2_000, 100_000, now, asked=False)] * 12, now):
            pace.spend()
            inserts += 1
            now += INSERT_S
        now += 0.02
    assert inserts <= policy.inserts_per_second * now + policy.inserts_per_second + 12


def test_what_somebody_waits_for_goes_at_once_while_the_budget_lasts() -> None:
    pace = Pace(Policy())
    asked = [Held(1, 10, 0.0, asked=True), Held(1, 10, 0.0, asked=False)]
    assert pace.due(asked, 0.0) == [0]
    for _ in range(10):
        pace.spend()
    assert pace.due(asked, 0.01) == []
    assert pace.due(asked, 1.0) == [0, 1]


def test_a_table_with_many_rows_goes_early() -> None:
    pace = Pace(Policy())
    held = [Held(500, 10, 0.0, asked=False), Held(499, 10, 0.0, asked=False)]
    assert pace.due(held, 0.1) == []
    assert pace.due(held, 0.2) == [0]


def test_a_table_that_a_person_waits_for_goes_at_once_whatever_the_budget_says() -> None:
    pace = Pace(Policy())
    for _ in range(30):
        pace.spend()
    held = [Held(1, 10, 0.0, asked=False, at_once=True), Held(1, 10, 0.0, asked=True)]
    assert pace.due(held, 0.008) == []
    assert pace.due(held, 0.012) == [0], "and alone: it is readable when the flush ends"
    assert pace.due([Held(6_000, 10, 0.0, asked=False, at_once=True)], 0.06) == [], "a back-fill keeps to the budget"


def longest_beside_warnings(policy: Policy, tables: int = 18) -> tuple[float, float]:
    """Waits of the first table, which is one of ``at_once``, and of others, which get a record each quarter of a second."""
    pace, rng = Pace(policy), random.Random(2)
    since: list[float | None] = [None] * tables
    coming = [rng.uniform(0, 0.25) for _ in range(tables)]
    now, first, others = 0.0, 0.0, 0.0
    while now < 60:
        for i in range(tables):
            while coming[i] <= now:
                since[i] = coming[i] if since[i] is None else since[i]
                coming[i] += 0.25 if i else rng.uniform(0.1, 0.5)
        held = [Held(0 if at is None else 1, 200, at or 0.0, False, i == 0) for i, at in enumerate(since)]
        due = pace.due(held, now)
        now += INSERT_S * len(due)
        for i in due:
            pace.spend()
            if now > 10:
                waited = now - held[i].since
                first, others = (max(first, waited), others) if i == 0 else (first, max(others, waited))
            since[i] = None
        now += 0.02
    return first, others


def test_a_warning_does_not_wait_behind_a_round_of_all_tables() -> None:
    first, others = longest_beside_warnings(Policy())
    assert first < 0.08
    assert others < 1.5, "the others still come within what a read waits"
    first, _ = longest_beside_warnings(replace(Policy(), flush_tables=18))
    assert first > 0.2
