"""Writes ``docs/generated/openapi.json`` and ``asyncapi.json``: ``python -m api.generate``."""

import sys
from pathlib import Path
from typing import Final

import orjson

from api.deps import ApiLimits
from api.openapi import openapi_document
from api.schemas import asyncapi_document
from hengliu import __version__
from hengliu.events.catalog import Catalog
from projections.queries import QUERIES, family_query

__all__ = ["DOCUMENTS", "generated", "main"]

DOCUMENTS: Final = ("openapi.json", "asyncapi.json")


def generated(name: str) -> bytes:
    """One document of this version with default limits, as committed. Raises KeyError for another name."""
    catalog = Catalog()
    document = {
        "openapi.json": lambda: openapi_document(catalog, QUERIES, family_query, __version__, ApiLimits()),
        "asyncapi.json": lambda: asyncapi_document(catalog, __version__),
    }[name]()
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def main(folder: Path) -> int:
    """Write all documents into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in DOCUMENTS:
        (folder / name).write_bytes(generated(name))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent.parent / "docs" / "generated"))
