"""Writes everything under ``docs/generated``: ``python -m tools.generate_docs`` (``make docs``).

A test fails when a committed page is not what this makes.
"""

import sys
from pathlib import Path
from typing import get_args, get_origin

from api.generate import DOCUMENTS, generated
from hengliu.settings import Settings

__all__ = ["PAGES", "main", "settings_page"]

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "generated"

INTRO = """# Settings 设置

Environment variables `HENGLIU_…`, over a TOML file named by `HENGLIU_CONFIG` (the same names in lower case without the
prefix), over these defaults. Lists are JSON in the environment. A process that cannot use its settings says which and ends with
exit code 2. Generated from `hengliu/settings.py`; there are no others that the platform reads, but `HENGLIU_CACHE` (where the
demonstration and the tests keep downloaded engines, `~/.cache/hengliu` unless set) and `HENGLIU_URL` (default of
`hengliu simulate --url`).

| variable | type | default | meaning |
|---|---|---|---|
"""


def _kind(annotation: object) -> str:
    if get_origin(annotation) is tuple:
        return "list"
    names = [getattr(a, "__name__", str(a)) for a in (get_args(annotation) or (annotation,)) if a is not type(None)]
    return {"Path": "path", "str": "text", "int": "integer", "bool": "true/false"}.get(names[0], names[0])


def _default(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value != () else "`[]`"


def settings_page() -> bytes:
    """Every setting with its type, default and meaning."""
    lines = []
    for name, field in Settings.model_fields.items():
        bounds = [
            f"{word} {getattr(rule, key)}"
            for rule in field.metadata
            for key, word in (("ge", "at least"), ("le", "at most"), ("pattern", "matches"))
            if getattr(rule, key, None) is not None
        ]
        meaning = (field.description or "") + (f" ({', '.join(bounds)})" if bounds else "")
        row = (f"`HENGLIU_{name.upper()}`", _kind(field.annotation), _default(field.default), meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return (INTRO + "\n".join(lines) + "\n").encode()


PAGES = (*DOCUMENTS, "settings.md")
"""File names under ``docs/generated``."""


def page(name: str) -> bytes:
    """One page as it must be committed."""
    return settings_page() if name == "settings.md" else generated(name)


def main() -> int:
    """Write every page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        (FOLDER / name).write_bytes(page(name))
        sys.stdout.write(f"docs/generated/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
