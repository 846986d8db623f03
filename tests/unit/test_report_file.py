"""Where reports are kept."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from noa_flows.reports.report_file import ReportFile
from noa_flows.reports.settings import ReportSettings


def name_of(delivery_id: str) -> str:
    return ReportFile(Path("/srv"), "t", delivery_id, "pdf").path.name


def test_a_plain_delivery_id_is_the_name() -> None:
    assert name_of("order-17_b") == "t-order-17_b.pdf"


@pytest.mark.parametrize("delivery_id", ["../../etc/passwd", "a b", "", "ü", "a\x00b", "x" * 5_000])
def test_any_other_delivery_id_becomes_a_short_and_harmless_name(delivery_id: str) -> None:
    name = name_of(delivery_id)
    assert name.isascii()
    assert "/" not in name
    assert len(name) < 120


def test_delivery_ids_that_look_alike_have_files_of_their_own() -> None:
    names = {name_of(text) for text in ("a/b", "a b", "a-b", "a--b", "x" * 200, "x" * 201)}
    assert len(names) == 6


def test_a_rerun_finds_the_moment_of_the_first_report(tmp_path: Path) -> None:
    file = ReportFile(tmp_path / "new", "t", "1", "pdf")
    assert datetime.now(UTC) - file.generated() < timedelta(minutes=1)
    moment = datetime(2024, 3, 1, 12, tzinfo=UTC)
    file.write(b"report", moment)
    assert file.path.read_bytes() == b"report"
    assert ReportFile(tmp_path / "new", "t", "1", "pdf").generated() == moment


def test_the_default_folder_is_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert ReportSettings().folder == Path("/home/somebody/.noa/reports")
    assert ReportSettings(output_folder=Path("out")).folder.is_absolute()
