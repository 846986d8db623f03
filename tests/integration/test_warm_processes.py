"""The processes of a warm worker, without a worker."""

# pyright: reportPrivateUsage=false

import asyncio

import pytest

from noa_flows.worker.processes import Scale, WarmProcesses
from tests.waiting import eventually


async def test_as_many_are_ready_as_the_scale_says() -> None:
    async with WarmProcesses(Scale(minimum=3)) as processes:
        processes.open()
        await eventually(
            lambda: len(processes.stats()) == 3, description="three processes", timeout=30
        )
        processes.resize(Scale(minimum=1, maximum=1))
        await eventually(lambda: len(processes.stats()) == 1, description="one process")


@pytest.mark.timeout(60)
async def test_they_end_with_their_program_whatever_it_was_at() -> None:
    """An interrupted program cancels what makes new ones, too."""
    async with WarmProcesses() as processes:
        processes.open()
        assert processes._refilling is not None
        await asyncio.sleep(0)
        processes._refilling.cancel()

    assert processes.stats() == []
