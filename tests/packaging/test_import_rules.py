"""The direction of imports is checked for every part of the project, also for one that is added later."""

import pkgutil
import tomllib
from pathlib import Path

import hengliu

ROOT = Path(__file__).resolve().parents[2]
TOP = {"hengliu.cli", "hengliu.compose", "hengliu.__main__"}
"""They put everything together, so they may import everything."""


def test_every_part_is_the_source_of_a_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    named = {m for contract in settings["contracts"] for m in contract.get("source_modules", contract.get("modules", ()))}
    parts = {f"hengliu.{module.name}" for module in pkgutil.iter_modules(hengliu.__path__)}
    parts |= set(settings["root_packages"]) - {"hengliu", "infra"}
    assert parts - TOP - named == set()
