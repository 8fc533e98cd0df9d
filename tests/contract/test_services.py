"""The launchers of ClickHouse and PostgreSQL: start, stop, survive a kill, leave nothing behind, let nobody else in."""

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from clickhouse_driver import Client

from hengliu.compose.adapters import open_warehouse
from hengliu.ports.warehouse import WarehouseUnavailable, create_sql
from hengliu.settings import Settings
from infra.clickhouse_warehouse import ClickHouseAddress, ClickHouseWarehouse
from infra.services.clickhouse import ClickHouseService
from infra.services.common import ServiceFailed, free_ports
from infra.services.postgres import PostgresService
from tests.contract.warehouse_support import FACT, ROOT, facts, scalar


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie that nobody reaped does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def user_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def wait_gone(pids: list[int], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids):
            return
        time.sleep(0.05)
    raise AssertionError(f"still alive: {[pid for pid in pids if alive(pid)]}")


def listeners() -> dict[int, str]:
    """Port to local address of every listening TCP socket of this machine, as the kernel writes them."""
    out = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                address, port = local.split(":")
                out[int(port, 16)] = address
    return out


LOOPBACK = "0100007F"


def orphan(program: str, directory: Path) -> list[int]:
    """Start a service in another process, kill that with -9, and return the process ids that it printed before."""
    code = f"import sys, time\nfrom pathlib import Path\n{program}\nprint('ready', *pids, flush=True)\ntime.sleep(600)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(directory)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        line = owner.stdout.readline().split()
        assert line[0] == "ready"
        pids = [int(word) for word in line[1:]]
        assert all(alive(pid) for pid in pids)
        owner.kill()
    return pids


# --- ClickHouse ------------------------------------------------------------------------------------------------------


