"""What can go wrong above the brokers.

NoaError
├── ConfigurationError   settings, routes or blocks are wrong; raised at start-up
├── MessageError         a message that can't become a job
│   ├── EnvelopeError    not an event, or one that this version doesn't know
│   └── PayloadError     an event whose payload isn't the job's
├── PrefectApiError      Prefect's API failed or refused
│   └── PrefectApiUnavailableError   it can't be reached now; the same call may succeed later
├── StalledError         a consumer makes no progress; beginning anew may help
├── StorageError         a large payload can't be stored now; the same call may succeed later
├── NotFoundError        no such job, dead letter, queue, deployment
└── JobError             the work of a job failed
    ├── TemporaryJobError    the same work may succeed later
    └── PermanentJobError    it never will; don't try again

What goes wrong with a broker itself is `blocks.errors.BrokerError`.
"""


class NoaError(Exception):
    """The base of every error that noa-flows raises above its brokers."""


class ConfigurationError(NoaError):
    """Settings, routes or blocks are wrong."""


class MessageError(NoaError):
    """A message that can't become a job.

    Attributes:
        reason: The dead letter's reason: `schema`, `unknown-type`, `forbidden`, `expired`.
        path: Where in the message, such as `data.to[0]`; empty for the message as a whole.
    """

    def __init__(self, text: str, *, reason: str, path: str = "") -> None:
        super().__init__(f"{path}: {text}" if path else text)
        self.text = text
        self.reason = reason
        self.path = path


class EnvelopeError(MessageError):
    """The message isn't an event, or one that this version doesn't know."""


class PayloadError(MessageError):
    """The event's payload isn't what the job takes."""

    def __init__(self, text: str, *, path: str = "") -> None:
        super().__init__(text, reason="schema", path=path)

    def below(self, parent: str) -> "PayloadError":
        """The same error, with its path seen from the whole message: `to[0]` → `data.to[0]`."""
        return PayloadError(self.text, path=f"{parent}.{self.path}" if self.path else parent)


class PrefectApiError(NoaError):
    """Prefect's API failed or refused.

    Attributes:
        status: The HTTP status, or None where there was no answer.
    """

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class PrefectApiUnavailableError(PrefectApiError):
    """Prefect's API can't be reached now; the same call may succeed later."""


class StalledError(NoaError):
    """A consumer makes no progress although messages wait, or a call to its broker hangs."""


class StorageError(NoaError):
    """A payload that is too large for Prefect can't be stored now."""


class NotFoundError(NoaError):
    """There is no such job, dead letter, queue or deployment."""


class JobError(NoaError):
    """The work of a job failed."""


class TemporaryJobError(JobError):
    """The work failed, and may succeed when it is done again later."""


class PermanentJobError(JobError):
    """The work failed, and would fail again."""
