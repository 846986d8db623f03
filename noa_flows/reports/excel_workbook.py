"""Excel reports: a sheet of data that can be filtered, and a summary with native charts."""

from typing import TYPE_CHECKING, Final

from noa_flows.reports.excel_data_sheet import fill_data_sheet
from noa_flows.reports.excel_summary_sheet import fill_summary_sheet
from noa_flows.reports.rendered import Rendered
from noa_flows.reports.report import Report
from noa_flows.reports.row_limit import check_row_limit
from noa_flows.reports.settings import ReportSettings
from noa_flows.reports.workbook_archive import pack_workbook

if TYPE_CHECKING:
    from openpyxl import Workbook

MEDIA_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def write_excel(report: Report, settings: ReportSettings) -> Rendered:
    """Write a report as a workbook. The same report gives the same bytes.

    The first sheet, `Data`, has the headings in its first row and a row of totals at its end; the
    second, `Summary`, has the title, the key figures and the charts, and is the one that opens.
    Text of the rows is never a formula; the only formulas are the totals.

    Raises:
        PayloadError: There are more rows than the settings allow.
    """
    from openpyxl import Workbook

    check_row_limit(report.table, settings)
    workbook = Workbook(write_only=True)
    fill_data_sheet(workbook.create_sheet("Data"), report)
    fill_summary_sheet(workbook.create_sheet("Summary"), report)
    workbook.active = 1
    _describe(workbook, report)
    return Rendered(
        content=pack_workbook(workbook, report.generated),
        media_type=MEDIA_TYPE,
        charts=len(report.charts),
    )


def _describe(workbook: "Workbook", report: Report) -> None:
    properties = workbook.properties
    properties.title = report.title
    properties.creator = report.organisation or "noa-flows"
    properties.created = report.generated.replace(tzinfo=None)
    # Formulas are stored without results: whoever opens the file works them out.
    workbook.calculation.fullCalcOnLoad = True
