"""The event log on Kafka: one transactional producer a task, state in a compacted topic, committed reads.

Owns: how the port's words map to Kafka's. Does not own: starting brokers (``infra.services.kafka``), placing tasks.

Client: aiokafka for everything on the hot path. It lives on the event loop without threads and commits in half of
confluent-kafka's time (``docs/decisions/009``); what it lacks, group metadata in a transaction, is not used here, because the
``transactional.id`` of the task does the fencing. kafka-python does the administration. ``docs/protocols/commit.md`` has the
numbered steps.
"""

from infra.kafka_log.log import KafkaLog, KafkaReader, KafkaTaskSession
from infra.log_guards import Guards

__all__ = ["Guards", "KafkaLog", "KafkaReader", "KafkaTaskSession"]
