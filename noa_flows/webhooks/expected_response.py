"""What answer counts as success."""

from typing import Annotated

from pydantic import Field, JsonValue, field_validator

from noa_flows.payload import Payload
from noa_flows.webhooks.schema_rules import check_schema_rules

Status = Annotated[int, Field(ge=100, le=599, strict=True)]
StatusClass = Annotated[str, Field(pattern=r"^[1-5]xx$")]


class ExpectedResponse(Payload):
    """The answer that the sender of the message wants to see.

    Example:
        >>> ExpectedResponse(status=("2xx", 409)).accepts(409)
        True
    """

    status: tuple[StatusClass | Status, ...] = Field(
        default=("2xx",),
        min_length=1,
        max_length=50,
        description="Statuses that count as success: numbers, or classes such as `2xx`.",
    )
    json_schema: dict[str, JsonValue] | None = Field(
        default=None,
        description="JSON Schema that the answer's body has to fit. It may refer to its own "
        "parts, never to another document.",
    )
    max_bytes: int | None = Field(
        default=None,
        ge=1,
        description="The largest body that is read to be validated, if less than the operator's.",
    )

    @field_validator("json_schema")
    @classmethod
    def _refuse_open_schema(
        cls, schema: dict[str, JsonValue] | None
    ) -> dict[str, JsonValue] | None:
        if schema is not None:
            check_schema_rules(schema)
        return schema

    def accepts(self, status: int) -> bool:
        """Tell whether this status counts as success."""
        return status in self.status or f"{status // 100}xx" in self.status
