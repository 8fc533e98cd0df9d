"""Real servers (Kafka, ClickHouse, PostgreSQL) for development, tests and the demonstration; each dies with who started it.

Owns fetching, starting and stopping them. Does not own any connection to them, and is not for production.
"""
