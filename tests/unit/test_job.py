"""One definition of a job: a flow with a form, a payload that is checked, work that is tested."""

import logging
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from uuid import UUID

import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.exceptions import MissingContextError
from prefect.flow_engine import run_flow
from pydantic import Field, JsonValue

from noa_flows.errors import ConfigurationError, NotFoundError, PayloadError, TemporaryJobError
from noa_flows.job import JobFlow, job
from noa_flows.job_run import JobRun
from noa_flows.jobs import find_job, job_locations
from noa_flows.jobs.noop_job import noop
from noa_flows.labels import DELIVERY_ID
from noa_flows.payload import Payload, Result
from noa_flows.settings import BridgeSettings, Settings, get_settings


class Line(Payload):
    """A line of an order."""

    sku: str
    count: int = Field(default=1, ge=1)


class OrderPayload(Payload):
    """Everything that a form may have to show."""

    customer: str = Field(
        min_length=2, max_length=50, pattern="^[a-z]+$", description="Who: a name, in lower case."
    )
    discount: float = Field(default=5.0, ge=0, lt=100, description="Percent.")
    size: Literal["small", "large"] = Field(default="small", description="How big.")
    lines: list[Line] = Field(
        default_factory=list[Line], max_length=3, description="What is ordered."
    )
    note: Annotated[str | None, Field(max_length=9)] = None


class OrderReceipt(Result):
    delivery_id: str
    run_id: str | None
    attempt: int
    customer: str
    pieces: int


@job("order", retries=1, retry_delay_seconds=0)
async def order(payload: OrderPayload, run: JobRun) -> OrderReceipt:
    """Ship an order.

    Twice at the most.
    """
    if payload.customer == "unlucky" and run.attempt == 1:
        raise TemporaryJobError("the first attempt fails")
    await run.progress(50, "half of it")
    return OrderReceipt(
        delivery_id=run.delivery_id,
        run_id=run.run_id,
        attempt=run.attempt,
        customer=payload.customer,
        pieces=sum(line.count for line in payload.lines),
    )


@pytest.fixture
def form() -> dict[str, Any]:
    """What Prefect's UI makes the form of."""
    return order.parameters.model_dump()


class TestFlow:
    def test_it_is_named_after_the_job_and_described_by_the_docstring(self) -> None:
        assert isinstance(order, Flow)
        assert (order.name, order.description) == ("order", "Ship an order.\n\nTwice at the most.")

    def test_its_retries_are_the_jobs_and_its_result_is_kept_as_json(self) -> None:
        assert (order.retries, order.retry_delay_seconds) == (1, 0)
        assert (order.persist_result, order.result_serializer) == (True, "json")

    def test_prefect_itself_does_not_validate_since_that_would_load_blocks(self) -> None:
        assert order.should_validate_parameters is False

    def test_the_entry_point_of_a_deployment_leads_back_to_it(self) -> None:
        assert (order.fn.__module__, order.fn.__name__) == (__name__, "order")

    def test_the_job_knows_its_models_and_the_plain_function(self) -> None:
        assert (order.job.name, order.job.payload_model) == ("order", OrderPayload)
        assert order.job.result_model is OrderReceipt


class TestForm:
    def test_every_field_of_the_payload_has_its_own_in_order(self, form: dict[str, Any]) -> None:
        fields = form["properties"]
        assert list(fields) == ["customer", "discount", "size", "lines", "note"]
        assert [field["position"] for field in fields.values()] == [0, 1, 2, 3, 4]
        assert [field["title"] for field in fields.values()] == list(fields)

    def test_descriptions_stand_beside_the_fields_that_have_one(self, form: dict[str, Any]) -> None:
        described = {name: one.get("description") for name, one in form["properties"].items()}
        assert described == {
            "customer": "Who: a name, in lower case.",
            "discount": "Percent.",
            "size": "How big.",
            "lines": "What is ordered.",
            "note": None,
        }

    def test_only_fields_without_a_default_are_required(self, form: dict[str, Any]) -> None:
        assert form["required"] == ["customer"]
        assert form["properties"]["discount"]["default"] == 5.0
        assert form["properties"]["lines"]["default"] == []
        assert form["properties"]["note"]["default"] is None

    def test_bounds_and_choices_are_shown(self, form: dict[str, Any]) -> None:
        customer, discount = form["properties"]["customer"], form["properties"]["discount"]
        assert (customer["minLength"], customer["maxLength"]) == (2, 50)
        assert customer["pattern"] == "^[a-z]+$"
        assert (discount["minimum"], discount["exclusiveMaximum"]) == (0, 100)
        assert form["properties"]["size"]["enum"] == ["small", "large"]
        assert form["properties"]["lines"]["maxItems"] == 3
        assert form["definitions"]["Line"]["properties"]["count"]["minimum"] == 1


