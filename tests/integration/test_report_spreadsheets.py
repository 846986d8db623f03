"""Excel and CSV reports, read back with openpyxl and Python's csv."""

import csv
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook
from openpyxl.chart import AreaChart, BarChart, DoughnutChart, LineChart

from noa_flows.errors import PayloadError
from noa_flows.job_run import JobRun
from noa_flows.jobs.report_job import ReportResult, report
from noa_flows.reports.settings import ReportSettings
from noa_flows.settings import Settings

Make = Callable[..., Awaitable[ReportResult]]

ORDERS = [
    {"orderId": 1, "orderDate": "2024-01-31", "region": "North", "sales": 1234.5, "rush": True},
    {"orderId": 2, "orderDate": "2024-02-29", "region": "South", "sales": 99, "rush": False},
    {"orderId": 3, "orderDate": "2024-02-01", "region": "North", "sales": None},
    {"orderId": 4, "region": "South", "sales": 0.25, "note": "late"},
]
FORMULAS = [
    "=1+1",
    "+1+1",
    "-1-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    '=HYPERLINK("http://evil","x")',
    "=cmd|' /C calc'!A0",
]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    async def make(settings: dict[str, Any] | None = None, **payload: Any) -> ReportResult:
        reports = ReportSettings(output_folder=tmp_path / "out", **(settings or {}))
        run = JobRun.for_test("delivery-1", Settings(reports=reports))
        asked = {"type": "excel", "template": "monthly-report"} | payload
        return await report.job.perform(report.job.parse(asked), run)

    return make


def read_csv(result: ReportResult, encoding: str = "utf-8") -> list[list[str]]:
    return list(csv.reader(content_of(result).decode(encoding).splitlines(keepends=True)))


def content_of(result: ReportResult) -> bytes:
    return Path(result.path).read_bytes()


def cells_of(sheet: Any, reference: str) -> list[Any]:
    """Look up `'Summary'!$B$10:$B$11`."""
    return [row[0].value for row in sheet[reference.partition("!")[2]]]


async def test_a_workbook_has_headings_values_and_totals_that_follow_the_filter(make: Make) -> None:
    result = await make(data=ORDERS, title="Orders")
    sheet = load_workbook(result.path)["Data"]
    rows = list(sheet.iter_rows(values_only=True))
    assert rows[0] == ("Order ID", "Order date", "Region", "Sales", "Rush", "Note")
    assert rows[1] == (1, datetime(2024, 1, 31), "North", 1234.5, True, None)  # noqa: DTZ001
    assert rows[4] == (4, None, "South", 0.25, None, "late")
    assert rows[5] == ("Total", None, None, "=SUBTOTAL(109,D2:D5)", None, None)
    assert sheet["D2"].number_format == "#,##0.00"
    assert sheet["A2"].number_format == "General"
    assert sheet["B2"].number_format == "yyyy-mm-dd"
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", "A1:F5")
    assert sheet.column_dimensions["B"].width > 10


async def test_charts_are_native_and_refer_to_cells(make: Make) -> None:
    result = await make(
        data=ORDERS,
        charts=[
            {"kind": "line", "x": "orderDate", "y": "sales"},
            {"kind": "bar", "x": "region", "y": "sales"},
            {"kind": "pie", "x": "region", "aggregate": "count"},
            {"kind": "area", "x": "orderDate", "y": "sales", "title": "Area"},
        ],
    )
    sheet: Any = load_workbook(result.path)["Summary"]
    assert [type(chart) for chart in sheet._charts] == [
        LineChart,
        BarChart,
        DoughnutChart,
        AreaChart,
    ]
    bars = sheet._charts[1].series[0]
    labels, values = (cells_of(sheet, part.numRef.f) for part in (bars.cat, bars.val))
    assert dict(zip(labels, values, strict=True)) == {"North": 1234.5, "South": 99.25}
    assert result.charts == 4


async def test_the_summary_opens_first_with_title_and_figures(make: Make) -> None:
    result = await make({"organisation": "Northwind"}, data=ORDERS, title="=Orders")
    workbook = load_workbook(result.path)
    sheet = workbook["Summary"]
    assert workbook.active is sheet
    assert not workbook["Data"].sheet_view.tabSelected
    assert (sheet["A1"].value, sheet["A1"].data_type) == ("=Orders", "s")
    figures = {row[0].value: row[1].value for row in sheet.iter_rows(max_col=2)}
    assert figures["Rows"] == 4
    assert figures["Total Sales"] == "=SUM(Data!D2:D5)"
    assert (workbook.properties.title, workbook.properties.creator) == ("=Orders", "Northwind")


