"""The one tree of settings, and the only place that reads the environment.

Sources, the highest first:

1. the keyword arguments of `load_settings`;
2. environment variables `NOA_<GROUP>__<FIELD>`, such as `NOA_WORKERS__MAX_WORKERS=8` or
   `NOA_PROVIDER__CONFIG__PORT=6380`; lists may have commas, tables are JSON;
3. the original's `REDIS_HOST`, `REDIS_PORT`, `REDIS_PASSWORD`, `RABBITMQ_HOST`, `RABBITMQ_USER`,
   `RABBITMQ_PASSWORD`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `SMTP_HOST`,
   `SMTP_PORT`, `SMTP_USER`, `SMTP_PASSWORD`, `LOG_LEVEL`; those of another provider than the chosen
   one are passed over;
4. the file that `NOA_CONFIG` names, else `noa.toml`, `noa.yaml` or `noa.json` in the working
   folder, with names in snake case or camelCase;
5. Prefect's settings, for `storage`, `log_level` and the embedded provider's file;
6. the defaults below.

Where no source gives `provider.type`, `REDIS_HOST` chooses `redis`, else `RABBITMQ_HOST` chooses
`rabbitmq`. AWS's variables choose nothing, since many machines have them for other programs. What a
source says about a provider that a higher source has overruled is left aside.

Tables of a lower source are completed by a higher one, field by field; lists are replaced.
"""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from noa_flows.errors import ConfigurationError
from noa_flows.reports.settings import ReportSettings
from noa_flows.settings.groups import (
    BridgeSettings,
    MonitoringSettings,
    RetrySettings,
    SettingsGroup,
    SmtpSettings,
    WorkerSettings,
)
from noa_flows.settings.layers import Layer, Mistake, merged, read_layer, suited
from noa_flows.settings.mistakes import explained
from noa_flows.settings.provider import (
    EmbeddedProvider,
    ProviderSettings,
)
from noa_flows.settings.shape import Shape
from noa_flows.settings.sources import (
    default_layer,
    environment_layers,
    file_layers,
    original_layers,
)
from noa_flows.webhooks.settings import WebhookSettings

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
JobType = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
FlowReference = Annotated[
    str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", examples=["acme.jobs:invoice"])
]


def _prefect_log_level() -> LogLevel:
    from prefect.settings import get_current_settings

    return get_current_settings().logging.level


def _prefect_storage() -> Path:
    from prefect.settings import get_current_settings

    return get_current_settings().results.local_storage_path


class Settings(SettingsGroup):
    """Everything an operator decides, in groups; frozen, and checked as a whole.

    Made directly, it reads neither files nor the environment, and holds the defaults and what it
    is given. `load_settings` reads every source.

    Example:
        >>> Settings(bridge=BridgeSettings(batch_size=10)).bridge.batch_size
        10
    """

    provider: ProviderSettings = Field(
        default_factory=EmbeddedProvider, description="The broker that carries the messages."
    )
    workers: WorkerSettings = Field(
        default=WorkerSettings(), description="How many workers there are."
    )
    monitoring: MonitoringSettings = Field(
        default=MonitoringSettings(), description="What is measured, and what raises an alert."
    )
    retry: RetrySettings = Field(
        default=RetrySettings(), description="How often a failed job is tried again."
    )
    bridge: BridgeSettings = Field(
        default=BridgeSettings(), description="How messages become runs."
    )
    jobs: dict[JobType, FlowReference] = Field(
        default_factory=dict[str, str],
        description="Additional job types, each with its flow as `package.module:flow`.",
    )
    webhook: WebhookSettings = Field(
        default=WebhookSettings(), description="Where webhooks may go, and what they may cost."
    )
    reports: ReportSettings = Field(
        default=ReportSettings(), description="Where reports go, and how large they may be."
    )
    smtp: SmtpSettings = Field(
        default=SmtpSettings(), description="The server that sends mail, and how to log in there."
    )
    storage: Path = Field(
        default_factory=_prefect_storage,
        description="Folder of payloads that are too large for a run's parameters; bridge and "
        "workers must share it. Default: Prefect's folder of results.",
    )
    log_level: LogLevel = Field(
        default_factory=_prefect_log_level,
        description="The least severity that is logged. Default: Prefect's.",
    )

    @field_validator("storage")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return folder.expanduser().absolute()

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level


def load_settings(**overrides: object) -> Settings:
    """Read all sources, and check them as a whole.

    Args:
        overrides: Groups and fields that win over every other source, as tables or as models.

    Raises:
        ConfigurationError: With a line for each mistake in any source: where it is, the path of
            the field, the value unless it may be secret, and the remedy.
    """
    shape = _shape()
    layers, mistakes = _read_sources(overrides, shape)
    settings = _validated(layers, mistakes, shape)
    if settings is None or mistakes:
        raise ConfigurationError(_report(mistakes))
    return settings


@cache
def get_settings() -> Settings:
    """Return this process's settings, read when they are first asked for.

    `get_settings.cache_clear()` has them read again.

    Raises:
        ConfigurationError: As `load_settings` does.
    """
    return load_settings()


@cache
def _shape() -> Shape:
    return Shape.of_schema(Settings.model_json_schema())


def _read_sources(overrides: dict[str, object], shape: Shape) -> tuple[list[Layer], list[Mistake]]:
    """Return what the sources say, the highest first, and what is wrong with a source itself."""
    environment = dict(os.environ)
    arguments, argument_mistakes = read_layer("argument", overrides, shape)
    variables, variable_mistakes = environment_layers(environment, shape)
    files, file_mistakes = file_layers(environment, Path.cwd(), shape)
    default = default_layer(environment, [arguments, *variables, *files])
    provider = str(default.values["provider"]["type"])
    originals = original_layers(environment, provider)
    layers = suited([arguments, *variables, *originals, *files, default], provider)
    return layers, [*argument_mistakes, *variable_mistakes, *file_mistakes]


def _validated(layers: Sequence[Layer], mistakes: list[Mistake], shape: Shape) -> Settings | None:
    """Validate the merged sources; add what is wrong to the mistakes.

    The validation error is let go of here, since it quotes values that may be secret.
    """
    try:
        return Settings.model_validate(merged(layers))
    except ValidationError as error:
        mistakes += explained(error, layers[:-1], shape)
        return None


def _report(mistakes: Sequence[Mistake]) -> str:
    lines = [f"- {mistake}" for mistake in mistakes]
    head = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return "\n".join([f"{head} in the settings:", *lines])
