"""Fixtures of the contract suites."""

from tests.contract.event_log_support import bed, event_log_kafka, kafka_bed, local_bed

__all__ = ["bed", "event_log_kafka", "kafka_bed", "local_bed"]
