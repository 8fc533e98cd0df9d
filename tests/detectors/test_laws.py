"""Laws that every detector obeys."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf, nan, sin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.reference.codes import FINDING
from streams.detectors.base import Detector, Limits, Verdict
from streams.detectors.catalog import DETECTORS, detector

MINUTE = 60_000
HOUR = 3_600_000
BASE = 1_772_330_400_000
EAGER = Limits(limit=2.0, warm_samples=20, rest_samples=24, accept_samples=24)
APART = replace(EAGER, sides=2, least_scales=1.0)

Samples = list[tuple[int, float | None]]


def watched(one: Detector, samples: Samples, restarts: Sequence[int] = ()) -> tuple[list[Verdict], bytes]:
    """Verdicts on all samples and the state at the end; the detector is written down and opened anew before some of them."""
    watch = one.open()
    verdicts = []
    for at, (time, value) in enumerate(samples):
        if at in restarts:
            blob = msgspec.msgpack.encode(watch.state())
            watch = one.open(msgspec.msgpack.decode(blob, type=one.state_type))
        verdicts.append(watch.observe(time, value))
    return verdicts, msgspec.msgpack.encode(watch.state())


@st.composite
def series(draw: st.DrawFn) -> Samples:
    """A few hundred samples: regular or not, with gaps, repeats, missing values, spikes, steps and pieces that stand still."""
    step = draw(st.sampled_from([5 * MINUTE, 15 * MINUTE, HOUR]))
    level = draw(st.sampled_from([0.0, 1.0, -40.0, 1e9, 1e-6, 1e300]))
    size = draw(st.sampled_from([0.0, 1.0, 1e-9, 1e7, 1e-40, 1e200]))
    noise = draw(st.lists(st.integers(-9, 9), min_size=7, max_size=31))
    time, found = BASE, []
    for piece in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["plain", "plain", "still", "step", "spike", "missing", "gap", "daily"]))
        for at in range(draw(st.integers(1, 120))):
            time += step if draw(st.integers(0, 40)) else draw(st.sampled_from([0, 1, step // 3, 3 * step, 9 * step]))
            value: float | None = level + size * noise[(at * 5 + piece) % len(noise)] / 9
            if kind == "still":
                value = level
            elif kind == "daily":
                value = level + size * 10 * sin(time / HOUR / 24 * 6.283)
            elif kind == "missing" and at % 3 == 0:
                value = (None, nan, inf, -inf)[at % 4]
            found.append((time, value))
        if kind == "step":
            level += 7 * size + 1
        elif kind == "gap":
            time += draw(st.sampled_from([step * 7, 3 * 24 * HOUR]))
        elif kind == "spike":
            found.append((time + 1, level + 1e6))
    return found


@pytest.mark.parametrize(("name", "limits"), [*((name, EAGER) for name in DETECTORS), ("combined", APART)])
@given(samples=series(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_verdicts_do_not_depend_on_where_the_state_was_written(
    name: str, limits: Limits, samples: Samples, data: st.DataObject
) -> None:
    one = detector(name, limits)
    whole = watched(one, samples)
    restarts = data.draw(st.lists(st.integers(0, len(samples)), max_size=6))
    assert watched(one, samples, restarts) == whole
    assert watched(one, samples, range(0, len(samples), 17)) == whole


@pytest.mark.parametrize("name", DETECTORS)
@given(samples=series(), cut=st.integers(0, 600))
@settings(max_examples=25, deadline=None)
def test_nothing_is_known_of_what_comes_later(name: str, samples: Samples, cut: int) -> None:
    one = detector(name, EAGER)
    before, _ = watched(one, samples[:cut])
    assert watched(one, samples)[0][: len(before)] == before


@pytest.mark.parametrize("name", DETECTORS)
@given(samples=series())
@settings(max_examples=25, deadline=None)
def test_scores_episodes_and_memory_stay_in_their_bounds(name: str, samples: Samples) -> None:
    one = detector(name, EAGER)
    verdicts, blob = watched(one, samples)
    assert len(blob) <= one.state_bytes
    open_ = False
    for verdict in verdicts:
        assert 0.0 <= verdict.score <= 1.0
        if verdict.change == "raised":
            assert not open_
            open_ = True
            assert verdict.code in FINDING
            assert {"observed", "baseline", "deviation"} <= set(verdict.parameters)
        elif verdict.change:
            assert open_
            open_ = verdict.change != "cleared"
        assert verdict.flagged == open_
        assert bool(verdict.severity) == (open_ or verdict.change == "cleared")


@pytest.mark.parametrize("limits", [EAGER, APART], ids=["together", "apart"])
@pytest.mark.parametrize("name", DETECTORS)
def test_memory_is_full_and_still_in_its_bound_after_a_year(name: str, limits: Limits) -> None:
    """A series that fills every part: an irregular one with episodes, a year of hours."""
    one = detector(name, limits)
    samples: Samples = [
        (BASE + at * HOUR, (at * 7919 % 1009) / 7 + (400.0 if at % 601 < 9 else 0.0) + at // 3000 * 80.0) for at in range(8_760)
    ]
    verdicts, blob = watched(one, samples)
    assert len(blob) <= one.state_bytes
    assert all(v.score <= 1 for v in verdicts)


def test_a_rule_may_part_rises_and_falls_of_a_series_that_is_known() -> None:
    """What is remembered of both together goes on as that of the rises, and no more of it than fits."""
    together, apart = detector("combined", EAGER), detector("combined", APART)
    watch = together.open()
    samples: Samples = [(BASE + at * HOUR, (at * 7919 % 1009) / 7 + (400.0 if at % 601 < 9 else 0.0)) for at in range(2_000)]
    for time, value in samples:
        watch.observe(time, value)
    state = watch.state()
    bare = {name: msgspec.structs.replace(tail, least=None) for name, tail in state.tails.items()}
    for known in (state, msgspec.structs.replace(state, tails=bare)):
        again = apart.open(msgspec.msgpack.decode(msgspec.msgpack.encode(known), type=apart.state_type))
        for at in range(2_000, 2_400):
            again.observe(BASE + at * HOUR, 5_000.0 * (at % 3 - 1))
        written = again.state()
        assert max(len(tail.values) for tail in written.tails.values()) == 4 * 20
        assert len(msgspec.msgpack.encode(written)) <= apart.state_bytes


def test_what_the_largest_remembers_is_about_what_is_stated() -> None:
    samples: Samples = [(BASE + at * HOUR, (at * 7919 % 1009) / 7 + (400.0 if at % 601 < 9 else 0.0)) for at in range(4_380)]
    one = detector("combined", EAGER)
    assert len(watched(one, samples)[1]) > 0.8 * one.state_bytes
