"""The benches measure what they say: results are exact, limits are there, and the page takes them."""

from pathlib import Path

import pytest

from bench import flat, report
from bench.__main__ import PAGE, jobs
from streams.operators.catalog import GROUPS

BUSY = report.Machine("2026-01-01 00:00 UTC", 2, "a processor", 8, "6.1", "3.11.7", 3.5, "abc")


async def test_the_flat_window_runs_through_the_kernel_and_every_window_is_exact(tmp_path: Path) -> None:
    (result,) = await flat.run("local", 3_000, tmp_path, profile=False)
    assert (result.stage, result.deployment, result.events) == ("flat", "local", 3_000)
    assert result.rate > 0
    assert result.limit > 0
    assert result.cpu_s_per_million is not None


async def test_a_wrong_window_fails_the_bench() -> None:
    _, sums, _ = flat.flat_records(1_000)
    key = next(iter(sums))
    with pytest.raises(RuntimeError, match="1 of"):
        flat.check("kernel", {**sums, key: (0, 0, 0, 0)}, sums)


def test_the_page_keeps_what_stands_outside_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("before\n<!-- bench:local -->\nold\n<!-- /bench:local -->\nafter\n")
    result = report.Result("exchange", "local", report.ENVELOPE, "4 tasks", 10, 500.0, 1_000.0)
    report.write_page(page, "local", report.page([result], BUSY, "python -m bench", ["bench.flat"]))
    text = page.read_text()
    assert text.startswith("before\n<!-- bench:local -->\n")
    assert text.endswith("<!-- /bench:local -->\nafter\n")
    assert "old" not in text
    assert "| 500 | 1,000 | 50% |" in text
    assert "machine was busy" in text
    assert "did not finish: bench.flat" in text
    with pytest.raises(ValueError, match="no markers"):
        report.write_page(page, "kafka", "")


def test_every_group_of_operators_is_measured_and_named_with_its_operators() -> None:
    for group in GROUPS:
        how = report.NOTES[group.name].how
        assert all(f"`{operator.name}`" in how for operator in group.operators), f"{group.name} in bench/report.py"


def test_every_stage_says_how_it_was_measured_and_what_it_does_not_prove() -> None:
    for note in report.NOTES.values():
        assert all((note.title, note.how, note.limit, note.not_proved))
    text = PAGE.read_text()
    for engine in ("local", "kafka"):
        assert f"<!-- bench:{engine} -->" in text
        assert len(jobs(engine, 1.0)) == 6
