"""Real Kafka brokers (KRaft, loopback only), one or a cluster, started from Maven's artefacts and stopped with their owner.

One broker acknowledges from the page cache: ``acks=all`` on a single node does not sync the disk. What it proves is the
protocol (transactions, fencing, read_committed), and survival of killed processes, not of a power cut.
"""

import asyncio
import base64
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from infra.services.common import ServiceFailed, both, cache_directory, free_ports, tell

__all__ = ["KAFKA_VERSION", "ClusterPlace", "KafkaCluster", "KafkaService", "fetch_kafka", "kafka_libs"]

KAFKA_VERSION = "4.3.0"
"""4.4.0 did not resolve whole; the transaction behaviour that the adapter relies on was measured on 4.3.0."""
LOG4J_VERSION = "2.25.4"
PACKED_MB = 45
"""What is fetched: 46 jars."""
DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8"

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>hengliu</groupId>
  <artifactId>kafka-runtime</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
# The broker's artefact brings log4j but nothing that connects slf4j to it: without the second one it starts mute.

LOGGING = """status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c: %m%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
"""


def kafka_libs(root: Path | None = None) -> Path:
    """The folder of jars, whether it is there yet or not."""
    return (root or cache_directory()) / f"kafka-{KAFKA_VERSION}" / "libs"


