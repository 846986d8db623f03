"""What a spreadsheet would take for a formula."""

import pytest

from noa_flows.reports.spreadsheet_text import looks_like_formula


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1+1",
        "-1-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "\uff1d1",
        '=HYPERLINK("http://evil")',
        "-2+3+cmd|' /C calc'!A0",
        "--5",
        "+49 170 123",
    ],
)
def test_what_begins_like_a_formula_is_one(text: str) -> None:
    assert looks_like_formula(text)


@pytest.mark.parametrize("text", ["", "plain", "a=1", "5", "-5", "+4.20", "'=1", "100 %"])
def test_plain_text_and_numbers_are_none(text: str) -> None:
    assert not looks_like_formula(text)