class TestPayload:
    def test_a_valid_one_is_parsed(self) -> None:
        parsed = order.job.parse({"customer": "acme", "lines": [{"sku": "a"}]})
        assert parsed == OrderPayload(customer="acme", lines=[Line(sku="a")])

    @pytest.mark.parametrize(
        ("data", "path", "says"),
        [
            ({}, "customer", "missing; this field is required"),
            ({"customer": "acme", "discont": 1}, "discont", "did you mean 'discount'?"),
            ({"customer": "acme", "zzz": 1}, "zzz", "unknown field"),
            ({"customer": "a"}, "customer", "at least 2 characters"),
            ({"customer": "acme", "discount": 100}, "discount", "less than 100"),
            ({"customer": "acme", "size": "huge"}, "size", "'small' or 'large'"),
            ({"customer": "acme", "lines": [{"sku": "a"}, {}]}, "lines[1].sku", "missing"),
            ({"customer": "acme", "lines": [{"sku": "a", "n": 1}]}, "lines[0].n", "unknown field"),
            ({"customer": "a", "discount": -1, "size": "x"}, "customer", "(and 2 more)"),
            ({"customer": {"$ref": "x"}}, "customer", "valid string"),
            ([], "", "valid dictionary"),
        ],
        ids=str,
    )
    def test_a_wrong_one_is_refused_with_path_and_remedy(
        self, data: object, path: str, says: str
    ) -> None:
        with pytest.raises(PayloadError) as caught:
            order.job.parse(data)
        assert (caught.value.path, caught.value.reason) == (path, "schema")
        assert says in caught.value.text

    def test_what_was_sent_is_not_repeated_since_it_may_be_secret(self) -> None:
        with pytest.raises(PayloadError) as caught:
            order.job.parse({"customer": "HUNTER2", "discount": "hunter2"})
        assert "hunter2" not in str(caught.value).lower()


class TestDefinition:
    def test_a_function_whose_annotations_say_no_job_is_refused(self) -> None:
        async def no_payload(payload: dict[str, Any], run: JobRun) -> OrderReceipt:
            raise NotImplementedError

        async def no_run(payload: OrderPayload, run: str) -> OrderReceipt:
            raise NotImplementedError

        async def no_result(payload: OrderPayload, run: JobRun) -> dict[str, Any]:
            raise NotImplementedError

        async def one_more(payload: OrderPayload, run: JobRun, more: int) -> OrderReceipt:
            raise NotImplementedError

        async def one_less(payload: OrderPayload) -> OrderReceipt:
            raise NotImplementedError

        for work in (no_payload, no_run, no_result, one_more, one_less):
            with pytest.raises(ConfigurationError, match=rf"{work.__name__}.*can't be a job"):
                job("wrong")(cast("Any", work))

    def test_it_is_told_what_to_write_instead(self) -> None:
        async def anything(payload: Any, run: Any) -> Any:
            raise NotImplementedError

        with pytest.raises(ConfigurationError, match="write `async def work"):
            job("wrong")(cast("Any", anything))


class TestRunForTest:
    async def test_the_work_is_done_without_prefect(self) -> None:
        run = JobRun.for_test(delivery_id="d-1")
        receipt = await order.job.perform(OrderPayload(customer="acme", lines=[Line(sku="a")]), run)
        assert receipt == OrderReceipt(
            delivery_id="d-1", run_id=None, attempt=1, customer="acme", pieces=1
        )

    async def test_it_remembers_what_it_was_told(self) -> None:
        run = JobRun.for_test()
        await run.progress(10, "begun")
        await run.table("rows", ({"a": 1},), "some")
        await run.markdown("text", "# A", "a text")
        await run.link("file", "https://a.example/", "here", "a file")
        assert run.told == [
            ("progress", 10, "begun"),
            ("table", "rows", [{"a": 1}], "some"),
            ("markdown", "text", "# A", "a text"),
            ("link", "file", "https://a.example/", "here", "a file"),
        ]
        assert JobRun.for_test().told == []

    def test_it_has_the_settings_it_is_given(self) -> None:
        settings = Settings(bridge=BridgeSettings(batch_size=7))
        assert JobRun.for_test(settings=settings).settings is settings
        assert isinstance(JobRun.for_test().logger, logging.Logger)

    async def test_outside_of_a_flow_there_is_no_current_run(self) -> None:
        with pytest.raises(MissingContextError, match="inside its Prefect flow only"):
            await JobRun.current({})


