"""Which chart a report shows, as a payload or a template asks for it."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from noa_flows.payload import Payload


class ChartKind(StrEnum):
    """The charts that both PDF and Excel can draw."""

    BAR = "bar"
    LINE = "line"
    AREA = "area"
    PIE = "pie"


class Aggregate(StrEnum):
    """How the `y` values that share one `x` become one number."""

    SUM = "sum"
    AVERAGE = "avg"
    COUNT = "count"


class Chart(Payload):
    """One chart: `y` by `x`, aggregated.

    Example:
        >>> Chart(kind="bar", x="region", y="sales").aggregate.value
        'sum'
    """

    kind: ChartKind = Field(description="How it is drawn.")
    x: str = Field(min_length=1, max_length=200, description="Column that groups the rows.")
    y: str | None = Field(
        default=None, max_length=200, description="Column of numbers; not needed to count rows."
    )
    aggregate: Aggregate = Field(
        default=Aggregate.SUM, description="What is made of the numbers of one group."
    )
    title: str | None = Field(
        default=None, max_length=200, description="Default: says what is shown by what."
    )

    @model_validator(mode="after")
    def _has_numbers(self) -> Self:
        if self.y is None and self.aggregate is not Aggregate.COUNT:
            raise ValueError("`y` is missing: name a column of numbers, or aggregate by count")
        return self
