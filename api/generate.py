"""Writes what ``docs/generated`` holds of the API: ``python -m api.generate``."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from api.deps import ApiLimits
from api.openapi import openapi_document
from api.problems import ALL_PROBLEMS
from api.schemas import asyncapi_document
from hengliu import __version__
from hengliu.events.catalog import Catalog
from hengliu.metrics import METRICS
from projections.queries import QUERIES, family_query

__all__ = ["DOCUMENTS", "generated", "main"]

DOCUMENTS: Final = ("openapi.json", "asyncapi.json", "metrics.md", "problems.md")


def _json(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _table(title: str, intro: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    lines = [f"# {title}", "", intro, "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return ("\n".join(lines) + "\n").encode()


def _metrics() -> bytes:
    rows = [
        (f"`hengliu_{m.name}`", m.kind.value, m.unit, ", ".join(f"`{label}`" for label in m.labels), m.help.zh, m.help.en)
        for m in METRICS
    ]
    intro = "`GET /metrics`, Prometheus text. Generated from `hengliu/metrics.py`; there are no others."
    return _table("Metrics 指标", intro, ("name", "kind", "unit", "labels", "中文", "English"), rows)


def _problems() -> bytes:
    rows = [
        (f"`{code}`", str(w.status or ""), w.title.zh, w.detail.zh, w.title.en, w.detail.en)
        for code, w in sorted(ALL_PROBLEMS.items())
    ]
    intro = (
        "Codes of problem documents (RFC 9457) and of quarantine. With a status: the whole request; without: one event. "
        "Generated from `hengliu/reference/problems.py`, `projections/queries` and `api/problems.py`."
    )
    return _table("Problem codes 问题代码", intro, ("code", "status", "标题", "说明", "title", "detail"), rows)


def generated(name: str) -> bytes:
    """One document of this version with default limits, as committed. Raises KeyError for another name."""
    catalog = Catalog()
    makers: dict[str, Callable[[], bytes]] = {
        "openapi.json": lambda: _json(openapi_document(catalog, QUERIES, family_query, __version__, ApiLimits())),
        "asyncapi.json": lambda: _json(asyncapi_document(catalog, __version__)),
        "metrics.md": _metrics,
        "problems.md": _problems,
    }
    return makers[name]()


def main(folder: Path) -> int:
    """Write all documents into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in DOCUMENTS:
        (folder / name).write_bytes(generated(name))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent.parent / "docs" / "generated"))
