"""The wheel: what is in it, what is not, that nobody else owns its names, and that the base install is light."""

import email
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_module_and_data_file_of_the_packages_is_in_it(names: set[str]) -> None:
    listed = subprocess.run(["git", "ls-files", "-z", *sorted(PACKAGES)], cwd=ROOT, capture_output=True, check=True, text=True)
    tracked = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    assert tracked - names == set()
    for kind in ("api/templates/*.html", "api/static/*.js", "projections/tables/*/*.sql",
                 "connectors/files/mappings/*.toml"):  # fmt: skip
        assert any(Path(name).match(kind) for name in names), kind


def test_the_pages_libraries_are_in_it_with_their_licences(names: set[str]) -> None:
    vendor = {name.rpartition("/")[2] for name in names if name.startswith("api/static/vendor/")}
    assert {"echarts.min.js", "htmx.min.js", "echarts.LICENSE.txt", "echarts.NOTICE.txt", "htmx.LICENSE.txt"} <= vendor


def test_nothing_else_is_in_it(names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    odd = [n for n in names if "__pycache__" in n or n.endswith((".pyc", ".sqlite", ".token")) or "node_modules" in n]
    assert odd == []


def test_its_metadata_names_licence_script_and_transports(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folder = next(n.partition("/")[0] for n in archive.namelist() if ".dist-info/" in n)
        told = email.message_from_bytes(archive.read(f"{folder}/METADATA"))
        entries = archive.read(f"{folder}/entry_points.txt").decode()
        licences = [n for n in archive.namelist() if n.startswith(f"{folder}/licenses/")]
    assert told["License-Expression"] == "Apache-2.0"
    assert licences
    assert told["Requires-Python"] == ">=3.11"
    assert "hengliu = hengliu.cli:main" in entries
    assert "hengliu-kafka" in entries
    assert "hengliu-local" in entries


def test_no_other_distribution_owns_one_of_its_names() -> None:
    """Beside every dependency, as installed here: a second ``api`` or ``streams`` would shadow ours."""
    others: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name.lower() == "hengliu":
            continue
        for file in distribution.files or ():
            top = file.parts[0]
            if top in PACKAGES or (len(file.parts) == 1 and file.stem in PACKAGES and file.suffix == ".py"):
                others[top] = name
    assert others == {}
    installed = {d.metadata["Name"].lower().replace("_", "-") for d in metadata.distributions()}
    assert {"chdb", "faust-streaming", "eventsourcing", "fastapi", "clickhouse-driver"} <= installed, "beside all of them"


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel with its base dependencies alone. They are those of this environment, linked: no network is needed."""
    folder = tmp_path_factory.mktemp("base")
    site = folder / "site"
    site.mkdir()
    for name in closure(PROJECT["project"]["dependencies"]):
        for file in metadata.files(name) or ():
            if file.parts[0] == ".." or ".." in file.parts:
                continue
            source = Path(str(file.locate()))
            top = site / file.parts[0]
            if not top.exists():
                top.symlink_to(Path(str(source)).parents[len(file.parts) - 1] / file.parts[0])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    venv.create(folder / "venv", with_pip=False)
    return folder


def closure(requirements: list[str]) -> set[str]:
    """Names of the distributions that these requirements need here, extras left out."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    waiting = [Requirement(r) for r in requirements]
    while waiting:
        requirement = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = requirement.name.lower().replace("_", "-")
        if name not in found:
            found.add(name)
            waiting += [Requirement(r) for r in metadata.requires(name) or ()]
    return found


def run(base: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HENGLIU_", "PYTHON"))}
    environment |= {"PYTHONPATH": str(base / "site"), "HENGLIU_DATA_DIR": str(base / "data")}
    return subprocess.run(
        [str(base / "venv" / "bin" / "python"), *arguments], cwd=base, env=environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_the_base_install_has_events_and_the_command_line(base: Path) -> None:
    light = "import hengliu.events.catalog as c, sys; print(len(c.FAMILIES)); print(sorted(sys.modules))"
    told = run(base, "-c", light)
    assert told.returncode == 0, told.stderr
    assert int(told.stdout.split()[0]) > 10
    for heavy in ("chdb", "pyarrow", "faust", "fastapi", "polars"):
        assert f"'{heavy}'" not in told.stdout
    for arguments in (["--help"], ["--version"], ["simulate", "--help"], ["load", "--help"], ["up", "--help"]):
        told = run(base, "-m", "hengliu", *arguments)
        assert told.returncode == 0, told.stderr


def test_a_base_install_issues_tokens(base: Path) -> None:
    told = run(base, "-m", "hengliu", "token", "issue", "gate")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("hl_")


def test_a_base_install_says_what_up_needs(base: Path) -> None:
    told = run(base, "-m", "hengliu", "up")
    assert told.returncode == 2, told.stderr
    assert "hengliu[platform]" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_base_install_lists_its_mappings(base: Path) -> None:
    told = run(base, "-m", "hengliu", "load", "--list")
    assert told.returncode == 0, told.stderr
    assert "london-electricity" in told.stdout + told.stderr
