"""The warm worker: `prefect worker start --type warm`, whose flow runs start in milliseconds.

Prefect's process worker starts interpreters for each run, and imports all of Prefect in each. This
one keeps processes ready in which Prefect and the jobs are imported; a run gets a fresh one of
them, and with it everything that a process of its own brings. To Prefect it is an ordinary worker.
"""

from noa_flows.worker.manager import WorkerManager
from noa_flows.worker.warm_worker import WarmWorker

__all__ = ["WarmWorker", "WorkerManager"]
