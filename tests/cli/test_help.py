"""Everything that the command line explains it explains in both languages."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from hengliu.cli import app

HAN = re.compile(r"[\u4e00-\u9fff]")
LATIN = re.compile(r"[A-Za-z]{3}")


def commands(command: Any, path: str = "hengliu") -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", ALL)
def test_a_command_and_its_options_are_explained_in_both_languages(name: str) -> None:
    command = ALL[name]
    told = {"": command.help or ""} | {p.name: getattr(p, "help", None) or "" for p in command.params if p.name != "help"}
    missing = {option for option, text in told.items() if not (HAN.search(text) and LATIN.search(text))}
    assert missing == set(), {option: told[option] for option in missing}
