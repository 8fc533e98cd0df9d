"""``projection_position``: how far each projector has come, one row a partition and flush; merges keep the latest.

For people and for other processes that read the warehouse; the projector itself goes by its state in the log, never by
this table.
"""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from hengliu.ports.log import TopicPartition
from hengliu.ports.warehouse import Column, TableSchema
from projections.table import TEXT, TIME, time_column

__all__ = ["MIGRATIONS", "SCHEMA", "position_rows"]

MIGRATIONS = Path(__file__).parent

SCHEMA = TableSchema(
    "projection_position",
    (
        Column("projector", "LowCardinality(String)", TEXT, transport=True),
        Column("topic", "LowCardinality(String)", TEXT, transport=True),
        Column("partition", "Int32", pa.int32(), transport=True),
        Column("position", "Int64", pa.int64(), transport=True),
        Column("at", time_column("at").type, TIME, transport=True),
    ),
    order_by=("projector", "topic", "partition"),
    engine="ReplacingMergeTree(position)",
)


def position_rows(projector: str, positions: Mapping[TopicPartition, int], at_ms: int) -> pa.Table:
    """One row a partition, ordered."""
    ordered = sorted(positions.items())
    return pa.Table.from_arrays(
        [
            pa.array([projector] * len(ordered), TEXT),
            pa.array([tp.topic for tp, _ in ordered], TEXT),
            pa.array([tp.partition for tp, _ in ordered], pa.int32()),
            pa.array([position for _, position in ordered], pa.int64()),
            pa.array([at_ms] * len(ordered), TIME),
        ],
        schema=SCHEMA.arrow_schema,
    )
