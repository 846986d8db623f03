"""One definition of a job: a Prefect flow, what a message starts, and a test subject.

The flow's parameters are the payload's fields, one by one, so that Prefect's UI shows a form with a
field each and `run_deployment` takes them by name. The payload model validates the whole.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar, get_type_hints

from prefect.flows import Flow
from prefect.utilities.hashing import file_hash
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from noa_flows.errors import ConfigurationError, PayloadError
from noa_flows.job_run import JobRun
from noa_flows.payload import Payload, Result
from noa_flows.validation import first_problem

P = TypeVar("P", bound=Payload)
R = TypeVar("R", bound=Result)

Work = Callable[[P, JobRun], Awaitable[R]]
#: What becomes of a run whose process, worker or machine died under it: it is executed again, or
#: its message goes to the dead letters.
Interrupted = Literal["rerun", "dead"]


@dataclass(frozen=True, kw_only=True)
class Job(Generic[P, R]):
    """What a job is, apart from Prefect: its name, its payload, its result and its work."""

    name: str
    payload_model: type[P]
    result_model: type[R]
    #: The decorated function itself.
    perform: Work[P, R]
    interrupted: Interrupted = "rerun"

    def parse(self, data: object) -> P:
        """Validate the payload as it stands in snake case.

        Raises:
            PayloadError: With the path of the first wrong field, and the number of others.
        """
        try:
            return self.payload_model.model_validate(data)
        except ValidationError as error:
            path, text = first_problem(error, self.payload_model)
            raise PayloadError(text, path=path) from error


class JobFlow(Flow[..., Any], Generic[P, R]):
    """A Prefect flow that knows the job it came from."""

    job: Job[P, R]

    if TYPE_CHECKING:

        def __call__(  # type: ignore[override]
            self, **parameters: Any
        ) -> Coroutine[Any, Any, R]:  # pyright: ignore[reportIncompatibleMethodOverride]
            """Run the flow here, with the payload's fields as keyword arguments."""
            ...


def job(
    name: str,
    *,
    retries: int = 0,
    retry_delay_seconds: int = 10,
    interrupted: Interrupted = "rerun",
) -> Callable[[Work[P, R]], JobFlow[P, R]]:
    """Make a Prefect flow out of `async def work(payload: SomePayload, run: JobRun) -> SomeResult`.

    The flow is named after the job, and its description is the function's docstring. Its result is
    persisted as JSON, so that `run_deployment` can return it.

    Args:
        name: The job type as messages name it, such as `report`.
        retries: How often Prefect runs the flow again after it has failed.
        retry_delay_seconds: The pause before each of these.
        interrupted: What becomes of a run whose process, worker or machine died under it. "rerun"
            executes it again, with the same delivery id; "dead" puts its message into the dead
            letters, for work that must not begin twice.

    Example:
        >>> class Greeting(Payload):
        ...     name: str
        >>> class Greeted(Result):
        ...     text: str
        >>> @job("greeting")
        ... async def greeting(payload: Greeting, run: JobRun) -> Greeted:
        ...     return Greeted(text=f"Hello {payload.name}")
        >>> greeting.name
        'greeting'
    """

    def decorate(work: Work[P, R]) -> JobFlow[P, R]:
        payload_model, result_model = _models_of(work)
        definition = Job(
            name=name,
            payload_model=payload_model,
            result_model=result_model,
            perform=work,
            interrupted=interrupted,
        )
        made: JobFlow[P, R] = JobFlow(
            fn=_flat_function(definition),
            name=name,
            description=inspect.getdoc(work),
            version=file_hash(inspect.getfile(work)),
            retries=retries,
            retry_delay_seconds=retry_delay_seconds,
            persist_result=True,
            result_serializer="json",
            # Prefect's own validation loads a block for any nested {"$ref": …}, and a payload is
            # data: the payload model validates instead, inside the flow.
            validate_parameters=False,
        )
        made.job = definition
        return made

    return decorate


def _flat_function(definition: Job[P, R]) -> Callable[..., Awaitable[R]]:
    """Build the function that Prefect calls: one keyword parameter for each payload field."""

    async def flat(**parameters: Any) -> R:
        run, data = await JobRun.current(parameters)
        return await definition.perform(definition.parse(data), run)

    work, fields = definition.perform, definition.payload_model.model_fields
    flat.__name__ = flat.__qualname__ = getattr(work, "__name__", definition.name)
    flat.__module__ = work.__module__
    # Prefect reads the form from here: fields from the signature, their help from the docstring.
    flat.__doc__ = _documented(work, fields)
    flat.__dict__["__signature__"] = inspect.Signature(
        [_parameter(name, field) for name, field in fields.items()],
        return_annotation=definition.result_model,
    )
    return flat


def _documented(work: Callable[..., Any], fields: Mapping[str, FieldInfo]) -> str:
    described = [
        f"    {name}: {field.description}" for name, field in fields.items() if field.description
    ]
    return "\n".join([inspect.getdoc(work) or "", "", "Args:", *described])


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """Describe one payload field as a keyword parameter, with its bounds for Prefect's form."""
    annotation: Any = field.annotation
    for bound in field.metadata:
        annotation = Annotated[annotation, bound]
    default: Any = inspect.Parameter.empty
    if not field.is_required():
        default = field.get_default(call_default_factory=True, validated_data={})
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _models_of(work: Work[P, R]) -> tuple[type[P], type[R]]:
    """Read the payload and result models from the function's annotations."""
    hints = get_type_hints(work)
    found = [hints.get(name) for name in (*inspect.signature(work).parameters, "return")]
    match found:
        case [type() as payload, type() as run, type() as result] if (
            issubclass(payload, Payload) and issubclass(run, JobRun) and issubclass(result, Result)
        ):
            return payload, result  # type: ignore[return-value]
        case _:
            raise ConfigurationError(
                f"{work!r} can't be a job: its annotations are {found}; "
                "write `async def work(payload: SomePayload, run: JobRun) -> SomeResult`"
            )
