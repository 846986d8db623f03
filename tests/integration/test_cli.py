"""The command line: every command, on the embedded broker and a real Prefect server."""

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO, cast
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow

from blocks.embedded_broker import EmbeddedBroker
from blocks.message import Delivery, utc_now
from noa_flows.cli import main
from noa_flows.envelope import Origin, decode
from noa_flows.event import Event
from noa_flows.jobs import find_job
from noa_flows.jobs.noop_job import noop
from noa_flows.prefect_api import connect_to_prefect
from noa_flows.settings import get_settings
from noa_flows.strict_json import JsonLimits
from tests.deployed import deploy
from tests.handing_over import Aftermath, hand_over
from tests.integration.bridging import Bench, publish
from tests.servers.ports import free_port
from tests.servers.prefect_server import PrefectServer

pytestmark = pytest.mark.servers

NOA = str(Path(sys.executable).with_name("noa"))


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line that a failure prints."""
        assert self.code == 1, self
        assert self.out == "", self
        (line,) = self.err.splitlines()
        return line


Noa = Callable[..., Done]


@pytest.fixture(autouse=True)
def settings_of_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[pytest.MonkeyPatch]:
    """No other settings than the test's own, read when a command first needs them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOA_PROVIDER__TYPE", "embedded")
    monkeypatch.setenv("NOA_PROVIDER__CONFIG__PATH", str(tmp_path / "queue.db"))
    get_settings.cache_clear()
    find_job.cache_clear()
    yield monkeypatch
    get_settings.cache_clear()
    find_job.cache_clear()


@pytest.fixture
def noa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Noa:
    """Run a command in this process, where only the start of an interpreter is left out."""

    def run(*words: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["noa", *words])
        monkeypatch.setattr(sys, "stdin", cast("TextIO", io.TextIOWrapper(io.BytesIO(stdin))))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def queue() -> str:
    return f"cli-{uuid4().hex[:8]}"


@pytest.fixture
def bench(tmp_path: Path, queue: str) -> Bench:
    return Bench.embedded(tmp_path, queue=queue, jobs=frozenset({"noop"}))


