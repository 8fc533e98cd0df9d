"""Rules of every test: errors that code logged and hid fail the test, and real data that is absent is told, never skipped.

The order is from fast to slow: what is wrong in one function is seen before servers are started.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ORDER = (
    "docs", "streams", "operators", "detectors", "rules", "ledger", "intake", "connectors", "aggregates", "projections",
    "simulator", "api", "cli", "bench", "contract", "packaging", "extension", "e2e", "kill", "browser",
)  # fmt: skip
"""Folders under tests/, in the order in which they run; one that is not named comes with ``contract``."""

# CI draws the same examples each time, so that red means a change; elsewhere each run looks at new ones (`make soak` for long).
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
if os.environ.get("CI") == "true":
    settings.load_profile("ci")

_LEFT_OUT: list[str] = []


@pytest.fixture(autouse=True)
def _no_hidden_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """A record of level ERROR fails the test unless it is marked ``logs_errors``: what was caught and logged still counts."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Keep(logging.ERROR)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
    if records and request.node.get_closest_marker("logs_errors") is None:
        first = records[0]
        raise AssertionError(f"{len(records)} hidden error(s); first by {first.name}: {first.getMessage()}")


@pytest.fixture
def real_data() -> Path:
    """Folder of the real data. Tests that use it are marked ``realdata`` and left out, and told, where there is none."""
    return Path(os.environ["HENGLIU_REAL_DATA"])


def _rank(item: pytest.Item) -> int:
    parts = item.path.relative_to(Path(__file__).parent).parts
    return ORDER.index(parts[0] if parts[0] in ORDER else "contract")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=_rank)
    folder = os.environ.get("HENGLIU_REAL_DATA", "")
    if folder and Path(folder).is_dir():
        return
    kept = []
    for item in items:
        if item.get_closest_marker("realdata") is None:
            kept.append(item)
        else:
            _LEFT_OUT.append(item.nodeid)
    if _LEFT_OUT:
        items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _LEFT_OUT:
        terminalreporter.write_line(
            f"{len(_LEFT_OUT)} 个测试需要真实数据而未运行 / "
            f"{len(_LEFT_OUT)} tests were left out: HENGLIU_REAL_DATA names no folder",
            red=True,
        )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _LEFT_OUT and os.environ.get("CI") == "true" and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
