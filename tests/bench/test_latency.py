"""The latency bench at a small rate: every warning reaches the viewer, and none twice. No time is asserted."""

from pathlib import Path

from bench import report
from bench.latency import PAGE, STAGES, Load, measure, text_of


async def test_every_reading_that_decides_gives_one_warning_to_the_viewer(tmp_path: Path) -> None:
    figures = await measure(
        Load(seconds=3, rate=60, warnings=2, batch=10, connections=2, warm_s=0), tmp_path / "data", stages=True
    )
    assert figures.raised == 6
    assert (figures.missing, figures.doubled, figures.other_warnings) == (0, 0, 0)
    assert 0 < figures.p50_ms <= figures.p99_ms <= figures.max_ms
    assert figures.platform_cores > 0
    assert list(figures.stages) == list(STAGES)
    assert "6 warnings, 0 missing" in figures.line()
    where = report.Machine("2026-01-01 00:00 UTC", 2, "a processor", 8, "6.1", "3.11.7", 3.5, "abc")
    page = tmp_path / "page.md"
    page.write_text("<!-- bench:latency -->\n<!-- /bench:latency -->\n")
    report.write_page(page, "latency", text_of(figures, where, "python -m bench.latency"))
    assert "machine was busy" in page.read_text()


def test_the_page_has_a_place_for_it() -> None:
    assert "<!-- bench:latency -->" in PAGE.read_text()
