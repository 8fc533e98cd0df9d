"""The generated pages are those of this code."""

from pathlib import Path

import pytest

from hengliu.settings import Settings
from tools.generate_docs import FOLDER, PAGES, page

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_not_stale(name: str) -> None:
    assert (FOLDER / name).read_bytes() == page(name), "make docs writes it anew"


def test_nothing_else_lies_there() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(PAGES)


def test_every_setting_says_what_it_means() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
