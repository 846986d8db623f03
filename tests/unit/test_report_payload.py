"""What a report may be asked for."""

from typing import Any

import pytest

from noa_flows.errors import PayloadError
from noa_flows.jobs.report_job import ReportPayload, report


def parse(**changes: Any) -> ReportPayload:
    whole: dict[str, Any] = {"type": "pdf", "data": [], "template": "monthly-report"}
    return report.job.parse(whole | changes)


def test_rows_keep_their_keys_and_values() -> None:
    rows: list[dict[str, Any]] = [{"orderId": 1, "Any key": {"$ref": "stays"}}, {}]
    assert parse(data=rows).data == rows


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_a_number_that_is_none_is_refused_with_its_path(value: float) -> None:
    with pytest.raises(PayloadError, match=r"^data\[1\]\.amount: NaN, Infinity"):
        parse(data=[{"amount": 1}, {"amount": value}])
    with pytest.raises(PayloadError, match=r"^data\[0\]\.sizes"):
        parse(data=[{"sizes": [{"w": value}]}])


@pytest.mark.parametrize(
    "name", ["../secrets", "a/b", "/etc", "..", ".", "a\\b", "", "a\x00", "x" * 65]
)
def test_a_template_name_is_never_a_path(name: str) -> None:
    with pytest.raises(PayloadError, match=r"^template: "):
        parse(template=name)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"type": "docx"}, "type"),
        ({"data": [1]}, r"data\[0\]"),
        ({"filters": {}}, "filters"),
        ({"delivery": {}}, "delivery"),
        ({"title": ""}, "title"),
        ({"charts": [{"kind": "radar", "x": "a", "y": "b"}]}, r"charts\[0\]\.kind"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(PayloadError, match=f"^{path}: "):
        parse(**changes)