Call = Callable[..., Awaitable[OrderReceipt]]


@pytest.mark.servers
@pytest.mark.usefixtures("prefect_api")
class TestRun:
    async def test_the_flow_takes_the_payloads_fields_one_by_one(self) -> None:
        receipt = await cast("Call", order)(customer="acme", lines=[{"sku": "a", "count": 2}])
        assert (receipt.customer, receipt.pieces, receipt.attempt) == ("acme", 2, 1)
        assert UUID(receipt.delivery_id) == UUID(receipt.run_id)

    async def test_a_wrong_field_fails_the_run_with_its_path(self) -> None:
        with pytest.raises(PayloadError, match=r"lines\[0\]\.count: .*greater than or equal to 1"):
            await cast("Call", order)(customer="acme", lines=[{"sku": "a", "count": 0}])

    async def test_the_delivery_id_comes_from_the_label_and_outlives_a_retry(self) -> None:
        async with get_client() as client:
            made = await client.create_flow_run(order, parameters={"customer": "unlucky"})
            await client.update_flow_run_labels(made.id, {DELIVERY_ID: "d-17"})
            flow_run = await client.read_flow_run(made.id)
        receipt: OrderReceipt = await cast("Any", run_flow(order, flow_run=flow_run))
        assert (receipt.delivery_id, receipt.run_id) == ("d-17", str(flow_run.id))
        assert receipt.attempt == 2


ACME = '''
from noa_flows.job import job
from noa_flows.job_run import JobRun
from noa_flows.payload import Payload, Result


class Invoice(Payload):
    number: int


class Sent(Result):
    number: int


@job("invoice")
async def invoice(payload: Invoice, run: JobRun) -> Sent:
    """Send an invoice."""
    return Sent(number=payload.number)
'''


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[pytest.MonkeyPatch]:
    """An installed package that brings job types, and settings that name some more."""
    (tmp_path / "acme_jobs.py").write_text(ACME)
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[noa_flows.jobs]\ninvoice = acme_jobs:invoice\nnoop = acme_jobs:invoice\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "NOA_JOBS",
        '{"order": "tests.unit.test_job:order", "constant": "os:sep", '
        '"lost": "nowhere.jobs:lost", "unnamed": "acme_jobs:unnamed"}',
    )
    get_settings.cache_clear()
    find_job.cache_clear()
    yield monkeypatch
    get_settings.cache_clear()
    find_job.cache_clear()


@pytest.mark.usefixtures("acme")
class TestFindJob:
    def test_a_built_in_one_is_found(self) -> None:
        assert find_job("noop") is noop.job

    def test_one_of_the_settings_is_found(self) -> None:
        assert find_job("order").payload_model.model_fields.keys() >= {"customer", "discount"}

    def test_one_of_an_installed_package_is_found(self) -> None:
        assert find_job("invoice").parse({"number": 5}) is not None
        assert find_job("invoice").name == "invoice"

    def test_a_package_cannot_replace_what_is_built_in(self) -> None:
        assert job_locations()["noop"] == "noa_flows.jobs.noop_job:noop"

    def test_an_unknown_one_comes_with_a_suggestion_and_the_list(self) -> None:
        with pytest.raises(NotFoundError, match="'invoise'; did you mean 'invoice'") as caught:
            find_job("invoise")
        assert "known: constant, invoice, lost, noop, order, report" in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("constant", "'os:sep' isn't made by the decorator @job"),
            ("lost", "'nowhere.jobs:lost' can't be loaded: No module named 'nowhere'"),
            ("unnamed", "'acme_jobs:unnamed' can't be loaded: .*no attribute 'unnamed'"),
        ],
    )
    def test_a_location_that_leads_to_no_job_is_a_mistake_of_configuration(
        self, name: str, says: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"job type '{name}': {says}"):
            find_job(name)


def test_a_job_may_be_made_of_free_form_fields_too() -> None:
    class Anything(Payload):
        value: JsonValue = None

    @job("anything")
    async def anything(payload: Anything, run: JobRun) -> OrderReceipt:
        raise NotImplementedError

    assert isinstance(anything, JobFlow)
    assert anything.job.parse({"value": {"$ref": [1]}}).value == {"$ref": [1]}
