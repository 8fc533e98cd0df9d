"""The measurement measures: what is found, missed, false, at a double, or of another cause, and a small city run for real."""

from pathlib import Path

import pytest

from bench.detection_city import FIRST_COUNTED, Outcome, Raised, Truth, judge, run, section, table, write_section
from simulator.almanac import DAY_MS, HOUR_MS

AT = FIRST_COUNTED + HOUR_MS


def raised(code: str, subject: str, at: int = AT, severity: str = "medium", **parameters: str) -> Raised:
    return Raised(code, subject, "m01", severity, at, at, parameters)


def truth(code: str, *names: str, start: int = AT - 600_000, end: int = AT, near: bool = False) -> Truth:
    return Truth(code, "near" if near else "planted", frozenset(names), start, end, near)


def outcome(raised_: list[Raised], truths: list[Truth]) -> Outcome:
    return Outcome(raised_, truths, FIRST_COUNTED, FIRST_COUNTED + DAY_MS, 1, 1.0, "", frozenset({"a"}))


def test_found_missed_and_false() -> None:
    scores = judge(
        outcome(
            [raised("a", "p1"), raised("a", "p1", AT + 60_000), raised("a", "p9"), raised("a", "x", plate="p3")],
            [truth("a", "p1"), truth("a", "p2"), truth("a", "p3", "y")],
        )
    )
    score = scores["a"]
    assert (score.due, score.found, score.right, len(score.false)) == (3, 2, 3, 1)
    assert score.recall == pytest.approx(2 / 3)
    assert score.precision == 0.75
    assert score.delays == [600_000, 600_000]
    assert [t.names for t in score.missed] == [{"p2"}]
    assert score.false[0][1] == "nothing was planted"


def test_too_early_too_late_and_outside_the_counted_days() -> None:
    early, late = raised("a", "p1", AT - 3 * HOUR_MS), raised("a", "p1", AT + 13 * HOUR_MS)
    score = judge(outcome([early, late], [truth("a", "p1")]))["a"]
    assert (score.found, len(score.false)) == (0, 1), "one of the two lies before the counted days"
    before = judge(outcome([], [truth("a", "p1", start=FIRST_COUNTED - 1)]))["a"]
    assert before.due == 0


def test_doubles_hints_and_other_causes_are_told_apart() -> None:
    truths = [truth("a", "p1", near=True), truth("b", "p2"), truth("a", "p3", near=True)]
    score = judge(outcome([raised("a", "p1"), raised("a", "p2"), raised("a", "p3", severity="low")], truths))["a"]
    assert (score.doubles, score.hints, score.elsewhere) == (2, 1, 1)
    assert [why for _, why in score.false] == ["honest double: near"]
    assert score.recall is None
    assert "| `a` |" in table({"a": score}, frozenset({"a"}))


def test_a_planted_code_without_an_operator_shows_as_such() -> None:
    scores = judge(outcome([], [truth("zz", "p1")]))
    assert "no operator yet" in table(scores, frozenset())


def test_the_section_replaces_what_stood_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- city -->\nold\n<!-- /city -->\nafter\n", "utf-8")
    found = outcome([raised("a", "p9")], [truth("a", "p1")])
    write_section(page, section(found, judge(found), "command"))
    text = page.read_text("utf-8")
    assert text.startswith("before\n<!-- city -->\n`command`")
    assert text.endswith("<!-- /city -->\nafter\n")
    assert "old" not in text
    assert "missed: 1 planted; p1" in text
    with pytest.raises(ValueError, match="no <!-- other -->"):
        write_section(page, "", "other")


def test_a_city_of_three_sites_for_real() -> None:
    found = run(5, size="tiny", warm_up_days=0, days=1)
    scores = judge(found)
    assert found.events > 20_000
    for code in ("overload", "device-silent", "position-contradiction"):
        assert scores[code].due > 0
        assert scores[code].recall == scores[code].precision == 1.0, code


def test_one_group_alone_by_other_parameters() -> None:
    usual, strict = (
        {w.code for w in run(5, size="tiny", warm_up_days=0, days=0, only=("device",), published=published).raised}
        for published in ({}, {"calibration": {"unregistered": "warn"}})
    )
    assert strict - usual == {"scale-not-calibrated"}
    assert "overload" not in usual, "that is another group's"