def shell(*words: str) -> Done:
    """Run the installed command as a person does."""
    done = subprocess.run([NOA, *words], capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def published(folder: Path, queue: str) -> Sequence[Event]:
    """Take what is on the queue, and decode it."""

    async def take() -> Sequence[Delivery]:
        async with EmbeddedBroker(path=folder / "queue.db").connect() as session:
            await session.declare(queue)
            return await session.receive(queue, max_messages=10, wait=timedelta(0))

    limits = JsonLimits(max_body_bytes=1_000_000, max_nesting=64)
    return [
        decode(one.body, one.headers, origin=Origin(id=one.id, source="?"), limits=limits)
        for one in asyncio.run(take())
    ]


def consume(bench: Bench, *bodies: Any) -> Aftermath:
    """Publish these too, and let a bridge hand over whatever is on the queue."""

    async def work() -> Aftermath:
        async with connect_to_prefect() as api, bench.broker.connect() as session:
            await deploy(noop)
            await publish(session, bench.route.queue, *bodies)
            return await hand_over(bench, api, session)

    return asyncio.run(work())


def execute(run_id: str) -> None:
    async def work() -> None:
        async with get_client() as client:
            flow_run = await client.read_flow_run(UUID(run_id))
        await cast("Any", run_flow(noop, flow_run=flow_run, return_type="state"))

    asyncio.run(work())


def test_the_installed_command_publishes_and_prints_the_id(tmp_path: Path, queue: str) -> None:
    done = shell("publish", "noop", "--data", '{"echo": "ä"}', "--queue", queue)
    assert (done.code, done.err) == (0, "")
    (event,) = published(tmp_path, queue)
    assert event.id == done.out.strip()
    assert (event.job_type, event.data, event.source) == ("noop", {"echo": "ä"}, "noa-cli")


def test_the_installed_command_refuses_in_one_line_without_a_traceback(tmp_path: Path) -> None:
    done = shell("publish", "noop", "--data", '{"ecko": 1}')
    assert done.complaint == "error: data.ecko: unknown field; did you mean 'echo'?"
    assert not (tmp_path / "queue.db").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nop"], "there is no job type 'nop'; did you mean 'noop'?"),
        (["webhook", "--data", '{"method": "POST"}'], "data.url: missing"),
        (["webhook", "--data", '{"url": "https://a.example/", "method": 5}'], "data.method: "),
        (["noop", "--data", "{"], "--data: not JSON: "),
        (["noop", "--data", "[]"], "--data: must be a JSON object"),
        (["noop", "--data", '{"echo": NaN}'], "--data: not JSON: NaN"),
        (["noop", "--data", '{"echo": [1e999]}'], "--data: echo[0]: the number is too large"),
        (["noop", "--data", r'{"echo": "\ud800"}'], "--data: echo: holds half of a surrogate"),
        (["noop", "--data", r'{"echo": "\u0000"}'], "--data: echo: holds a NUL character"),
        (["noop", "--data", f'{{"echo": {"[" * 999}'], "--data: nested deeper than 64"),
        (["noop", "--data", '{"echo": "\udcff"}'], "--data: 'utf-8' codec"),
        (["noop", "--data", "@missing.json"], "--data: [Errno 2]"),
        (["noop", "--id", "a\nb"], "id: holds control characters"),
        (["noop", "--id", "x" * 2000], "id: has 2000 characters"),
        (["noop", "--subject", "\udcff"], "the options hold bytes that are not UTF-8"),
        (["noop", "--source", ""], "source: must be a text that isn't empty"),
        (["noop", "--broker", "kafka-broker/x"], "there is no broker block 'kafka-broker'"),
        (["noop", "--broker", "embedded-broker"], "'embedded-broker' names no block"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_no_consumer_would_take_is_not_published(
    noa: Noa, tmp_path: Path, words: list[str], says: str
) -> None:
    complaint = noa("publish", *words).complaint
    assert complaint.startswith(f"error: {says}")
    assert len(complaint) < 400
    assert not (tmp_path / "queue.db").exists()


def test_a_payload_may_come_from_a_file_or_from_standard_input(
    noa: Noa, tmp_path: Path, queue: str
) -> None:
    Path("payload.json").write_text('{"echo": "file ä"}', encoding="utf-8")
    assert noa("publish", "noop", "--data", "@payload.json", "--queue", queue).code == 0
    piped = '{"echo": "pipe ä"}'.encode()
    assert noa("publish", "noop", "--data", "@-", "--queue", queue, stdin=piped).code == 0
    assert noa("publish", "noop", "--data", "@-", stdin=b"\xff").complaint.startswith(
        "error: --data: not UTF-8"
    )
    assert [event.data for event in published(tmp_path, queue)] == [
        {"echo": "file ä"},
        {"echo": "pipe ä"},
    ]


def test_the_options_of_a_job_stand_in_its_message(noa: Noa, tmp_path: Path, queue: str) -> None:
    words = ["--id", "order-17", "--source", "/shop", "--subject", "order 17", "--priority", "0"]
    done = noa("publish", "noop", *words, "--delay-seconds", "60", "--queue", queue)
    assert done.out == "order-17\n"
    (event,) = published(tmp_path, queue)
    assert (event.id, event.source, event.subject) == ("order-17", "/shop", "order 17")
    assert event.priority == 0
    assert event.not_before is not None
    assert abs(event.not_before - utc_now() - timedelta(seconds=60)) < timedelta(seconds=10)


@pytest.mark.parametrize(
    "words",
    [
        ["noop", "--priority", "10"],
        ["noop", "--delay-seconds", "-1"],
        ["noop", "--unknown"],
        [],
    ],
    ids=str,
)
def test_wrong_options_end_with_usage_and_code_2(noa: Noa, words: list[str]) -> None:
    done = noa("publish", *words)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err


@pytest.mark.usefixtures("prefect_api")
def test_status_of_a_job_that_nobody_knows_is_an_error(noa: Noa, queue: str) -> None:
    complaint = noa("status", "nobody", "--queue", queue).complaint
    assert "job 'nobody' has no run and no dead letter" in complaint
    assert f"'{queue}'" in complaint


@pytest.mark.usefixtures("prefect_api")
def test_status_shows_the_run_and_its_result(noa: Noa, bench: Bench, queue: str) -> None:
    job_id = noa("publish", "noop", "--data", '{"echo": [1]}', "--queue", queue).out.strip()
    (run,) = consume(bench).runs.values()
    waiting = noa("status", job_id, "--queue", queue)
    assert waiting.code == 0
    assert f"run      noop-{job_id}\nstate    Scheduled\n" in waiting.out
    # `--wait` ends as soon as the run has, long before its time is up.
    with subprocess.Popen(
        [NOA, "status", job_id, "--queue", queue, "--wait", "60", "--json"], stdout=subprocess.PIPE
    ) as process:
        execute(run["id"])
        out, _ = process.communicate()
    (shown,) = json.loads(out)
    assert process.returncode == 0
    assert shown["state"] == "Completed"
    assert shown["result"] == {"delivery_id": run["labels"]["noa.delivery-id"], "echo": [1]}
    assert shown["id"] == run["id"]
    assert run["id"] in shown["link"]
    assert datetime.fromisoformat(shown["started"]) <= datetime.fromisoformat(shown["ended"])


@pytest.mark.usefixtures("prefect_api")
def test_a_dead_job_is_shown_by_status_and_by_every_command_for_dead_letters(
    noa: Noa, bench: Bench, queue: str
) -> None:
    consume(
        bench,
        {"type": "noop", "id": "wrong-1", "data": {"ecko": 1}},
        {"type": "nop", "id": "unknown-1", "data": {}},
        b"\xff\x1b[2J",
    )
    of = ("--queue", queue)

    status = noa("status", "wrong-1", *of)
    assert "job      wrong-1\nstate    dead\nreason   schema\n" in status.out

    listed = noa("dead", "list", *of).out.splitlines()
    ids = [line.split()[0] for line in listed]
    assert ids[:2] == ["wrong-1", "unknown-1"]
    assert "data.ecko: unknown field; did you mean 'echo'?" in listed[0]
    some = json.loads(noa("dead", "list", "--reason", "unknown-type", "--json", *of).out)
    assert [(one["id"], one["reason"]) for one in some] == [("unknown-1", "unknown-type")]
    assert len(noa("dead", "list", "--limit", "2", *of).out.splitlines()) == 2

    shown = noa("dead", "show", ids[2], *of)
    assert json.loads(shown.out)["body"] == "\\xff\x1b[2J"
    assert "\x1b" not in shown.out
    assert "no dead letter 'nobody'" in noa("dead", "show", "nobody", *of).complaint


@pytest.mark.usefixtures("prefect_api")
def test_dead_letters_are_redriven_and_discarded_as_chosen(
    noa: Noa, bench: Bench, queue: str
) -> None:
    wrong = [{"type": "noop", "id": f"w{number}", "data": {"ecko": 1}} for number in range(4)]
    unknown: list[Any] = [{"type": "nop", "id": f"u{number}", "data": {}} for number in range(2)]
    consume(bench, *wrong, *unknown)
    of = ("--queue", queue)

    for command in ("redrive", "discard"):
        for nothing in ([], ["w1", "--all"], ["--reason", "schema"]):
            refused = noa("dead", command, *nothing, *of)
            assert (refused.code, refused.out) == (2, "")
            assert "give ids, or --all" in refused.err
        assert "no dead letter 'w9'" in noa("dead", command, "w1", "w9", *of).complaint
    assert ids_of_dead(noa, queue) == ["w0", "w1", "w2", "w3", "u0", "u1"]

    assert noa("dead", "discard", "w1", "w2", *of).out == "2 discarded\n"
    assert noa("dead", "discard", "--all", "--reason", "schema", "--limit", "1", *of).code == 0
    assert ids_of_dead(noa, queue) == ["w3", "u0", "u1"]
    assert noa("dead", "redrive", "--all", "--reason", "unknown-type", *of).out == "2 redriven\n"
    assert noa("dead", "redrive", "w3", *of).out == "1 redriven\n"
    assert noa("dead", "redrive", "--all", *of).out == "0 redriven\n"
    assert {one.generation for one in consume(bench).dead.values()} == {1}
    assert ids_of_dead(noa, queue) == ["w3", "u0", "u1"]


def test_binary_mode_is_refused_where_cloudevents_has_no_binding(noa: Noa) -> None:
    complaint = noa("publish", "noop", "--binary").complaint
    assert "CloudEvents has no binding for embedded-broker" in complaint


def test_what_dies_again_and_again_is_redriven_only_by_name(
    noa: Noa, bench: Bench, queue: str
) -> None:
    consume(bench, {"type": "noop", "id": "loop", "data": {"ecko": 1}})
    of = ("--queue", queue)
    for _ in range(2):
        assert noa("dead", "redrive", "--all", "--max-redrives", "2", *of).out == "1 redriven\n"
        consume(bench)
    guarded = noa("dead", "redrive", "--all", "--max-redrives", "2", *of)
    assert guarded.out == "0 redriven\n"
    assert "1 left that were redriven 2 times or more" in guarded.err
    assert noa("dead", "redrive", "loop", *of).out == "1 redriven\n"


def ids_of_dead(noa: Noa, queue: str) -> list[str]:
    found = json.loads(noa("dead", "list", "--json", "--queue", queue).out)
    return sorted((one["id"] for one in found), key=lambda name: (name[0] == "u", name))


@pytest.mark.usefixtures("prefect_api")
def test_check_passes_where_everything_is_there(noa: Noa, bench: Bench, queue: str) -> None:
    consume(bench, b"\xff")
    done = noa("check", "--job", "noop", "--queue", queue)
    assert (done.code, done.err) == (0, "")
    assert "FAILED" not in done.out
    assert [line.split()[0] for line in done.out.splitlines()] == ["ok"] * 5
    assert f"queue {queue}: 0 ready, 0 in flight, 0 delayed, 1 dead" in done.out
    assert "deployment noop/noop: work pool noa" in done.out


@pytest.mark.usefixtures("prefect_api")
def test_check_names_each_part_that_is_missing(
    noa: Noa, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    monkeypatch.setenv("NOA_JOBS", '{"lost": "noa_flows.jobs.noop_job:noop", "odd": "os:sep"}')
    broker = f"redis://127.0.0.1:{free_port()}"
    done = noa("check", "--job", "lost", "--job", "odd", "--broker", broker, "--queue", queue)
    assert done.code == 1
    assert failures(done) == {"job odd", "broker", "deployment lost/lost", "deployment odd/odd"}
    assert "'os:sep' isn't made by the decorator @job" in done.out
    assert "there is no deployment 'lost/lost' in Prefect" in done.out


def test_check_says_that_prefect_is_away_and_goes_on(noa: Noa, prefect_api: PrefectServer) -> None:
    with prefect_api.current(api_url=f"http://127.0.0.1:{free_port()}/api"):
        done = noa("check", "--job", "noop", "--broker", "embedded-broker/noa")
        assert "no answer from Prefect's API" in noa("status", "any").complaint
    assert done.code == 1
    assert failures(done) == {"prefect", "broker", "deployment noop/noop"}
    assert done.out.count("no answer from Prefect's API") == 3


def test_check_names_every_mistake_of_a_settings_file(
    noa: Noa, prefect_api: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("noa.toml").write_text(
        "[bridge]\nbatch_size = 0\nmax_waitng = 5\n[retry]\nmaxAttempts = 'many'\n",
        encoding="utf-8",
    )
    done = noa("check")
    assert done.code == 1
    assert failures(done) == {"configuration"}
    assert "3 mistakes in the settings" in done.out
    for path in ("bridge.batch_size", "bridge.max_waitng", "retry.maxAttempts"):
        assert path in done.out
    assert f"ok      prefect: {prefect_api.api_url}" in done.out


def failures(done: Done) -> set[str]:
    lines = [line for line in done.out.splitlines() if line.startswith("FAILED")]
    return {line.removeprefix("FAILED").strip().partition(":")[0] for line in lines}


def test_help_names_every_command(noa: Noa) -> None:
    done = noa("--help")
    assert done.code == 0
    assert all(name in done.out for name in ("publish", "status", "check", "dead"))
