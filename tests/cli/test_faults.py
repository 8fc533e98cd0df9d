"""Known errors end in one line of each language and an exit code; the process is a real one."""

import fcntl
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hengliu.cli.app import telling
from hengliu.compose.adapters import ExtensionError, catalog_of
from hengliu.compose.faults import KNOWN, MESSAGES, fault_of
from hengliu.ports.log import LogUnavailable, TopicMismatch
from hengliu.settings import Settings
from infra.local_log import LocalLog

HAN = re.compile(r"[\u4e00-\u9fff]")
LATIN = re.compile(r"[A-Za-z]{3}")


def hengliu(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with a data folder of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HENGLIU_")}
    environment |= {"HENGLIU_DATA_DIR": str(folder), "HENGLIU_PORT": "0", "HENGLIU_PARTITIONS": "1", **variables}
    return subprocess.run(
        [sys.executable, "-m", "hengliu", *arguments], env=environment, capture_output=True, text=True, timeout=90, check=False
    )


def told(run: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Ended with this code, both languages and these words, and without a traceback."""
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr
    assert "Warning" not in run.stderr
    assert HAN.search(run.stderr)
    assert LATIN.search(run.stderr)
    for word in words:
        assert word in run.stderr, run.stderr


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield int(holder.getsockname()[1])


def test_a_port_in_use(tmp_path: Path, taken: int) -> None:
    told(hengliu(tmp_path, "up", HENGLIU_PORT=str(taken)), 2, f"127.0.0.1:{taken}", "HENGLIU_PORT", "in use")


def test_an_address_that_this_machine_has_not(tmp_path: Path) -> None:
    told(hengliu(tmp_path, "up", HENGLIU_HOST="192.0.2.1"), 2, "192.0.2.1", "HENGLIU_HOST")


async def test_a_data_folder_in_use(tmp_path: Path) -> None:
    log = await LocalLog.open(tmp_path / "log.sqlite")
    try:
        told(hengliu(tmp_path, "up"), 2, "log.sqlite", str(os.getpid()), "HENGLIU_DATA_DIR")
    finally:
        await log.close()


async def test_another_partition_count_than_the_log_has(tmp_path: Path) -> None:
    async with LocalLog.open(tmp_path / "log.sqlite") as log:
        await log.create_topics(catalog_of(Settings()).topic_specs(1))
    told(hengliu(tmp_path, "up", HENGLIU_PARTITIONS="2"), 2, "HENGLIU_PARTITIONS", "fixed once")


def test_a_token_file_that_others_may_read(tmp_path: Path) -> None:
    made = hengliu(tmp_path, "token", "issue", "gate")
    assert made.returncode == 0
    (tmp_path / "tokens.json").chmod(0o644)
    told(hengliu(tmp_path, "token", "issue", "gate"), 2, "chmod 600")


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    told(hengliu(tmp_path, "log", "topics"), 2, "log.sqlite")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told(hengliu(tmp_path / "file" / "data", "up"), 2, "file")


def test_an_extension_that_is_none(tmp_path: Path) -> None:
    told(hengliu(tmp_path, "up", HENGLIU_EXTENSIONS='["no_such_module:X"]'), 2, "no_such_module:X", "HENGLIU_EXTENSIONS")


@pytest.mark.parametrize("name", ["no_such_module:X", "hengliu.settings:NOTHING", "hengliu.settings:Settings", "nocolon"])
def test_what_is_no_extension(name: str) -> None:
    with pytest.raises(ExtensionError, match=name):
        catalog_of(Settings(extensions=(name,)))


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"HENGLIU_LOG": "rabbit"}, ("HENGLIU_LOG", "rabbit")),
        ({"HENGLIU_PORT": "http"}, ("HENGLIU_PORT", "http")),
        ({"HENGLIU_ALLOWED_HOSTS": "not json"}, ("allowed_hosts",)),
        ({"HENGLIU_CONFIG": "/no/such/file.toml"}, ("HENGLIU_CONFIG", "/no/such/file.toml")),
    ],
)
def test_bad_settings(tmp_path: Path, variables: Mapping[str, str], words: tuple[str, ...]) -> None:
    run = hengliu(tmp_path, "up", **variables)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    for word in words:
        assert word in run.stderr


def test_a_broken_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "hengliu.toml"
    file.write_text("port = [")
    told(hengliu(tmp_path, "up", HENGLIU_CONFIG=str(file)), 2)


def test_a_configuration_file_is_read(tmp_path: Path, taken: int) -> None:
    file = tmp_path / "hengliu.toml"
    file.write_text('host = "192.0.2.1"\n')
    told(hengliu(tmp_path, "up", HENGLIU_CONFIG=str(file)), 2, "192.0.2.1")


def test_a_role_alone_on_the_embedded_engines(tmp_path: Path) -> None:
    told(hengliu(tmp_path, "worker"), 2, "hengliu up")


def test_a_missing_library_names_the_extra() -> None:
    fault = fault_of(ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn.config"), Settings())
    assert fault is not None
    assert "uvicorn" in fault.text.en
    assert "hengliu[platform]" in fault.text.en


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    assert fault_of(ZeroDivisionError("division by zero"), Settings()) is None
    assert fault_of(OSError("no path, no number"), Settings()) is None
    with pytest.raises(ZeroDivisionError), telling(Settings()):
        raise ZeroDivisionError


def test_a_group_of_errors_tells_the_one_that_is_known() -> None:
    fault = fault_of(ExceptionGroup("two", [ZeroDivisionError(), TopicMismatch("weighing")]), Settings())
    assert fault is not None
    assert fault.code == 2


def test_a_password_is_not_shown() -> None:
    from hengliu.ports.warehouse import WarehouseUnavailable

    settings = Settings(warehouse="clickhouse://user:secret@host:9000/db")
    fault = fault_of(WarehouseUnavailable("no answer"), settings)
    assert fault is not None
    assert "secret" not in fault.text.en + fault.text.zh
    assert "host:9000" in fault.text.en


def test_every_name_in_the_table_exists() -> None:
    import importlib

    for kind, _ in KNOWN:
        if isinstance(kind, str):
            module, _, name = kind.partition(":")
            assert issubclass(getattr(importlib.import_module(module), name), Exception)


def test_an_unavailable_log_may_work_later() -> None:
    fault = fault_of(LogUnavailable("timed out"), Settings(log="kafka://broker:9092"))
    assert fault is not None
    assert fault.code == 1
    assert "kafka://broker:9092" in fault.text.en


def test_every_text_is_in_both_languages() -> None:
    for text in MESSAGES.values():
        assert HAN.search(text.zh)
        assert not HAN.search(text.en)
        assert sorted(set(re.findall(r"{\w+}", text.zh))) == sorted(set(re.findall(r"{\w+}", text.en)))


def test_a_taken_port_stops_the_kafka_demonstration_before_its_engines(tmp_path: Path, taken: int) -> None:
    told(hengliu(tmp_path, "demo", "--engine", "kafka", HENGLIU_PORT=str(taken)), 2, f"127.0.0.1:{taken}", "in use")
    assert not (tmp_path / "engines").exists()


def test_a_second_kafka_demonstration_leaves_the_first_ones_engines_alone(tmp_path: Path) -> None:
    (tmp_path / "engines").mkdir()
    with (tmp_path / "engines" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711\n")
        lock.flush()
        told(hengliu(tmp_path, "demo", "--engine", "kafka"), 2, "4711", "HENGLIU_DATA_DIR", "in use")
    assert [p.name for p in (tmp_path / "engines").iterdir()] == ["lock"]


def test_what_the_platform_keeps_is_for_its_user_alone(tmp_path: Path) -> None:
    """The API checks rights; a file of the log has none but the system's."""
    assert hengliu(tmp_path / "data", "token", "issue", "gate").returncode == 0
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0
