"""The scores are those of the two benchmarks, worked out by hand; the tables come from files of their layout."""

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from math import exp
from pathlib import Path

import pytest

from bench.detection_scoring import PROFILES, Counts, Labelled, best_threshold, nab_score, probation
from bench.detection_series import ANOMALOUS, CLEAN, main, nab, section, skab

STANDARD = PROFILES["standard"]


def said(rows: int, *at: int, windows: tuple[tuple[int, int], ...] = ((400, 499),)) -> Labelled:
    return Labelled([1.0 if row in at else 0.0 for row in range(rows)], windows)


def sigmoid(place: float) -> float:
    return 2 / (1 + exp(5 * place)) - 1


@pytest.mark.parametrize("profile", PROFILES.values())
def test_silence_is_0_and_the_first_row_of_every_window_100(profile: object) -> None:
    assert nab_score([said(1_000)], profile, 0.5) == pytest.approx(0)  # type: ignore[arg-type]
    assert nab_score([said(1_000, 400)], profile, 0.5) == pytest.approx(100)  # type: ignore[arg-type]


def test_a_late_detection_is_worth_less_and_only_the_first_counts() -> None:
    late = nab_score([said(1_000, 449)], STANDARD, 0.5)
    # 51 of 100 rows are left: the sigmoid at -0.51, relative to that at -1; raw from -1 (missed) to 1.
    assert late == pytest.approx(100 * (sigmoid(-0.51) / sigmoid(-1) + 1) / 2)
    assert nab_score([said(1_000, 449, 450, 480)], STANDARD, 0.5) == late
    assert nab_score([said(1_000, 499)], STANDARD, 0.5) == pytest.approx(100 * (sigmoid(-0.01) / sigmoid(-1) + 1) / 2)


def test_false_alarms() -> None:
    """Full weight before any window and long after one, less of it just behind one."""
    assert nab_score([said(1_000, 300, 400)], STANDARD, 0.5) == pytest.approx(100 * (2 - 0.11) / 2)
    assert nab_score([said(1_000, 400, 900)], STANDARD, 0.5) == pytest.approx(100 * (2 - 0.11) / 2)
    assert nab_score([said(1_000, 400, 509)], STANDARD, 0.5) == pytest.approx(100 * (2 + 0.11 * sigmoid(10 / 99)) / 2)
    assert nab_score([said(1_000, 300, 400)], PROFILES["low false alarms"], 0.5) == pytest.approx(100 * (2 - 0.22) / 2)
    assert nab_score([said(1_000, 300)], PROFILES["low misses"], 0.5) == pytest.approx(100 * -0.11 / 3)


def test_the_probationary_period_counts_nothing() -> None:
    assert (probation(1_000), probation(5_000), probation(22_695)) == (150, 750, 750)
    assert nab_score([said(1_000, *range(150), 400)], STANDARD, 0.5) == pytest.approx(100)
    assert nab_score([said(1_000, 150, 400)], STANDARD, 0.5) < 100


def test_the_optimised_threshold_is_the_best_of_all() -> None:
    scores = [0.1] * 1_000
    scores[410], scores[600], scores[700] = 0.8, 0.7, 0.9
    corpus = [Labelled(scores, [(400, 499)])]
    threshold, best = best_threshold(corpus, STANDARD)
    assert threshold == 0.8
    assert best == max(nab_score(corpus, STANDARD, at) for at in (0.1, 0.5, 0.7, 0.75, 0.8, 0.9, 1.0))
    # It takes the false alarm of 0.9 for the window at 0.8, and leaves that of 0.7.
    assert best == pytest.approx(100 * (sigmoid(-0.9) / sigmoid(-1) - 0.11 * 1.0 + 1) / 2, abs=0.1)


def test_rows_counted() -> None:
    counts = Counts.of([True, True, False, False, False], [True, False, True, False, False])
    assert counts == Counts(1, 1, 1, 2)
    assert counts.f1 == 0.5
    assert counts.false_alarm_rate == pytest.approx(100 / 3)
    assert counts.missed_alarm_rate == 50
    assert Counts().f1 == 0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two archives of the public ones' layout, made up."""
    start = datetime(2014, 4, 1, tzinfo=UTC)

    def rows(count: int, odd: range) -> str:
        out = io.StringIO("timestamp,value\n")
        out.seek(0, io.SEEK_END)
        for at in range(count):
            out.write(f"{start + timedelta(minutes=5 * at):%Y-%m-%d %H:%M:%S},{20 + at * 7919 % 13 + 90 * (at in odd)}\n")
        return out.getvalue()

    def stamp(at: int) -> str:
        return f"{start + timedelta(minutes=5 * at):%Y-%m-%d %H:%M:%S.%f}"

    with zipfile.ZipFile(tmp_path / "anomaly-nab.zip", "w") as archive:
        windows = {}
        for group, odd in ((ANOMALOUS[0], range(420, 425)), (ANOMALOUS[1], range(440, 442)), (CLEAN, range(0))):
            archive.writestr(f"{group}/a.csv", rows(600, odd))
            windows[f"{group}/a.csv"] = [(stamp(odd.start - 20), stamp(odd.start + 20))] if odd else []
        archive.writestr("combined_windows.json", json.dumps(windows))
    with zipfile.ZipFile(tmp_path / "anomaly-skab.zip", "w") as archive:
        head = "datetime;Pressure;Current"
        for number in range(-1, 6):
            name = "anomaly-free/anomaly-free.csv" if number < 0 else f"valve1/{number}.csv"
            lines = [head if number < 0 else f"{head};anomaly;changepoint"]
            for at in range(400):
                wrong = number >= 0 and 300 <= at < 340
                label = "" if number < 0 else f";{float(wrong)};0.0"
                lines.append(f"{start + timedelta(seconds=at):%Y-%m-%d %H:%M:%S};{at * 7919 % 13 + 70 * wrong};{at % 7}{label}")
            archive.writestr(name, "\n".join(lines) + "\n")
    return tmp_path


def test_the_files_are_read_with_their_labels(data: Path) -> None:
    files = nab(data)
    assert [one.name for one in files] == ["artificialNoAnomaly/a.csv", "artificialWithAnomaly/a.csv", "realKnownCause/a.csv"]
    assert [one.windows for one in files] == [[], [(400, 440)], [(420, 460)]]
    plants = skab(data)
    assert [plant.name for plant in plants] == ["anomaly-free/anomaly-free.csv", *(f"valve1/{n}.csv" for n in range(6))]
    assert list(plants[1].sensors) == ["Pressure", "Current"]
    assert [sum(plant.anomalous) for plant in plants] == [0, 40, 40, 40, 40, 40, 40]


def test_the_section_has_every_detector_and_baseline_in_every_table(data: Path) -> None:
    text = section(data)
    lines = {
        line.split(" | ")[0].removeprefix("| "): line
        for line in text.split("### SKAB")[0].splitlines()
        if line.startswith("| ")
    }
    assert lines["*null*"].endswith("µs |")
    assert "| 0.0 | 0.0 | 0.0 |" in lines["*null*"]
    assert "`combined`" in text.split("### SKAB")[1]
    assert "not comparable one to one" in text
    found = next(line for line in text.splitlines() if line.startswith("| `spike` |")).split(" | ")
    assert float(found[3]) > 70, "five rows four times as high are found at the threshold that is fitted to nothing"


def test_without_the_data_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "没有 anomaly-nab.zip" in told
    assert "no anomaly-nab.zip" in told
