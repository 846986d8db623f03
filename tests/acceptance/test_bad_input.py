"""Bad input goes to the dead letters with its reason and path, and good neighbours go on."""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from blocks.broker import Broker
from blocks.embedded_broker import EmbeddedBroker
from blocks.message import DeadLetter, Message
from blocks.redis_broker import RedisBroker
from noa_flows.bridge.dead_letters import DeadLetters, Selection
from noa_flows.bridge.route import Route
from noa_flows.jobs.noop_job import noop
from noa_flows.jobs.report_job import report
from noa_flows.jobs.webhook_job import webhook
from noa_flows.labels import GENERATION
from noa_flows.prefect_api import PrefectApi, connect_to_prefect
from noa_flows.settings import Settings
from tests.acceptance.bad_messages import BAD, Bad, event
from tests.deployed import deploy
from tests.handing_over import hand_over, publish, runs_of
from tests.integration.bridging import Bench
from tests.servers.prefect_server import PrefectServer

pytestmark = pytest.mark.servers

_LONGEST_ERROR = 2_000


@pytest.fixture(params=["embedded", "redis"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Broker:
    if request.param == "embedded":
        return EmbeddedBroker(path=tmp_path / "queue.db")
    return RedisBroker.from_url(request.getfixturevalue("redis_url"))


@pytest.fixture
def bench(broker: Broker, tmp_path: Path) -> Bench:
    queue = f"bad-input-{uuid4().hex[:8]}"
    route = Route(
        name=queue,
        provider=broker.get_block_type_slug(),
        address=broker.address,
        queue=queue,
        jobs=frozenset({"noop", "webhook"}),
    )
    return Bench(broker=broker, route=route, settings=Settings(storage=tmp_path / "storage"))


@pytest.fixture
async def api(prefect_api: PrefectServer) -> AsyncGenerator[PrefectApi]:
    async with connect_to_prefect() as api:
        await deploy(noop, webhook, report)
        yield api


def interleaved(bad: Iterator[Bad]) -> Iterator[Message]:
    """Each bad message with a good one behind it."""
    for number, one in enumerate(bad):
        yield one.message
        yield Message(body=event(id=f"good-{number}", data={"echo": number}))


async def test_bad_messages_die_of_their_reason_and_good_neighbours_go_on(
    api: PrefectApi, bench: Bench
) -> None:
    async with bench.broker.connect() as session:
        messages = list(interleaved(iter(BAD.values())))
        ids = await publish(session, bench.route.queue, messages)
        after = await hand_over(bench, api, session)
    assert after.runs.keys() == {f"noop-good-{number}" for number in range(len(BAD))}
    assert after.dead.keys() == set(ids[::2])
    assert (after.tally.retried, after.tally.released) == (0, 0)
    for (name, bad), message_id in zip(BAD.items(), ids[::2], strict=True):
        check_dead_letter(name, bad, after.dead[message_id])


def check_dead_letter(name: str, bad: Bad, letter: DeadLetter) -> None:
    """The letter explains the message, and holds it as it was sent."""
    assert letter.reason == bad.reason, (name, letter.error)
    assert letter.error.startswith(bad.path), (name, letter.error)
    assert bad.says in letter.error, (name, letter.error)
    assert len(letter.error) <= _LONGEST_ERROR, name
    assert letter.error.isprintable(), (name, letter.error)
    assert (letter.body, letter.headers) == (bad.body, bad.headers), name
    assert letter.error_type in {"EnvelopeError", "PayloadError", "MessageError"}
    assert letter.deliveries == 1


async def test_a_redriven_message_has_exactly_one_run_once_its_job_is_allowed(
    api: PrefectApi, bench: Bench
) -> None:
    queue = bench.route.queue
    forbidden = BAD["a type this queue may not start"]
    body = event(type="noa.job.report", id="r", data=REPORT)
    others = [BAD["not JSON"].message, BAD["unknown type"].message]
    generous = replace(bench, route=replace(bench.route, jobs=bench.route.jobs | {"report"}))
    async with bench.broker.connect() as session:
        await publish(session, queue, [Message(body=body), *others])
        assert (await hand_over(bench, api, session)).runs == {}
        letters = DeadLetters(session, queue)
        dead = [letter async for letter in letters.list(Selection(reason=forbidden.reason))]
        assert [letter.body for letter in await letters.redrive(dead)] == [body]
        assert await letters.redrive(dead) == []
        after = await hand_over(generous, api, session)
    assert list(after.runs) == ["report-r"]
    assert after.runs["report-r"]["labels"][GENERATION] == 1
    assert after.runs["report-r"]["parameters"] == REPORT
    assert {letter.reason for letter in after.dead.values()} == {"schema", "unknown-type"}
    assert after.depth.dead == 2


async def test_a_message_redriven_before_its_cause_is_mended_dies_again(
    api: PrefectApi, bench: Bench
) -> None:
    queue = bench.route.queue
    async with bench.broker.connect() as session:
        await publish(session, queue, [BAD["an unknown field"].message])
        (first,) = (await hand_over(bench, api, session)).dead.values()
        await DeadLetters(session, queue).redrive([first])
        (second,) = (await hand_over(bench, api, session)).dead.values()
    assert (second.id, second.reason, second.error) == (first.id, first.reason, first.error)
    assert (second.generation, second.deliveries) == (1, 1)
    assert await runs_of(api, queue) == {}


REPORT = {"type": "csv", "template": "monthly-report", "data": [{"region": "north", "sales": 3}]}
