"""The one tree of settings: from a file, the environment and Prefect's settings."""

from noa_flows.settings.groups import (
    AlertRule,
    BridgeSettings,
    MonitoringSettings,
    RetrySettings,
    SmtpSettings,
    WorkerSettings,
)
from noa_flows.settings.provider import (
    EmbeddedProvider,
    KafkaProvider,
    ProviderSettings,
    RabbitMQProvider,
    RedisProvider,
    SqsProvider,
)
from noa_flows.settings.tree import LogLevel, Settings, get_settings, load_settings

__all__ = [
    "AlertRule",
    "BridgeSettings",
    "EmbeddedProvider",
    "KafkaProvider",
    "LogLevel",
    "MonitoringSettings",
    "ProviderSettings",
    "RabbitMQProvider",
    "RedisProvider",
    "RetrySettings",
    "Settings",
    "SmtpSettings",
    "SqsProvider",
    "WorkerSettings",
    "get_settings",
    "load_settings",
]
