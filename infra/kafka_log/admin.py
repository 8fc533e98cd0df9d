"""Topics and their settings, through kafka-python's administration client. Blocking; called in a thread."""

import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from hengliu.ports.log import LogUnavailable, TopicMismatch

with warnings.catch_warnings():
    # kafka-python 3.0 reads its schemas through importlib.resources.read_text, which Python 3.11 and 3.12 deprecate.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
    from kafka.errors import KafkaError, TopicAlreadyExistsError

__all__ = ["COMPACTED", "Admin", "record_topic_settings"]

FOREVER = str(2**63 - 1)

COMPACTED: Mapping[str, str] = {
    "cleanup.policy": "compact",
    # The active segment is never compacted, so it must be short for the state to shrink at all.
    "segment.bytes": str(16 << 20),
    "min.cleanable.dirty.ratio": "0.2",
    "max.message.bytes": str(1 << 20),
    "message.timestamp.after.max.ms": FOREVER,
}
"""Settings of a state topic."""


def record_topic_settings(max_record_bytes: int) -> dict[str, str]:
    """Settings of a topic of records: kept for ever, times as the writer stamped them."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "message.timestamp.type": "CreateTime",
        # A simulated month runs ahead of the wall clock; the default refuses what is an hour ahead.
        "message.timestamp.after.max.ms": FOREVER,
        "max.message.bytes": str(max_record_bytes + (64 << 10)),
    }


CONNECT_SECONDS = 10.0


class Admin:
    """What the log asks of the cluster's administration.

    A client lives for one call: one that outlived its broker would go on reconnecting in a thread of its own.
    """

    def __init__(self, bootstrap: str, replication: int) -> None:
        self._bootstrap = bootstrap
        self._replication = replication

    @contextmanager
    def _client(self) -> Iterator[KafkaAdminClient]:
        self._reach()
        try:
            client = KafkaAdminClient(bootstrap_servers=self._bootstrap, bootstrap_timeout_ms=20000, request_timeout_ms=30000)
            try:
                yield client
            finally:
                client.close()
        except KafkaError as error:
            raise LogUnavailable(f"Kafka at {self._bootstrap}: {error!r}") from error

    def _reach(self) -> None:
        """One of the addresses takes a connection, else LogUnavailable. (The client itself drops sockets unclosed there.)"""
        deadline = time.monotonic() + CONNECT_SECONDS
        while True:
            for address in self._bootstrap.split(","):
                host, _, port = address.strip().rpartition(":")
                try:
                    socket.create_connection((host, int(port)), timeout=2).close()
                except (OSError, ValueError) as error:
                    problem = error
                else:
                    return
            if time.monotonic() > deadline or isinstance(problem, ValueError):
                raise LogUnavailable(f"Kafka at {self._bootstrap}: {problem!r}") from problem
            time.sleep(0.2)

    def ensure(self, topics: Mapping[str, tuple[int, Mapping[str, str]]]) -> None:
        """Make every topic exist with its partition count and settings.

        Raises:
            TopicMismatch: one exists with others; nothing was created.
        """
        with self._client() as client:
            existing = {t["name"]: t for t in client.describe_topics() if not t["error_code"]}
            missing = {
                name: {"num_partitions": partitions, "replication_factor": self._replication, "configs": dict(settings)}
                for name, (partitions, settings) in topics.items()
                if name not in existing
            }
            # Compared first: a list with one wrong topic creates nothing.
            _compare(client, [name for name in topics if name in existing], topics, existing)
            if missing:
                # Another process may be faster; what it made is compared like any other.
                with suppress(TopicAlreadyExistsError):
                    client.create_topics(missing)
                client.wait_for_topics(list(missing))
                _compare(client, list(missing), topics, {t["name"]: t for t in client.describe_topics(list(missing))})

    def partitions(self, names: Sequence[str]) -> dict[str, int]:
        """Partition counts of those topics that exist."""
        with self._client() as client:
            return {t["name"]: len(t["partitions"]) for t in client.describe_topics() if t["name"] in names}


def _compare(
    client: KafkaAdminClient,
    names: Sequence[str],
    topics: Mapping[str, tuple[int, Mapping[str, str]]],
    existing: Mapping[str, Any],
) -> None:
    if not names:
        return
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    described = client.describe_configs(resources, config_filter="all")["topic"]
    differences: list[str] = []
    for name in names:
        partitions, settings = topics[name]
        have = len(existing[name]["partitions"])
        if have != partitions:
            differences.append(f"{name}: has {have} partitions, declared {partitions}")
        for key, wanted in settings.items():
            value = described[name][key]["value"]
            if value != wanted:
                differences.append(f"{name}: {key} is {value}, wanted {wanted}")
    if differences:
        raise TopicMismatch("; ".join(differences))
