"""The engines of the contract suite, for tests that must give the same on both."""

from tests.contract.warehouse_support import clickhouse_service, engine

__all__ = ["clickhouse_service", "engine"]
