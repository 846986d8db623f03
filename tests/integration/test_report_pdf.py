"""PDF reports, read back with poppler and pypdf."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bokeh_sampledata.sample_superstore import data as superstore
from pypdf import PdfReader

from noa_flows.errors import ConfigurationError, PayloadError
from noa_flows.job_run import JobRun
from noa_flows.jobs.report_job import ReportResult, report
from noa_flows.reports.settings import ReportSettings
from noa_flows.settings import Settings
from tests.servers.programs import PDFTOTEXT

Make = Callable[..., Awaitable[ReportResult]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    async def make(settings: dict[str, Any] | None = None, **payload: Any) -> ReportResult:
        reports = ReportSettings(output_folder=tmp_path / "out", **(settings or {}))
        run = JobRun.for_test("delivery-1", Settings(reports=reports))
        asked = {"type": "pdf", "template": "monthly-report"} | payload
        return await report.job.perform(report.job.parse(asked), run)

    return make


def orders(count: int) -> list[dict[str, Any]]:
    frame: Any = superstore.head(count)
    return [
        {"orderId": 10_248 + number, "orderDate": f"2024-{number % 12 + 1:02}-15", **row}
        for number, row in enumerate(frame.to_dict("records"))
    ]


async def text_of(result: ReportResult, *options: str) -> str:
    process = await asyncio.create_subprocess_exec(
        str(PDFTOTEXT.require()), *options, result.path, "-", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


def folded(text: str) -> str:
    return re.sub(r"\s+", " ", text)


async def test_orders_become_a_report_with_title_figures_charts_and_every_row(make: Make) -> None:
    rows = orders(40)
    result = await make(
        {"organisation": "Northwind Trading"}, data=rows, title="Orders of the year"
    )
    text = folded(await text_of(result, "-layout"))
    assert "NORTHWIND TRADING Orders of the year 15 Jan 2024 to 15 Dec 2024" in text
    assert f"{sum(row['Sales'] for row in rows):,.2f}" in text
    assert "Sales per month" in text
    assert "Sales by Ship Mode" in text
    assert all(str(row["orderId"]) in text for row in rows)
    assert (result.charts, result.rows, result.media_type) == (3, 40, "application/pdf")


async def test_every_page_repeats_the_heading_and_is_numbered(make: Make) -> None:
    result = await make(data=orders(400))
    pages = [folded(page.extract_text()) for page in PdfReader(result.path).pages]
    assert result.pages == len(pages) > 5
    for number, page in enumerate(pages, 1):
        assert f"{number} / {len(pages)}" in page
        assert "Sub-Category" in page
    assert "Total" in pages[-1]


async def test_markup_in_data_is_printed_and_never_evaluated(make: Make) -> None:
    markup = '#panic("no") $x^2$ *bold* _it_ @ref <lbl> `raw` = Head \\ #read("/etc/passwd") // c'
    result = await make(
        data=[{markup: markup, "amount": 1}, {markup: "b", "amount": 2}],
        title=f"Title {markup}",
        charts=[{"kind": "bar", "x": markup, "y": "amount", "title": f"Chart {markup}"}],
    )
    text = folded(await text_of(result, "-raw"))
    assert f"Title {markup}" in text
    assert f"Chart {markup}" in text
    assert text.count('#panic("no") $x^2$ *bold* _it_') >= 4
    assert "root:" not in text


async def test_a_long_text_wraps_and_a_long_word_breaks(make: Make) -> None:
    word = "x" * 300
    result = await make(data=[{"note": "many words " * 50, "word": word, "n": 1}])
    text = await text_of(result)
    assert folded(text).count("many words") == 50
    assert text.replace("\n", "").replace("\u200b", "").count(word) == 1
    assert max(map(len, text.splitlines())) < 150


async def test_every_script_has_letters(make: Make) -> None:
    samples = ["中文", "日本語", "한국어", "Ωμέγα", "Привет", "ไทย", "😀", "✓"]
    result = await make(data=[{"text": sample} for sample in [*samples, "العربية", "עברית"]])
    text = await text_of(result)
    assert all(sample in text for sample in samples)
    page: Any = PdfReader(result.path).pages[0]
    fonts = [str(font.get_object()["/BaseFont"]) for font in page["/Resources"]["/Font"].values()]
    assert any("NotoSansArabic" in font for font in fonts)
    assert any("NotoSansHebrew" in font for font in fonts)


@pytest.mark.parametrize("rows", [[], [{}], [{"only": None}]])
async def test_a_report_without_data_is_a_page(make: Make, rows: list[dict[str, Any]]) -> None:
    result = await make(data=rows)
    assert (result.pages, result.charts) == (1, 0)
    assert "Monthly report" in await text_of(result)


async def test_many_columns_turn_the_page_and_too_many_are_refused(make: Make) -> None:
    upright = await make(data=[{"a": 1, "b": 2}])
    assert PdfReader(upright.path).pages[0].mediabox.width < 600
    wide = await make(data=[{f"column {number}": 1000.5 for number in range(14)}])
    assert PdfReader(wide.path).pages[0].mediabox.width > 800
    with pytest.raises(PayloadError, match=r"^data: the 60 columns don't fit .* `excel`"):
        await make(data=[{f"column {number}": 1000.5 for number in range(60)}])


async def test_more_rows_than_pages_can_hold_are_refused(make: Make) -> None:
    with pytest.raises(PayloadError, match=r"^data: 3 rows are more .* \(2\).*`csv`"):
        await make({"max_pdf_rows": 2}, data=[{"a": 1}] * 3)


async def test_large_reports_are_not_tagged(make: Make) -> None:
    tagged = await make(data=[{"a": 1}] * 3)
    assert "/StructTreeRoot" in PdfReader(tagged.path).root_object
    plain = await make({"max_tagged_pdf_rows": 2}, data=[{"a": 1}] * 3)
    assert "/StructTreeRoot" not in PdfReader(plain.path).root_object


async def test_a_delivery_done_again_gives_the_same_file(make: Make) -> None:
    first = await make(data=orders(20))
    assert await make(data=orders(20)) == first


async def test_a_report_names_when_it_was_made(make: Make) -> None:
    result = await make(data=[{"a": 1}])
    today = datetime.now(UTC)
    assert f"Generated {today.day} {today:%b %Y}" in await text_of(result)
    assert (PdfReader(result.path).metadata or {})["/Title"] == "Monthly report"


async def test_a_chart_that_does_not_fit_the_rows_is_named(make: Make) -> None:
    chart = {"kind": "bar", "x": "region", "y": "n"}
    with pytest.raises(PayloadError, match=r"^charts\[1\]\.x: .*'regoin'.*did you mean 'region'"):
        await make(data=[{"region": "N", "n": 1}], charts=[chart, chart | {"x": "regoin"}])


async def test_a_payload_can_ask_for_no_charts(make: Make) -> None:
    result = await make(data=orders(20), charts=[])
    assert result.charts == 0
    assert "per month" not in await text_of(result)


async def test_a_template_of_the_operator_reads_its_own_folder_only(
    make: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "templates" / "mine"
    folder.mkdir(parents=True)
    (tmp_path / "templates" / "secret.txt").write_text("hunter2")
    (folder / "legal.txt").write_text("All rights reserved")
    (folder / "template.toml").write_text('title = "Mine"\ncharts = "none"')
    source = folder / "template.typ"
    settings = {"template_folder": tmp_path / "templates"}
    source.write_text('#read("legal.txt") #json(bytes(sys.inputs.report)).title')
    result = await make(settings, template="mine", data=[])
    assert "All rights reserved Mine" in folded(await text_of(result))
    for outside in ("../secret.txt", "/../secret.txt", "/etc/passwd"):
        source.write_text(f'#read("{outside}")')
        with pytest.raises(ConfigurationError, match=r"template\.typ doesn't compile"):
            await make(settings, template="mine", data=[])


async def test_fifty_rows_with_three_charts_take_about_a_second_of_work(
    make: Make, record_property: Callable[[str, object], None]
) -> None:
    started = time.process_time()
    result = await make(data=orders(50))
    spent = time.process_time() - started
    record_property("cpu_seconds", round(spent, 2))
    assert result.charts == 3
    assert spent < 3
