"""What the report job tells its run, and the job as a Prefect flow."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from noa_flows.errors import TemporaryJobError
from noa_flows.job_run import JobRun
from noa_flows.jobs.report_job import ReportPayload, ReportResult, report
from noa_flows.reports.settings import ReportSettings
from noa_flows.settings import Settings, get_settings

PAYLOAD = ReportPayload.model_validate(
    {"type": "csv", "data": [{"a": 1}], "template": "monthly-report"}
)


def content_of(result: ReportResult) -> bytes:
    return Path(result.path).read_bytes()


def run_in(folder: Path, delivery_id: str = "order 17") -> JobRun:
    return JobRun.for_test(delivery_id, Settings(reports=ReportSettings(output_folder=folder)))


async def test_the_result_describes_the_file(tmp_path: Path) -> None:
    result = await report.job.perform(PAYLOAD, run_in(tmp_path / "with space"))
    path = Path(result.path)
    assert path.parent == tmp_path / "with space"
    assert path.name.startswith("monthly-report-order-17-")
    assert path.suffix == ".csv"
    assert Path(unquote(urlparse(result.url).path)) == path
    content = content_of(result)
    assert (result.bytes, result.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


async def test_the_run_is_told_of_progress_a_link_and_a_summary(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    result = await report.job.perform(PAYLOAD, run)
    kinds = [told[0] for told in run.told]
    assert kinds == ["progress", "progress", "link", "markdown", "progress"]
    link, summary = run.told[2], run.told[3]
    assert link[2] == result.url
    assert result.sha256 in summary[2]


async def test_a_folder_that_cannot_be_written_is_a_temporary_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TemporaryJobError, match=r"reports\.output_folder"):
        await report.job.perform(PAYLOAD, run_in(tmp_path / "file"))


@pytest.mark.servers
@pytest.mark.usefixtures("prefect_api")
async def test_a_flow_run_makes_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOA_REPORTS__OUTPUT_FOLDER", str(tmp_path))
    get_settings.cache_clear()
    # Flows are called synchronously or not, and Prefect annotates one of both only.
    flow: Any = report
    result = await flow(
        type="pdf",
        data=[{"region": "North", "sales": 3}, {"region": {"$ref": "stays"}, "sales": 4}],
        template="monthly-report",
    )
    assert content_of(result).startswith(b"%PDF")
    assert (result.pages, result.charts) == (1, 1)
