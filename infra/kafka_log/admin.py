"""Topics and their settings, through kafka-python's administration client. Blocking; called in a thread."""

import warnings
from collections.abc import Mapping, Sequence
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


class Admin:
    """What the log asks of the cluster's administration."""

    def __init__(self, bootstrap: str, replication: int) -> None:
        try:
            self._client = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=20000, request_timeout_ms=30000)
        except KafkaError as error:
            raise LogUnavailable(f"Kafka at {bootstrap}: {error!r}") from error
        self._replication = replication

    def close(self) -> None:
        self._client.close()

    def ensure(self, topics: Mapping[str, tuple[int, Mapping[str, str]]]) -> None:
        """Make every topic exist with its partition count and settings.

        Raises:
            TopicMismatch: one exists with others.
        """
        try:
            existing = {t["name"]: t for t in self._client.describe_topics() if not t["error_code"]}
            missing = {
                name: {"num_partitions": partitions, "replication_factor": self._replication, "configs": dict(settings)}
                for name, (partitions, settings) in topics.items()
                if name not in existing
            }
            found = [name for name in topics if name in existing]
            # Compared first: a list with one wrong topic creates nothing.
            self._compare(found, topics, existing)
            if missing:
                try:
                    self._client.create_topics(missing, wait_for_metadata=True)
                except TopicAlreadyExistsError:
                    # Another process was faster. What it made is compared like any other.
                    self._client.wait_for_topics(list(missing))
                existing = {t["name"]: t for t in self._client.describe_topics(list(missing))}
                self._compare(list(missing), topics, existing)
        except KafkaError as error:
            raise LogUnavailable(f"topics: {error!r}") from error

    def _compare(
        self, names: Sequence[str], topics: Mapping[str, tuple[int, Mapping[str, str]]], existing: Mapping[str, Any]
    ) -> None:
        if not names:
            return
        described = self._client.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name) for name in names], config_filter="all"
        )["topic"]
        for name in names:
            partitions, settings = topics[name]
            have = len(existing[name]["partitions"])
            if have != partitions:
                raise TopicMismatch(f"{name}: has {have} partitions, declared {partitions}")
            for key, wanted in settings.items():
                value = described[name][key]["value"]
                if value != wanted:
                    raise TopicMismatch(f"{name}: {key} is {value}, wanted {wanted}")

    def partition_counts(self) -> dict[str, int]:
        """Partitions of every topic of the cluster."""
        try:
            return {t["name"]: len(t["partitions"]) for t in self._client.describe_topics() if not t["error_code"]}
        except KafkaError as error:
            raise LogUnavailable(f"topics: {error!r}") from error
