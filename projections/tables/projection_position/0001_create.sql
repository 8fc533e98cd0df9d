-- Positions only grow, so the greatest is the latest.
CREATE TABLE IF NOT EXISTS projection_position
(
    projector LowCardinality(String),
    topic LowCardinality(String),
    partition Int32,
    position Int64,
    at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(position)
ORDER BY (projector, topic, partition)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