def fetch_kafka(root: Path | None = None, say: Callable[[str], None] = tell) -> Path:
    """The folder of Kafka's jars, fetched through Maven on first use (seconds); safe in several processes at once.

    Raises:
        ServiceFailed: Maven or Java is missing, or the download failed.
    """
    libs = kafka_libs(root)
    if libs.is_dir():
        return libs
    maven = shutil.which("mvn")
    if maven is None:
        raise ServiceFailed("service.missing", name="mvn", command="apt-get install maven default-jre-headless")
    libs.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(libs.parent / "fetch.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if libs.is_dir():
            return libs
        say(both("service.fetching", name=f"Kafka {KAFKA_VERSION}", megabytes=PACKED_MB, path=libs))
        with tempfile.TemporaryDirectory(dir=libs.parent, prefix="fetch-") as scratch:
            (Path(scratch) / "pom.xml").write_text(POM)
            command = [maven, "-B", "-C", f"{DEPENDENCY_PLUGIN}:copy-dependencies", "-DincludeScope=runtime"]
            command.append(f"-DoutputDirectory={scratch}/libs")
            count = 0
            with subprocess.Popen(command, cwd=scratch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:  # noqa: S603
                assert run.stdout is not None
                for line in run.stdout:
                    if "ERROR" in line:
                        say(line.rstrip())
                    elif line.startswith("[INFO] Copying"):
                        count += 1
                        say(f"  {count:2} {line.split()[2]}")
            if run.returncode:
                raise ServiceFailed(
                    "service.fetch-failed", name=f"Kafka {KAFKA_VERSION}", cause=f"mvn returned {run.returncode}"
                )
            # The rename is what makes it count as fetched: a killed download leaves no half folder behind.
            (Path(scratch) / "libs").rename(libs)
        say(both("service.in-place", name=f"Kafka {KAFKA_VERSION}", path=libs))
        return libs
    finally:
        os.close(lock)


# Runs between fork and the program: asks the kernel to send SIGTERM when the parent dies, checks that it has not died
# meanwhile, and becomes the program. A preexec_fn would do the same and may deadlock in a process with threads.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class ClusterPlace:
    """Where one broker of a cluster stands: the ports of all, the first broker's first, and which of them it is.

    Attributes:
        ports, controllers: a port for clients and one for the quorum, a broker each.
        number: this broker's, from 1.
    """

    cluster_id: str
    ports: Sequence[int]
    controllers: Sequence[int]
    number: int


class _Brokers(ABC):
    """``async with`` it: started at the beginning, stopped at the end."""

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        await self.stop()

    @abstractmethod
    async def start(self) -> str:
        """Start, wait until served; the bootstrap addresses."""

    @abstractmethod
    async def stop(self) -> None:
        """Ask to stop, and wait."""


class KafkaService(_Brokers):
    """``async with KafkaService(dir) as bootstrap:`` gives ``127.0.0.1:port`` of a running broker over ``dir``.

    The data outlives the broker: the same directory may be opened again, with whatever port is free then (``port=0``) or a
    fixed one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        heap_mb: int = 512,
        transaction_check_ms: int = 1000,
        libs: Path | None = None,
        start_seconds: float = 120.0,
        place: ClusterPlace | None = None,
    ) -> None:
        """``heap_mb`` is -Xmx. ``transaction_check_ms``: how often the broker looks for transactions past their time.

        ``place``: as one broker of a cluster, which serves when most of its brokers do; None: alone.
        """
        self._directory = directory
        self._port = port
        self._heap_mb = heap_mb
        self._transaction_check_ms = transaction_check_ms
        self._libs = libs
        self._start_seconds = start_seconds
        self._place = place
        self._process: asyncio.subprocess.Process | None = None
        self.bootstrap = ""

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        assert self._process is not None
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """What the broker printed."""
        return self._directory / "kafka.log"

    async def start(self) -> str:
        """Start and wait until it serves; returns the bootstrap address.

        Raises:
            ServiceFailed: it cannot be fetched or does not serve within ``start_seconds``.
        """
        java = shutil.which("java")
        if java is None:
            raise ServiceFailed("service.missing", name="java", command="apt-get install default-jre-headless")
        libs = self._libs if self._libs is not None else await asyncio.to_thread(fetch_kafka)
        for attempt in (1, 2, 3):
            place = self._place
            if place is None:
                port, controller = free_ports(2)
                port = self._port or port
                place = ClusterPlace("", [port], [controller], 1)
            port = place.ports[place.number - 1]
            await asyncio.to_thread(self._configure, place)
            try:
                await self._format(java, libs)
                await self._launch(java, libs, port)
            except ServiceFailed:
                await self.stop()
                # Between looking for a free port and binding it another process may have taken it.
                if attempt == 3 or self._port or self._place or "already in use" not in self._tail():
                    raise
            except BaseException:
                await self.stop()
                raise
            else:
                self.bootstrap = f"127.0.0.1:{port}"
                return self.bootstrap
        raise AssertionError

    def _configure(self, place: ClusterPlace) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        port, controller = place.ports[place.number - 1], place.controllers[place.number - 1]
        copies = min(3, len(place.ports))
        settings = {
            "process.roles": "broker,controller",
            "node.id": str(place.number),
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{other}" for n, other in enumerate(place.controllers, 1)),
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self._directory / "data"),
            "auto.create.topics.enable": "false",
            "default.replication.factor": str(copies),
            "min.insync.replicas": str(max(1, copies - 1)),
            "offsets.topic.replication.factor": str(copies),
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": str(copies),
            "transaction.state.log.min.isr": str(max(1, copies - 1)),
            "transaction.state.log.num.partitions": "8",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": str(self._transaction_check_ms),
            "group.initial.rebalance.delay.ms": "0",
            "log.cleaner.dedupe.buffer.size": "16777216",
            # Looks for something to compact every second in place of every fifteen: state topics stay small, and tests short.
            "log.cleaner.backoff.ms": "1000",
            "num.network.threads": "2",
            "num.io.threads": "4",
            # A broker killed with -9 may register again only when its old session has run out.
            "broker.session.timeout.ms": "5000",
            "broker.heartbeat.interval.ms": "1000",
        }
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        (self._directory / "server.properties").write_text(text)
        (self._directory / "log4j2.properties").write_text(LOGGING)

    async def _format(self, java: str, libs: Path) -> None:
        if (self._directory / "data" / "meta.properties").exists():
            return
        tool = await asyncio.create_subprocess_exec(
            *self._java(java, libs, 128),
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            _new_cluster_id() if self._place is None else self._place.cluster_id,
            "--config",
            str(self._directory / "server.properties"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await tool.communicate()
        if tool.returncode:
            raise ServiceFailed("service.ended", name="kafka.tools.StorageTool", cause=output.decode(errors="replace")[-2000:])

    def _java(self, java: str, libs: Path, heap_mb: int) -> list[str]:
        return [
            java,
            f"-Xmx{heap_mb}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=4",
            f"-Dlog4j2.configurationFile={self._directory / 'log4j2.properties'}",
            "-cp",
            f"{libs}/*",
        ]

    async def _launch(self, java: str, libs: Path, port: int) -> None:
        with self.log_file.open("wb") as out:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _DIE_WITH_PARENT,
                str(os.getpid()),
                *self._java(java, libs, self._heap_mb),
                "kafka.Kafka",
                str(self._directory / "server.properties"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                # Its own process group: Ctrl-C in a terminal reaches the owner alone, which then stops the broker in order.
                process_group=0,
            )
        deadline = time.monotonic() + self._start_seconds
        while time.monotonic() < deadline:
            if self._process.returncode is not None:
                raise ServiceFailed("service.ended", name="Kafka", cause=self._tail())
            if b"Kafka Server started" in await asyncio.to_thread(self.log_file.read_bytes):
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    pass
                else:
                    writer.close()
                    await writer.wait_closed()
                    return
            await asyncio.sleep(0.1)
        raise ServiceFailed("service.silent", name="Kafka", cause=self._tail())

    def _tail(self) -> str:
        return self.log_file.read_text(errors="replace")[-2000:] if self.log_file.exists() else ""

    async def stop(self, seconds: float = 15.0) -> None:
        """Ask it to stop, wait, and kill it when it has not stopped in time. Safe to call twice."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), seconds)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def kill(self) -> None:
        """kill -9, for tests."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        self._process = None


class KafkaCluster(_Brokers):
    """Several brokers on this machine, each a ``KafkaService`` over ``dir/N``, between which leaders and coordinators move.

    Topics have three copies, of which two must stand for a write to be taken; so one broker of three may be away.
    """

    def __init__(self, directory: Path, brokers: int = 3, *, heap_mb: int = 384) -> None:
        ports = free_ports(2 * brokers)
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in ports[:brokers])
        cluster_id = _new_cluster_id()
        places = [ClusterPlace(cluster_id, ports[:brokers], ports[brokers:], number) for number in range(1, brokers + 1)]
        self.brokers = {
            place.number: KafkaService(directory / str(place.number), heap_mb=heap_mb, place=place) for place in places
        }
        """By number, as Kafka's metadata calls them."""

    async def start(self) -> str:
        """Start all of them and wait until each serves; returns the bootstrap addresses.

        Raises:
            ServiceFailed: as ``KafkaService.start``; also where another process took one of the ports meanwhile.
        """
        begun = [asyncio.create_task(broker.start()) for broker in self.brokers.values()]
        try:
            await asyncio.gather(*begun)
        except BaseException:
            for one in begun:
                one.cancel()
            await asyncio.gather(*begun, return_exceptions=True)
            await self.stop()
            raise
        return self.bootstrap

    async def stop(self) -> None:
        """Stop all of them, side by side. Safe to call twice."""
        await asyncio.gather(*(broker.stop() for broker in self.brokers.values()))


def _new_cluster_id() -> str:
    cluster = "-"
    while cluster.startswith("-"):  # one in 64 would be taken for an option
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return cluster
