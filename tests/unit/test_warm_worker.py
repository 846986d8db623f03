"""Parts of the warm worker that can be seen without a server."""

# pyright: reportPrivateUsage=false

import asyncio
from collections import Counter
from uuid import uuid4

import anyio
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import WorkerFlowRunResponse

from noa_flows.worker import WarmWorker
from noa_flows.worker.reads import Reads


async def test_a_run_at_hand_that_an_old_answer_names_again_is_left_alone() -> None:
    worker = WarmWorker(work_pool_name="nowhere", limit=2)
    worker._limiter = anyio.CapacityLimiter(2)
    run = FlowRun(flow_id=uuid4())
    worker._limiter.acquire_on_behalf_of_nowait(run.id)
    named = WorkerFlowRunResponse(work_pool_id=uuid4(), work_queue_id=uuid4(), flow_run=run)

    assert await worker._submit_scheduled_flow_runs([named]) == []
    assert worker._limiter.available_tokens == 1


async def test_what_is_read_at_once_is_read_once() -> None:
    calls = Counter[int]()

    async def read(number: int) -> int:
        calls[number] += 1
        await asyncio.sleep(0)
        return 2 * number

    reads = Reads(read, 1)

    assert await asyncio.gather(reads(1), reads(1), reads(2)) == [2, 2, 4]
    assert await reads(1) == 2
    assert calls == {1: 1, 2: 1}


async def test_what_could_not_be_read_is_read_again() -> None:
    answers = iter([ConnectionError("away"), 7])

    async def read() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    reads = Reads(read, 1)
    with pytest.raises(ConnectionError):
        await reads()

    assert await reads() == 7


async def test_who_gives_up_leaves_the_answer_to_the_others() -> None:
    ready = asyncio.Event()

    async def read() -> str:
        await ready.wait()
        return "answer"

    reads = Reads(read, 1)
    impatient, patient = asyncio.create_task(reads()), asyncio.create_task(reads())
    await asyncio.sleep(0)
    impatient.cancel()
    ready.set()

    assert await patient == "answer"
