"""The base of what a job takes and of what it gives back."""

from pydantic import BaseModel, ConfigDict


class Payload(BaseModel):
    """What a job is asked to do; also the base of the models nested in it.

    Field names are snake case. Unknown names are refused, so that a misspelt option is never
    silently ignored. Free-form parts are declared as `dict[str, JsonValue]`, and arrive verbatim.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        # What was sent may be secret, and errors stand in logs.
        hide_input_in_errors=True,
    )


class Result(BaseModel):
    """What a job has done: small, and readable as JSON by whoever started it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
