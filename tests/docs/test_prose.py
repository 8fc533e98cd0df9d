"""What the pages for people name exists: files, links, commands, settings, make targets, tests, routes. Nothing names a place
of whoever wrote it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from api.app import ROUTES
from hengliu.cli import app
from hengliu.events.catalog import Catalog
from hengliu.settings import Settings

ROOT = Path(__file__).parents[2]
TRACKED = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
BESIDE = {"HENGLIU_CONFIG", "HENGLIU_CACHE", "HENGLIU_URL"}
"""Read by the command line, not by Settings."""
TOP = ("hengliu", "streams", "aggregates", "projections", "connectors", "api", "infra", "simulator", "tests", "bench", "docs",
       "tools", "requirements")  # fmt: skip


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_of(name: str) -> str:
    """Fenced blocks and inline code of a page."""
    text = text_of(name)
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    return "\n".join([*fenced, *re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))])


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.M))


def command() -> Any:
    """The tree of commands; typer brings a click of its own, whose types it does not name."""
    return typer.main.get_command(app)


def test_the_pages_are_there() -> None:
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/index.md", "docs/architecture.md"} <= set(NAMES)


def test_the_index_leads_to_every_page() -> None:
    linked = {(ROOT / "docs" / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", text_of("docs/index.md"))}
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - linked == {ROOT / "docs" / "index.md"}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(name)):
        if "://" in target or target.startswith(("mailto:", "/")):
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert file.exists(), f"{name}: {target}"
        if anchor:
            heads = {
                re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-")
                for head in re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            }
            assert anchor in heads, f"{name}: {target}"


@pytest.mark.parametrize("name", NAMES)
def test_every_file_named_exists(name: str) -> None:
    for found in re.findall(rf"(?<![\w./])((?:{'|'.join(TOP)})/[\w./*-]+)", code_of(name)):
        path = found.rstrip("./")
        if "NNN" in path or "…" in path:
            continue
        if not list(ROOT.glob(path)) and path not in ("api/static/vendor", "docs/benchmarks.md"):
            raise AssertionError(f"{name}: {path}")


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_named_exists(name: str) -> None:
    known = {f"HENGLIU_{field.upper()}" for field in Settings.model_fields} | BESIDE
    assert set(re.findall(r"HENGLIU_[A-Z_]*[A-Z]", text_of(name))) <= known


@pytest.mark.parametrize("name", NAMES)
def test_every_make_target_named_exists(name: str) -> None:
    assert set(re.findall(r"(?<![\w-])make ([a-z-]+)", code_of(name))) <= targets()


@pytest.mark.parametrize("name", NAMES)
def test_every_command_named_exists_with_its_options(name: str) -> None:
    for line in re.findall(r"(?:^|(?<=[\s$|&`/]))hengliu ((?:[a-z]+ ?)[^\n|&;#]*)", code_of(name), re.M):
        words = line.replace("\\", " ").split()
        found = command()
        while words and hasattr(found, "commands"):
            assert words[0] in found.commands, f"{name}: hengliu {line}"
            found = found.commands[words.pop(0)]
        options = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            if word.startswith("-"):
                assert word.partition("=")[0] in options | {"--help"}, f"{name}: hengliu {line}"


@pytest.mark.parametrize("name", NAMES)
def test_every_test_named_exists(name: str) -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for test in re.findall(r"(?<![\w/])(test_\w+)(?!\.py)\b", code_of(name)):
        if not re.search(rf"def {test}", tests):
            assert list((ROOT / "tests").rglob(f"{test}.py")), f"{name}: {test}"


def test_every_route_of_the_readme_exists() -> None:
    routes = {e.path for e in ROUTES}
    patterns = [re.compile(re.sub(r"\\?\{\w+\\?\}", "[^/]+", path) + "$") for path in routes]
    for path in set(re.findall(r"(?<![\w.])(/v1/[\w/{}.-]+)", code_of("README.md"))):
        assert any(p.match(path) for p in patterns) or path in ("/v1/live",), path


def test_every_event_type_of_the_readme_exists() -> None:
    types = set(re.findall(r"\b[a-z]+\.(?:measured|recorded|captured|metered|reported|located|surveyed|published|raised)\b",
                           text_of("README.md")))  # fmt: skip
    assert types
    assert types <= set(Catalog().families)


def test_no_file_names_a_place_of_its_writer_or_a_registry() -> None:
    words = ("/" + "work/", "/tmp/" + "w/", "files.python" + "hosted", "registry.npm" + "js", "repo1." + "maven")
    found = []
    for path in (ROOT / name for name in TRACKED if name):
        if path.is_file() and path.suffix != ".png":
            text = path.read_text(encoding="utf-8")
            found += [(path.name, word) for word in words if word in text]
    assert found == []


@pytest.mark.parametrize("name", [n for n in TRACKED if n.startswith("requirements/")])
def test_lock_files_pin_with_hashes_and_name_no_registry(name: str) -> None:
    text = text_of(name)
    assert "://" not in text
    assert "--index-url" not in text
    for pinned in re.split(r"\n(?=\S)", text.strip()):
        if not pinned.startswith("#"):
            assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", pinned), pinned[:80]
            assert "--hash=sha256:" in pinned, pinned[:80]


@pytest.mark.parametrize(("lock", "extras"), [("platform", ("platform",)), ("dev", ("platform", "dev")), ("node", ("node",))])
def test_lock_files_hold_every_declared_dependency(lock: str, extras: tuple[str, ...]) -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    declared = [*project["dependencies"], *(d for e in extras for d in project["optional-dependencies"][e])]
    locked = set(re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==", text_of(f"requirements/{lock}.lock"), re.M))
    for requirement in declared:
        match = re.match(r"[\w.-]+", requirement)
        assert match is not None
        assert match[0].lower().replace("_", "-") in locked, requirement


def test_make_help_lists_every_target() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    documented = {line.split()[0] for line in told.splitlines() if line and not line.startswith((" ", "make"))}
    assert {"install", "demo", "test", "lint", "format", "kill", "bench", "soak", "docs", "lock", "clean"} <= documented
    assert documented <= targets()


def test_help_of_every_command_says_something() -> None:
    def walk(group: Any) -> None:
        for name, sub in group.commands.items():
            assert (sub.help or "").strip(), name
            for parameter in sub.params:
                assert getattr(parameter, "help", None), f"{name} {parameter.name}"
            if hasattr(sub, "commands"):
                walk(sub)

    walk(command())


def test_ci_calls_the_test_target() -> None:
    assert "make test" in text_of(".ci/run")
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert sys.version_info >= (3, 11)
