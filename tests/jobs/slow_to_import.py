"""A flow whose module takes as long to import as one with heavy libraries."""

import time

from prefect import flow

time.sleep(8)


@flow
def slow_to_import() -> None:
    pass