def ask(service: ClickHouseService, sql: str, user: str = "", password: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", service.http_port, timeout=10)
    try:
        headers = {"X-ClickHouse-User": user, "X-ClickHouse-Key": password} if user else {}
        connection.request("POST", "/?query=" + quote(sql), headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.mark.clickhouse
async def test_clickhouse_starts_stops_and_keeps_its_data(tmp_path: Path) -> None:
    service = ClickHouseService(tmp_path / "a")
    async with service as url:
        assert listeners()[service.http_port] == LOOPBACK
        assert listeners()[service.tcp_port] == LOOPBACK
        pid = service.pid
        warehouse = await ClickHouseWarehouse.open(url)
        await warehouse.execute(create_sql(FACT))
        await warehouse.insert(FACT, facts(10), "a")
        await warehouse.close()
    assert not alive(pid)
    assert not {service.http_port, service.tcp_port} & set(listeners())
    async with service as again:
        assert again == url
        warehouse = await ClickHouseWarehouse.open(url)
        assert await scalar(warehouse, "SELECT count() AS n FROM fact") == 10
        await warehouse.close()


async def counted(url: str, rows: int, seconds: float = 20) -> None:
    """Wait until the server answers, and look that it has all rows."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                warehouse = await ClickHouseWarehouse.open(url)
            except WarehouseUnavailable:
                await asyncio.sleep(0.05)
                continue
            try:
                assert await scalar(warehouse, "SELECT count() AS n FROM fact") == rows
            finally:
                await warehouse.close()
            return


def native_client(url: str) -> Client:
    address = ClickHouseAddress.parse(url)
    client = Client(address.host, port=address.port, user=address.user, password=address.password)
    client.execute("SELECT 1")
    return client


@pytest.mark.clickhouse
async def test_clickhouse_that_ends_by_itself_is_started_again(tmp_path: Path) -> None:
    """Killed from outside, and by a native client that vanishes while it is answered, which this form may not bear."""
    service = ClickHouseService(tmp_path / "a")
    async with service as url:
        warehouse = await ClickHouseWarehouse.open(url)
        await warehouse.execute(create_sql(FACT))
        await warehouse.insert(FACT, facts(10), "a")
        await warehouse.close()
        first = service.pid
        os.kill(first, 9)
        await counted(url, 10)
        assert service.pid not in (0, first)
        assert service.restarts == 1
        for _ in range(3):
            client = await asyncio.to_thread(native_client, url)
            asking = asyncio.create_task(
                asyncio.to_thread(client.execute, "SELECT number, toString(number) FROM numbers(5000000)")
            )
            await asyncio.sleep(0.02)
            client.connection.socket.shutdown(socket.SHUT_RDWR)
            with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the driver makes of it
                await asking
            client.disconnect()
            await counted(url, 10)
        last = service.pid
    assert not alive(last)
    await asyncio.sleep(0.3)
    assert service.pid == 0
    assert service.restarts <= 4


@pytest.mark.clickhouse
async def test_a_start_waits_for_a_warehouse_that_is_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = ClickHouseService(tmp_path / "a")
    async with service as url:
        service.kill()
        opening = asyncio.create_task(open_warehouse(Settings(warehouse=url)))
        await asyncio.sleep(0.5)
        assert not opening.done()
        await asyncio.to_thread(service.start)
        await (await opening).close()
        service.kill()
        monkeypatch.setattr("hengliu.compose.adapters.CONNECT_SECONDS", 0.0)
        with pytest.raises(WarehouseUnavailable):
            await open_warehouse(Settings(warehouse=url))


@pytest.mark.clickhouse
def test_clickhouse_lets_nobody_in_without_the_password(tmp_path: Path) -> None:
    service = ClickHouseService(tmp_path / "a")
    with service as url:
        password = ClickHouseAddress.parse(url).password
        assert len(password) > 20
        assert ask(service, "SELECT 1", "hengliu", "wrong")[0] == 403
        assert ask(service, "SELECT currentUser()", "hengliu", password) == (200, "hengliu\n")
        ask(service, "CREATE DATABASE d", "hengliu", password)
        ask(service, "CREATE TABLE d.t ENGINE = MergeTree ORDER BY a AS SELECT 1 AS a", "hengliu", password)
        # The console's own user has no password and must therefore have no rights.
        for sql in (
            "SELECT * FROM d.t",
            "SELECT * FROM file('/etc/passwd', 'LineAsString')",
            "SELECT * FROM url('http://127.0.0.1/', 'LineAsString')",
            "INSERT INTO d.t VALUES (2)",
            "CREATE TABLE d.u (a Int8) ENGINE = MergeTree ORDER BY a",
            "DROP TABLE d.t",
            "CREATE TABLE default.other ENGINE = File('LineAsString', '/etc/passwd')",
        ):
            status, answer = ask(service, sql)
            assert (status, "ACCESS_DENIED" in answer) == (500, True), (sql, answer)
        for path in tmp_path.rglob("*.xml"):
            assert path.stat().st_mode & 0o077 == 0
            assert password not in path.read_text()


@pytest.mark.clickhouse
def test_clickhouse_dies_with_its_owner(tmp_path: Path) -> None:
    program = (
        "from infra.services.clickhouse import ClickHouseService\n"
        "service = ClickHouseService(Path(sys.argv[1]))\nservice.start()\npids = [service.pid]"
    )
    wait_gone(orphan(program, tmp_path / "a"))


@pytest.mark.clickhouse
def test_clickhouse_that_cannot_start_says_why(tmp_path: Path) -> None:
    with ClickHouseService(tmp_path / "a"), pytest.raises(ServiceFailed, match="ended at start") as caught:
        ClickHouseService(tmp_path / "a").start()
    assert "启动时退出" in str(caught.value)
    broken = ClickHouseService(tmp_path / "b", settings="<storage_configuration><disks>")
    with pytest.raises(ServiceFailed, match="ended at start"):
        broken.start()
    assert broken.pid == 0


@pytest.mark.clickhouse
def test_clickhouse_waits_for_its_own_ports(tmp_path: Path) -> None:
    """Started again, the port may still be held for a moment, or for ever."""
    service = ClickHouseService(tmp_path / "a")
    service.start()
    service.kill()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", service.http_port))
        taken.listen()
        with pytest.raises(ServiceFailed):
            service.start(timeout=3)
    assert service.start()
    service.stop()


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.mark.postgres
async def test_postgres_starts_stops_and_survives_a_kill(tmp_path: Path) -> None:
    """The directory lies where the server's user cannot come (a test's folder is its owner's alone)."""
    service = PostgresService(tmp_path / "a")
    async with service as url:
        assert listeners()[service.port] == LOOPBACK
        with psycopg.connect(url, autocommit=True) as connection:
            assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
            assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            connection.execute("CREATE TABLE t AS SELECT 1 AS a")
        postmaster = int((tmp_path / "a" / "data" / "postmaster.pid").read_text().splitlines()[0])
        if os.geteuid() == 0:
            assert user_of(postmaster) != 0
        pids = [service.pid, postmaster]
        await asyncio.to_thread(service.kill)
        wait_gone(pids)
        assert await asyncio.to_thread(service.start) == url
        with psycopg.connect(url, autocommit=True) as connection:
            assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]
            connection.execute("CREATE TABLE u AS SELECT 2 AS a")
        await asyncio.to_thread(service.stop)
        assert service.port not in listeners()
        assert await asyncio.to_thread(service.start) == url
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT a FROM u").fetchall() == [(2,)]
    # Another handle on the same directory, as the next run of a program, knows the password.
    async with PostgresService(tmp_path / "a") as later:
        with psycopg.connect(later) as connection:
            assert connection.execute("SELECT a FROM u").fetchall() == [(2,)]


@pytest.mark.postgres
def test_postgres_lets_nobody_in_without_the_password(tmp_path: Path) -> None:
    service = PostgresService(tmp_path / "a", fsync=False)
    with service as url:
        secret = url.split(":")[2].split("@")[0]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(url.replace(secret, "wrong"))
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(f"postgresql://postgres@127.0.0.1:{service.port}/postgres")
    assert (tmp_path / "a" / "password").stat().st_mode & 0o077 == 0


@pytest.mark.postgres
def test_postgres_dies_with_its_owner(tmp_path: Path) -> None:
    program = (
        "from infra.services.postgres import PostgresService\n"
        "service = PostgresService(Path(sys.argv[1]), fsync=False)\nservice.start()\n"
        "pids = [service.pid, int((Path(sys.argv[1]) / 'data' / 'postmaster.pid').read_text().splitlines()[0])]"
    )
    wait_gone(orphan(program, tmp_path / "a"))


@pytest.mark.postgres
def test_postgres_dies_with_its_supervisor(tmp_path: Path) -> None:
    service = PostgresService(tmp_path / "a", fsync=False)
    service.start()
    postmaster = int((tmp_path / "a" / "data" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(service.pid, 9)
    wait_gone([postmaster])
    service.stop()


@pytest.mark.postgres
def test_postgres_that_cannot_start_says_why(tmp_path: Path) -> None:
    service = PostgresService(tmp_path / "a", fsync=False, options=("no_such_setting=1",))
    with pytest.raises(ServiceFailed, match="unrecognized configuration parameter"):
        service.start()
    assert service.pid == 0
    # What an interrupted first start left is not taken for a cluster.
    (tmp_path / "b" / "data" / "base").mkdir(parents=True)
    with PostgresService(tmp_path / "b", fsync=False) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_free_ports_are_distinct() -> None:
    assert len(set(free_ports(20))) == 20
