"""Settings: environment variables ``HENGLIU_…``, over a TOML file, over the defaults below.

Every setting is documented here once; ``docs/generated/settings.md`` is made from this module.
"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

__all__ = ["Role", "Settings"]


class Role(StrEnum):
    """What one process does. One process may do all of them; on Kafka each may be a process of its own."""

    API = "api"
    """HTTP, intake and commands."""
    WORKER = "worker"
    """Exchange and operator tasks."""
    PROJECTOR = "projector"
    """Tables."""
    OUTBOX = "outbox"
    """Publishes the registry."""


class Settings(BaseSettings):
    """All settings of the platform."""

    model_config = SettingsConfigDict(env_prefix="HENGLIU_", extra="ignore", frozen=True)

    data_dir: Path = Field(Path("var"), description="Folder of everything this process keeps: log, warehouse, tokens.")
    host: str = Field("127.0.0.1", description="Address the HTTP server listens on.")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(8000, description="Port of the HTTP server; 0 picks a free one.")
    log: str = Field("local", description="Event log: `local`, or `kafka://host:port[,host:port]`.")
    warehouse: str = Field(
        "chdb", description="Warehouse: `chdb`, or `clickhouse://[user:password@]host:9000/db?http_port=8123`."
    )
    event_store: str = Field(
        "sqlite", description="Event store of the aggregates: `sqlite`, or `postgresql://user:password@host/db`."
    )
    partitions: Annotated[int, Field(ge=1, le=256)] | None = Field(
        None,
        description="Common partition count of every topic, fixed once the log exists. Unset: what the log has; a new one gets "
        "2 if local, where one process runs all tasks, and 4 on Kafka.",
    )
    application: str = Field(
        "hengliu", pattern=r"^[a-z][a-z0-9-]*$", description="Prefix of transactional ids and consumer groups."
    )
    stream_engine: str = Field(
        "faust",
        pattern="^(faust|bare)$",
        description="Who runs the stream tasks: `faust` (membership by Faust) or `bare` (all of them in this process).",
    )
    worker_session_s: Annotated[float, Field(ge=6, le=300)] = Field(
        10, description="How long a worker that has died keeps its tasks on Kafka, in seconds; 6 is the broker's own least."
    )
    commit_interval_ms: Annotated[int, Field(ge=10, le=10_000)] = Field(
        100,
        description="Longest time between a stream task's first uncommitted effect and its commit, in milliseconds; half of it "
        "on the way to warnings that one event decides, for which a person waits.",
    )
    open_reading: bool = Field(
        False, description="Anyone on this machine may read without a token. For demonstrations; loopback only."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Host names, beside the loopback names, under which the API may be asked."
    )
    city: str = Field("示例市", description="Name of the city on the pages.")
    city_en: str = Field("Sample City", description="English name of the city.")
    max_body_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="Largest request body, in bytes.")
    max_event_bytes: int = Field(64 * 1024, ge=1024, le=900_000, description="Largest single event, in bytes.")
    max_batch_events: int = Field(5_000, ge=1, description="Most events in one request.")
    extensions: tuple[str, ...] = Field(
        (),
        description="Further event families, `package.module:NAME` (a Family or several). A JSON list in the environment.",
    )
    real_data: Path | None = Field(None, description="Folder of real data that tests and benches may read.")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Level of the process log.")

    @field_validator("log")
    @classmethod
    def _log_is_known(cls, value: str) -> str:
        if value == "local" or (value.startswith("kafka://") and len(value) > len("kafka://")):
            return value
        raise ValueError(f"事件日志应为 local 或 kafka://主机:端口 / the log is 'local' or 'kafka://host:port', not {value!r}")

    @field_validator("warehouse")
    @classmethod
    def _warehouse_is_known(cls, value: str) -> str:
        if value == "chdb" or (value.startswith("clickhouse://") and urlsplit(value).hostname):
            return value
        raise ValueError(
            f"数据仓库应为 chdb 或 clickhouse://主机:9000/库?http_port=8123 / the warehouse is 'chdb' or "
            f"'clickhouse://host:9000/db?http_port=8123', not {value!r}"
        )

    @property
    def kafka_bootstrap(self) -> str:
        """``host:port[,host:port]`` of a Kafka log; empty for the local log."""
        return self.log.removeprefix("kafka://").rstrip("/") if self.log.startswith("kafka://") else ""

    @property
    def one_process(self) -> bool:
        """The embedded engines allow one process only."""
        return self.log == "local" or self.warehouse == "chdb"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        if config := os.environ.get("HENGLIU_CONFIG"):
            sources.append(TomlConfigSettingsSource(settings_cls, toml_file=Path(config)))
        return tuple(sources)
