"""A route: which queue may start which jobs, through which deployments, within which limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """What one consumer does with the messages of one queue.

    Two subscribers of one queue are two routes, each with runs of its own.
    """

    #: Part of every run's key: a renamed route takes redelivered messages for new ones.
    name: str
    provider: str
    #: Where the broker is, without credentials.
    address: str
    queue: str
    #: What the broker is loaded by, a block or a URL; empty for the configured one.
    broker: str = ""
    #: The job types that this queue may start; all others are refused as `forbidden`.
    jobs: frozenset[str]
    #: Job type → `flow/deployment`, where it isn't `<job>/<job>`.
    deployments: Mapping[str, str] = field(default_factory=dict[str, str])
    #: The topics that the queue subscribes to; each subscriber has a queue of its own.
    topics: Sequence[str] = ()
    #: Which events it wants, as `EventFilter` reads it; the others are settled and forgotten.
    filters: Sequence[Mapping[str, Any]] = ()

    @property
    def source(self) -> str:
        """The source of a message whose event names none."""
        return f"{self.provider}:{self.queue}"

    def deployment_of(self, job: str) -> str:
        """The deployment that runs a job, as `flow/deployment`."""
        return self.deployments.get(job, f"{job}/{job}")

    def all_deployments(self) -> Sequence[str]:
        """The deployments that this route may start runs of, sorted."""
        return sorted({self.deployment_of(job) for job in self.jobs})
