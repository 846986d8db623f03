"""The groups of `noa_flows.settings.Settings`, except those that belong to a package of their own.

Names and units are those of the original's configuration: what it gave in milliseconds is given in
milliseconds here, and read as a `timedelta`.
"""

from collections import Counter
from datetime import timedelta
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

_DAY_MS = 86_400_000


class SettingsGroup(BaseModel):
    """The base of every group: frozen, without unknown names, and silent about values in errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        # Defaults that come from Prefect's settings are made absolute, too.
        validate_default=True,
    )


class WorkerSettings(SettingsGroup):
    """How many workers there are, and when there are more of them."""

    min_workers: int = Field(
        default=1, ge=1, le=1000, description="Workers that run however little there is to do."
    )
    max_workers: int = Field(
        default=4, ge=1, le=1000, description="Workers that run however much there is to do."
    )
    scaling_threshold: float = Field(
        default=0.75,
        ge=0,
        le=1,
        description="The share of busy workers, from 0 to 1, above which one more is started.",
    )
    drain_seconds: float = Field(
        default=30,
        ge=0,
        description="How long a worker that is told to stop waits for its runs to end.",
    )
    memory_limit_mib: int | None = Field(
        default=None,
        ge=64,
        description="Resident memory (MiB) above which a run's process is killed; none by default.",
    )
    label_runs: bool = Field(
        default=False,
        description="Whether each run gets the name, type and pool of its worker as labels, as by "
        "Prefect's workers: one more call for each run.",
    )
    pending_seconds: float = Field(
        default=600,
        ge=30,
        description="How long a run may be Pending until its worker passes for dead and the run "
        "goes back to its queue. More than the longest preparation (pull steps) of a run takes.",
    )
    max_interruptions: int = Field(
        default=3,
        ge=1,
        description="After so many deaths of its process a run isn't executed again.",
    )

    @model_validator(mode="after")
    def _least_is_not_above_most(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError(
                f"min_workers ({self.min_workers}) is above max_workers ({self.max_workers}); "
                "lower the one or raise the other"
            )
        return self


class AlertRule(SettingsGroup):
    """A condition over the metrics, and whom to tell when it comes true."""

    name: str = Field(
        min_length=1, max_length=100, description="The rule's name; no two rules share one."
    )
    condition: str = Field(
        min_length=1,
        max_length=500,
        description="An expression over the metrics, such as `errorRate > 5` (percent).",
        examples=["errorRate > 5"],
    )
    action: Literal["email", "webhook"] = Field(description="How the recipients are told.")
    recipients: tuple[str, ...] = Field(
        min_length=1, description="Mail addresses, or the URLs of webhooks, as the action asks."
    )

    @model_validator(mode="after")
    def _recipients_suit_the_action(self) -> Self:
        if self.action == "email" and not all("@" in each for each in self.recipients):
            raise ValueError("recipients: the action is email; give mail addresses")
        if self.action == "webhook" and not all(
            each.startswith(("http://", "https://")) for each in self.recipients
        ):
            raise ValueError("recipients: the action is webhook; give http or https URLs")
        return self


class MonitoringSettings(SettingsGroup):
    """What is measured, how often, and what raises an alert."""

    enabled: bool = Field(default=True, description="Whether metrics are collected at all.")
    metrics_interval: int = Field(
        default=60_000,
        ge=1000,
        le=_DAY_MS,
        description="Milliseconds from one measurement to the next.",
    )
    alert_rules: tuple[AlertRule, ...] = Field(
        default=(), description="Rules that are judged after each measurement."
    )

    @property
    def interval(self) -> timedelta:
        """The time from one measurement to the next."""
        return timedelta(milliseconds=self.metrics_interval)

    @model_validator(mode="after")
    def _rules_have_names_of_their_own(self) -> Self:
        counts = Counter(rule.name for rule in self.alert_rules)
        shared = [name for name, count in counts.items() if count > 1]
        if shared:
            raise ValueError(f"alert_rules: rename all but one of the rules named {shared[0]!r}")
        return self


class RetrySettings(SettingsGroup):
    """How often a failed job is tried again, and how long the pauses are."""

    max_attempts: int = Field(
        default=3, ge=1, le=100, description="Attempts in all, the first one included."
    )
    initial_backoff: int = Field(
        default=1000,
        ge=0,
        le=_DAY_MS,
        description="Milliseconds from the first failure to the second attempt.",
    )
    backoff_multiplier: float = Field(
        default=2.0, ge=1, le=100, description="How many times longer each pause is than the last."
    )
    max_backoff_time: int = Field(
        default=60_000, ge=0, le=_DAY_MS, description="Milliseconds that no pause exceeds."
    )

    @property
    def first_pause(self) -> timedelta:
        """The pause before the second attempt."""
        return timedelta(milliseconds=min(self.initial_backoff, self.max_backoff_time))

    @property
    def longest_pause(self) -> timedelta:
        """The pause that no later one exceeds."""
        return timedelta(milliseconds=self.max_backoff_time)


class BridgeSettings(SettingsGroup):
    """How messages become runs: how many at once, how large, and when there are too many."""

    batch_size: int = Field(
        default=100,
        ge=1,
        le=100,
        description="Messages that are taken at once; Prefect creates at most 100 runs in a call.",
    )
    max_waiting: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Runs of each priority band that may wait in Prefect before no more are taken.",
    )
    max_deliveries: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Deliveries of one message after which it becomes a dead letter.",
    )
    max_body_bytes: int = Field(
        default=5 * 1024 * 1024,
        ge=1024,
        le=256 * 1024 * 1024,
        description="A message with a larger body becomes a dead letter.",
    )
    max_nesting: int = Field(
        default=64,
        ge=1,
        le=500,
        description="A message that nests lists and objects deeper becomes a dead letter.",
    )
    inline_parameter_bytes: int = Field(
        default=400 * 1024,
        ge=1024,
        le=480 * 1024,
        description="A larger payload is kept in the storage folder, and its run is given a "
        "reference. Prefect refuses a run whose parameters exceed 512 KiB once they are wrapped.",
    )
    schedule_horizon_seconds: int = Field(
        default=3600,
        ge=0,
        le=7 * 86_400,
        description="Seconds. A delayed message that is due sooner becomes a scheduled run at "
        "once; one that is due later stays with the broker until then.",
    )

    @property
    def schedule_horizon(self) -> timedelta:
        """How far ahead runs are scheduled in Prefect."""
        return timedelta(seconds=self.schedule_horizon_seconds)


class SmtpSettings(SettingsGroup):
    """The server that mail is handed to."""

    host: str | None = Field(
        default=None,
        pattern=r"^[^\s/@?#]+$",
        description="Host name or address. Without one no mail can be sent.",
        examples=["smtp.example.com"],
    )
    port: int = Field(default=587, ge=1, le=65_535, description="Port of the submission service.")
    user: str | None = Field(default=None, description="Name to log in with; without one, don't.")
    password: SecretStr | None = Field(default=None, description="Password to log in with.")
