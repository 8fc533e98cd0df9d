"""``hengliu rules`` against a running platform."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hengliu.cli import app
from tests.api.conftest import Running

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def tokens(api: Running, tmp_path: Path) -> dict[str, str]:
    found = {}
    for who in ("registrar", "everything", "device"):
        (tmp_path / who).write_text(api.bearer(who)["Authorization"].removeprefix("Bearer "), encoding="ascii")
        found[who] = str(tmp_path / who)
    return found


async def rules(api: Running, token: str, *arguments: str) -> Any:
    given: Sequence[str] = ["rules", *arguments, "--url", str(api.client.base_url), "--token-file", token]
    return await asyncio.to_thread(CliRunner(env={"COLUMNS": "240"}).invoke, app, given)


async def settle(api: Running, token: str, rule: str, version: int) -> dict[str, Any]:
    """``show --json`` once the tables have the version."""
    for _ in range(200):
        document: dict[str, Any] = json.loads((await rules(api, token, "show", rule, "--json")).stdout)
        if any(v["version"] == version for v in document["versions"]):
            return document
        await asyncio.sleep(0.05)
    raise AssertionError(f"version {version} does not come")


async def test_list_show_change_diff_and_retire(api: Running, tokens: dict[str, str]) -> None:
    reader, registrar = tokens["everything"], tokens["registrar"]
    listed = {r["rule"]: r for r in json.loads((await rules(api, reader, "list", "--json")).stdout)}
    assert (listed["overload"]["status"], listed["overload"]["version"], listed["overload"]["published"]) == ("active", 1, 0)
    shown = await rules(api, reader, "show", "overload")
    assert shown.exit_code == 0
    assert "combination-6" in shown.stdout
    assert "49000" in shown.stdout

    changed = await rules(api, registrar, "change", "overload", "--set", "combination-6=46000", "--citation", "试行")
    assert changed.exit_code == 0, changed.output
    assert "version 2" in changed.stdout
    document = await settle(api, reader, "overload", 2)
    assert document["versions"][0]["parameters"] == {"combination-6": "46000"}
    differing = json.loads(
        (await rules(api, reader, "diff", "overload", "--from-version", "1", "--to-version", "2", "--json")).stdout
    )
    assert {(d["parameter"], d["from"], d["to"]) for d in differing if d["parameter"] != "(citation)"} == {
        ("combination-6", "49000", "46000")
    }

    retired = await rules(api, registrar, "retire", "overload")
    assert "停用" in retired.stdout
    assert (await settle(api, reader, "overload", 3))["versions"][-1]["status"] == "retired"
    back = await rules(api, registrar, "activate", "overload", "--unset", "combination-6")
    assert "version 4" in back.stdout
    await settle(api, reader, "overload", 4)
    table = await rules(api, reader, "diff", "overload", "--from-version", "3", "--to-version", "4")
    assert "retired" in table.stdout
    assert "46000" in table.stdout


@pytest.mark.parametrize(
    ("who", "arguments", "code", "said"),
    [
        ("everything", ("show", "no-such"), 2, "there is no rule"),
        ("everything", ("diff", "price", "--from-version", "1", "--to-version", "9"), 2, "has no version 9"),
        ("everything", ("retire", "price"), 1, "registrar"),
        ("device", ("list",), 1, "reader"),
        ("registrar", ("change", "price", "--set", "min_peers=none"), 1, "whole number"),
        ("registrar", ("change", "price", "--set", "min_peers"), 2, "is not name=value"),
        ("registrar", ("change", "price", "--set", "min_peers=4", "--valid-from", "2020-01-01"), 1, "past"),
    ],
)
async def test_refusals_speak_both_languages(
    api: Running, tokens: dict[str, str], who: str, arguments: Sequence[str], code: int, said: str
) -> None:
    if said == "past":
        assert (await rules(api, tokens["registrar"], "change", "price", "--set", "min_peers=5")).exit_code == 0
    done = await rules(api, tokens[who], *arguments)
    assert done.exit_code == code, done.output
    assert said in done.output
    assert any("一" <= sign <= "鿿" for sign in done.output)


async def test_a_platform_that_does_not_answer(tmp_path: Path) -> None:
    done = await asyncio.to_thread(
        CliRunner().invoke, app, ["rules", "list", "--url", "http://127.0.0.1:9", "--token-file", str(tmp_path / "none")]
    )
    assert done.exit_code == 1
    assert "does not answer" in done.output
