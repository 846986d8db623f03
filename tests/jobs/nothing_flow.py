"""A flow that does nothing, alone in its module: what is left is what any run costs."""

from prefect import flow


@flow(persist_result=True)
def nothing(number: int) -> int:
    return number