@pytest.mark.parametrize("formula", FORMULAS)
async def test_a_formula_in_data_stays_text_in_excel(make: Make, formula: str) -> None:
    result = await make(data=[{formula: formula, "n": 1}, {formula: "b", "n": 2}])
    workbook = load_workbook(result.path)
    for cell in (workbook["Data"]["A1"], workbook["Data"]["A2"]):
        assert (cell.value, cell.data_type) == (formula.replace("\r", "\n"), "s")
        assert cell.quotePrefix
    ours = {
        str(cell.value)
        for sheet in workbook
        for row in sheet.iter_rows()
        for cell in row
        if cell.data_type == "f"
    }
    assert ours == {"=SUBTOTAL(109,B2:B3)", "=SUM(Data!B2:B3)"}


@pytest.mark.parametrize("formula", FORMULAS)
async def test_a_formula_in_data_gets_an_apostrophe_in_csv(make: Make, formula: str) -> None:
    result = await make(type="csv", data=[{formula: formula}])
    assert read_csv(result) == [[f"'{formula}"], [f"'{formula}"]]


async def test_excel_keeps_what_it_would_round_or_cannot_date(make: Make) -> None:
    rows: list[dict[str, Any]] = [
        {"card": 4111111111111111, "born": "1815-12-10", "at": "2024-03-01T01:00:00+02:00"}
    ]
    sheet = load_workbook((await make(data=rows)).path)["Data"]
    assert sheet["A2"].value == "4111111111111111"
    assert sheet["B2"].value == "1815-12-10"
    assert sheet["C1"].value == "At (UTC)"
    assert sheet["C2"].value == datetime(2024, 2, 29, 23, 0)  # noqa: DTZ001


async def test_excel_gets_no_cell_that_it_would_call_broken(make: Make) -> None:
    rows = [{"text": "a\x00b\x1f\ud800c"}, {"text": "x" * 40_000}, {"text": "#N/A"}]
    sheet = load_workbook((await make(data=rows)).path)["Data"]
    assert sheet["A2"].value == "abc"
    assert sheet["A3"].value == "x" * 32_766 + "…"
    assert (sheet["A4"].value, sheet["A4"].data_type) == ("#N/A", "s")


async def test_a_workbook_without_data_says_so(make: Make) -> None:
    sheet = load_workbook((await make(data=[])).path)["Summary"]
    assert "There is no data in this report." in [row[0].value for row in sheet.iter_rows()]


@pytest.mark.parametrize("kind", ["excel", "csv"])
async def test_more_rows_than_the_operator_allows_are_refused(make: Make, kind: str) -> None:
    with pytest.raises(PayloadError, match=r"^data: 3 rows are more .* \(2\).*reports\.max_rows"):
        await make({"max_rows": 2}, type=kind, data=[{"a": 1}] * 3)


@pytest.mark.parametrize("kind", ["excel", "csv"])
async def test_a_delivery_done_again_gives_the_same_file(make: Make, kind: str) -> None:
    first = await make(type=kind, data=ORDERS)
    assert await make(type=kind, data=ORDERS) == first


async def test_csv_has_raw_names_and_values_as_they_came(make: Make) -> None:
    result = await make(type="csv", data=[*ORDERS, {"note": 'a "b",\nü', "sales": -1e-7}])
    assert read_csv(result) == [
        ["orderId", "orderDate", "region", "sales", "rush", "note"],
        ["1", "2024-01-31", "North", "1234.5", "true", ""],
        ["2", "2024-02-29", "South", "99", "false", ""],
        ["3", "2024-02-01", "North", "", "", ""],
        ["4", "", "South", "0.25", "", "late"],
        ["", "", "", "-1e-07", "", 'a "b",\nü'],
    ]
    assert b"\r\n1,2024-01-31," in content_of(result)


async def test_csv_writes_moments_with_a_zone_in_utc(make: Make) -> None:
    result = await make(type="csv", data=[{"at": "2024-03-01T01:00:00+02:00"}])
    assert read_csv(result) == [["at"], ["2024-02-29T23:00:00Z"]]


async def test_csv_has_a_byte_order_mark_only_where_it_is_asked_for(make: Make) -> None:
    plain = await make(type="csv", data=ORDERS)
    assert content_of(plain).startswith(b"orderId")
    marked = await make({"csv_byte_order_mark": True}, type="csv", data=ORDERS)
    assert content_of(marked).startswith(b"\xef\xbb\xbforderId")
    assert read_csv(marked, "utf-8-sig")[0][0] == "orderId"


async def test_csv_without_data_is_an_empty_file(make: Make) -> None:
    result = await make(type="csv", data=[])
    assert (result.bytes, result.rows) == (0, 0)
