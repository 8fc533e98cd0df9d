-- One row a change of a warning. Not partitioned: an insert is one part, whatever years it touches.
CREATE TABLE IF NOT EXISTS warning
(
    id String,
    source LowCardinality(String),
    time DateTime64(3, 'UTC'),
    known_at DateTime64(3, 'UTC'),
    enterprise LowCardinality(String),
    site LowCardinality(String),
    division LowCardinality(String),
    cause String,
    corrects String,
    operator LowCardinality(String),
    operator_version Int64,
    change LowCardinality(String),
    warning String,
    code String,
    severity LowCardinality(String),
    subject String,
    parameters String,
    rule String,
    rule_version Int64,
    since DateTime64(3, 'UTC'),
    src_topic LowCardinality(String),
    src_partition Int32,
    src_offset Int64,
    batch_min Int64,
    batch_max Int64
)
ENGINE = MergeTree
ORDER BY (warning, known_at)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
