"""The report job: rows and a named template become a PDF, an Excel workbook or a CSV file."""

import asyncio
import hashlib
import sys
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, JsonValue
from pydantic_core import PydanticCustomError

from noa_flows.errors import TemporaryJobError
from noa_flows.job import job
from noa_flows.job_run import JobRun
from noa_flows.payload import Payload, Result
from noa_flows.reports.chart import Chart
from noa_flows.reports.column import is_number
from noa_flows.reports.rendered import Rendered
from noa_flows.reports.report import compose_report
from noa_flows.reports.report_file import ReportFile
from noa_flows.reports.settings import ReportSettings
from noa_flows.reports.table import Table
from noa_flows.reports.template import TEMPLATE_NAME, Template, load_template


class ReportType(StrEnum):
    """The formats a report can have."""

    PDF = "pdf"
    EXCEL = "excel"
    CSV = "csv"


_SUFFIXES: Final = {ReportType.PDF: "pdf", ReportType.EXCEL: "xlsx", ReportType.CSV: "csv"}


def _finite(value: JsonValue) -> JsonValue:
    """Refuse what JSON has no number for, and integers beyond every float."""
    if not _is_finite(value):
        raise PydanticCustomError(
            "finite_number",
            "NaN, Infinity and numbers beyond 1.8e308 can't be reported; leave the value out",
        )
    return value


def _is_finite(value: JsonValue) -> bool:
    if isinstance(value, list):
        return all(map(_is_finite, value))
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not is_number(value) or abs(value) <= sys.float_info.max


Row = dict[str, Annotated[JsonValue, BeforeValidator(_finite)]]


class ReportPayload(Payload):
    """What is reported, and how it should look.

    Example:
        >>> ReportPayload(type="csv", data=[{"sold": 3}], template="monthly-report").type.value
        'csv'
    """

    type: ReportType = Field(description="The format of the file.")
    data: list[Row] = Field(
        description="Rows, each an object of column names and values. Columns appear in the order "
        "in which the rows first name them; a row may lack any of them."
    )
    template: str = Field(
        pattern=TEMPLATE_NAME, description="Name of the template, such as `monthly-report`."
    )
    title: str | None = Field(
        default=None, min_length=1, max_length=200, description="Default: the template's title."
    )
    charts: list[Chart] | None = Field(
        default=None,
        max_length=8,
        description="Charts of a PDF or Excel report. Without it the template decides; an empty "
        "list means no charts.",
    )


class ReportResult(Result):
    """Where the report is, and what is in it."""

    #: Absolute path of the file.
    path: str
    #: The same as a `file://` address.
    url: str
    media_type: str
    #: Size of the file in bytes.
    bytes: int
    #: Digest of the file, in hexadecimal.
    sha256: str
    template: str
    rows: int
    #: Pages of a PDF; None for the other formats.
    pages: int | None
    #: Charts that the report shows.
    charts: int


@job("report")
async def report(payload: ReportPayload, run: JobRun) -> ReportResult:
    """Make a PDF, Excel or CSV report out of rows and a named template.

    The file is written to the operator's report folder as `<template>-<delivery id>`, whole or not
    at all. Doing the same delivery again writes the same file again.
    """
    settings = run.settings.reports
    template = load_template(payload.template, settings)
    file = ReportFile(settings.folder, template.name, run.delivery_id, _SUFFIXES[payload.type])
    await run.progress(10, f"Making the report of {len(payload.data):,} rows")
    generated = await asyncio.to_thread(file.generated)
    rendered = await asyncio.to_thread(_render, payload, template, settings, generated)
    await run.progress(90, "Writing the file")
    await asyncio.to_thread(_write, file, rendered, generated)
    result = _result(payload, file, rendered)
    await _show(result, run)
    return result


def _render(
    payload: ReportPayload, template: Template, settings: ReportSettings, generated: datetime
) -> Rendered:
    """Do the work of the processor, away from the event loop."""
    table = Table.from_rows(payload.data)
    if payload.type is ReportType.CSV:
        from noa_flows.reports.csv_file import write_csv

        return write_csv(table, settings)
    composed = compose_report(
        table,
        template,
        title=payload.title,
        charts=payload.charts,
        organisation=settings.organisation,
        generated=generated,
    )
    if payload.type is ReportType.EXCEL:
        from noa_flows.reports.excel_workbook import write_excel

        return write_excel(composed, settings)
    from noa_flows.reports.pdf_document import write_pdf

    return write_pdf(composed, settings)


def _write(file: ReportFile, rendered: Rendered, generated: datetime) -> None:
    try:
        file.write(rendered.content, generated)
    except OSError as error:
        raise TemporaryJobError(
            f"the report can't be written to {file.path}: {error}; see that the folder of "
            "`reports.output_folder` exists, can be written to and has room"
        ) from error


def _result(payload: ReportPayload, file: ReportFile, rendered: Rendered) -> ReportResult:
    return ReportResult(
        path=str(file.path),
        url=file.path.as_uri(),
        media_type=rendered.media_type,
        bytes=len(rendered.content),
        sha256=hashlib.sha256(rendered.content).hexdigest(),
        template=payload.template,
        rows=len(payload.data),
        pages=rendered.pages,
        charts=rendered.charts,
    )


async def _show(result: ReportResult, run: JobRun) -> None:
    """Show the report in Prefect's UI, as a link and as a summary."""
    name = result.path.rpartition("/")[2]
    await run.link("report", result.url, name, f"Report of {result.rows:,} rows")
    lines = [
        f"## {name}",
        "",
        "| | |",
        "|---|---|",
        f"| Template | {result.template} |",
        f"| Rows | {result.rows:,} |",
        *([f"| Pages | {result.pages:,} |"] if result.pages else []),
        f"| Charts | {result.charts} |",
        f"| Size | {result.bytes:,} bytes |",
        f"| SHA-256 | `{result.sha256}` |",
        f"| File | `{result.path}` |",
    ]
    await run.markdown("report-summary", "\n".join(lines), f"Summary of {name}")
    await run.progress(100, "Done")
