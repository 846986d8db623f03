"""noa-flows: messages on a broker become Prefect flow runs."""

from importlib.metadata import version

__version__ = version("noa-flows")
