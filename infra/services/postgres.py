"""PostgreSQL from Debian's package, over a directory, on loopback TCP; for tests, benches and the demo.

The server refuses to run as root, so under root it runs as ``postgres`` or ``nobody``. That user need not be able to reach
the directory through its parents (a home, a test's temporary folder): it is handed the open directory, and the data are
named ``/proc/self/fd/N``, which passes no parent.

Between us and the server stands a supervisor that reads its standard input: when that pipe closes, because we stop it or
because we were killed, it asks the server for a fast shutdown; when the supervisor itself is killed, the kernel does.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg

from hengliu.ports.warehouse import identifier
from infra.services.common import BlockingService, ServiceFailed, end, free_ports, write_private

USER: Final = "hengliu"

_SUPERVISOR: Final = """
import ctypes, os, signal, subprocess, sys, threading
user, group, *command = sys.argv[1:]
identity = {"user": int(user), "group": int(group), "extra_groups": []} if user else {}
prctl = ctypes.CDLL(None).prctl
def die_with_parent():
    prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG
server = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False, preexec_fn=die_with_parent, **identity)
def watch():
    while os.read(0, 4096):
        pass
    for stop in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, none
        server.send_signal(stop)
        try:
            server.wait(10)
            return
        except subprocess.TimeoutExpired:
            pass
threading.Thread(target=watch, daemon=True).start()
sys.exit(server.wait())
"""


def binaries() -> Path:
    """The directory with ``postgres`` and ``initdb``, of the newest version installed.

    Raises:
        ServiceFailed: there is none.
    """
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    if versions:
        return versions[-1].parent
    if (found := shutil.which("postgres")) and shutil.which("initdb"):
        return Path(found).parent
    raise ServiceFailed("service.missing", name="PostgreSQL", command="apt-get install postgresql")


class PostgresService(BlockingService):
    """A PostgreSQL server over ``directory`` (created; kept at stop) for user ``hengliu`` with a password of its own.

    ``with PostgresService(directory) as url`` or ``async with``; the URL is what psycopg takes.
    """

    def __init__(
        self, directory: Path, *, database: str = "hengliu", fsync: bool = True, options: tuple[str, ...] = ()
    ) -> None:
        """``options`` are server settings, ``name=value``. ``fsync=False`` is for tests that lose nothing by it."""
        self._directory = directory
        self._database = identifier(database)
        self._options = (*options, f"fsync={'on' if fsync else 'off'}")
        self._process: subprocess.Popen[bytes] | None = None
        self._password = ""
        self.port = 0

    @property
    def url(self) -> str:
        return self._url(self._database)

    @property
    def pid(self) -> int:
        """Process id of the supervisor; 0 when there is none."""
        return self._process.pid if self._process else 0

    def start(self, timeout: float = 60) -> str:
        """Start, create the database when it is missing, and wait until it answers; the URL.

        Started again, it keeps port and password.

        Raises:
            ServiceFailed: PostgreSQL is not installed, ended, or did not answer within ``timeout`` seconds.
        """
        programs = binaries()
        again = self.port > 0
        deadline = time.monotonic() + timeout
        with self._data() as (data, identity):
            self._answering(self._choose_port, lambda: self._launch(programs, data, identity), again, deadline)
        return self.url

    def stop(self, timeout: float = 25) -> None:
        """A fast shutdown: running statements are cancelled, what was committed is on disk."""
        process, self._process = self._process, None
        if process is not None:
            end(process, timeout)

    def kill(self) -> None:
        """End the server as a crash would: SIGKILL to its first process, upon which the others end by themselves."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError, ValueError, IndexError):
            os.kill(int((self._directory / "data" / "postmaster.pid").read_text().splitlines()[0]), 9)
            process.wait(10)  # the supervisor ends with it
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()

    # --- how ---

    @property
    def _log(self) -> Path:
        return self._directory / "server.log"

    def _choose_port(self) -> None:
        self.port = free_ports(1)[0]

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def _data(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The data directory as the server is to name it, and the keywords of Popen that give it its user; initialised."""
        home = self._directory.resolve()
        data = home / "data"
        home.mkdir(parents=True, exist_ok=True)
        data.mkdir(mode=0o700, exist_ok=True)
        identity: dict[str, Any] = {"cwd": "/", "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}}
        name = str(data)
        handle = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if os.geteuid() == 0:
                user = _unprivileged()
                for path in (data, *data.rglob("*")):
                    if path.lstat().st_uid != user.pw_uid:
                        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
                identity |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "pass_fds": (handle,)}
                name = f"/proc/self/fd/{handle}"
            if not (data / "PG_VERSION").exists():
                self._initialise(data, name, identity)
            self._password = (home / "password").read_text().strip()
            yield name, identity
        finally:
            os.close(handle)

    def _initialise(self, data: Path, name: str, identity: dict[str, Any]) -> None:
        for left in data.iterdir():  # of an initdb that was cut off
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        secret = secrets.token_urlsafe(18)
        write_private(self._directory / "password", secret + "\n")
        reader, writer = os.pipe()  # initdb takes the password from a file; one of ours its user could not reach
        os.write(writer, secret.encode() + b"\n")
        os.close(writer)
        if "user" in identity:
            os.fchown(reader, identity["user"], identity["group"])
        command = [
            str(binaries() / "initdb"),
            "-D",
            name,
            "-U",
            USER,
            "--auth=scram-sha-256",
            f"--pwfile=/proc/self/fd/{reader}",
        ]
        given = {**identity, "pass_fds": (*identity.get("pass_fds", ()), reader)}
        try:
            done = subprocess.run(  # noqa: S603
                [*command, "--locale=C", "--encoding=UTF8", "--no-sync", "--no-instructions"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                **given,
            )
        finally:
            os.close(reader)
        if done.returncode:
            raise ServiceFailed("service.ended", name="initdb", cause=done.stderr[-2000:])

    def _launch(self, programs: Path, data: str, identity: dict[str, Any]) -> None:
        settings = (
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "timezone=UTC",
            "log_timezone=UTC",
            "shared_buffers=64MB",
            "max_connections=60",
            *self._options,
        )
        server = [str(programs / "postgres"), "-D", data, *(part for s in settings for part in ("-c", s))]
        # The supervisor keeps our user: the server's may not be able to run our Python.
        owner = [str(identity.get("user", "")), str(identity.get("group", ""))]
        rest = {k: v for k, v in identity.items() if k not in {"user", "group", "extra_groups"}}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", "-c", _SUPERVISOR, *owner, *server],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt from the keyboard is for us, who stop it when its clients are done
                **rest,
            )

    def _wait(self, deadline: float) -> None:
        assert self._process is not None
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServiceFailed("service.ended", name="PostgreSQL", cause=self._tail())
            try:
                with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=5) as connection:
                    exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self._database]).fetchone()
                    if exists is None:
                        connection.execute(f"CREATE DATABASE {self._database}".encode())
                    return
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise ServiceFailed("service.silent", name="PostgreSQL", cause=self._tail())

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServiceFailed("service.missing", name="user postgres", command="apt-get install postgresql")


__all__ = ["PostgresService", "binaries"]
