"""How a template is found."""

from pathlib import Path

import pytest

from noa_flows.errors import ConfigurationError, PayloadError
from noa_flows.reports.settings import ReportSettings
from noa_flows.reports.template import load_template, template_names


def template(folder: Path, name: str, options: str = 'title = "Mine"', source: str = "x") -> None:
    (folder / name).mkdir()
    (folder / name / "template.toml").write_text(options)
    (folder / name / "template.typ").write_text(source)


def test_an_unknown_template_is_answered_with_those_there_are(tmp_path: Path) -> None:
    template(tmp_path, "invoices")
    settings = ReportSettings(template_folder=tmp_path)
    with pytest.raises(PayloadError) as caught:
        load_template("monthly-repot", settings)
    assert str(caught.value) == (
        "template: there is no template 'monthly-repot'; did you mean 'monthly-report'?; "
        "the templates are invoices, monthly-report"
    )


@pytest.mark.parametrize("name", ["../inside", "..", "sub/inside", ""])
def test_a_name_never_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    template(tmp_path, "inside")
    (tmp_path / "sub").mkdir()
    template(tmp_path / "sub", "inside")
    with pytest.raises(PayloadError, match="there is no template"):
        load_template(name, ReportSettings(template_folder=tmp_path / "sub"))


def test_a_template_of_the_operator_replaces_the_packaged_one(tmp_path: Path) -> None:
    template(tmp_path, "monthly-report")
    found = load_template("monthly-report", ReportSettings(template_folder=tmp_path))
    assert found.options.title == "Mine"
    assert load_template("monthly-report", ReportSettings()).options.title == "Monthly report"


def test_only_folders_with_options_are_templates(tmp_path: Path) -> None:
    (tmp_path / "drafts").mkdir()
    (tmp_path / "notes.txt").touch()
    assert template_names(ReportSettings(template_folder=tmp_path)) == ["monthly-report"]
    assert template_names(ReportSettings(template_folder=tmp_path / "gone")) == ["monthly-report"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("title =", "can't be read as TOML"),
        ('titel = "x"', "title: missing"),
        ('title = "x"\npalette = ["red"]', r"palette\[0\]"),
        ('title = "x"\n[[charts]]\nkind = "bar"\nx = "a"', "charts"),
    ],
)
def test_a_mistake_in_a_template_names_the_file(tmp_path: Path, options: str, text: str) -> None:
    template(tmp_path, "mine", options)
    with pytest.raises(ConfigurationError, match=rf"template\.toml.*{text}"):
        load_template("mine", ReportSettings(template_folder=tmp_path))


def test_a_template_without_a_source_is_a_mistake(tmp_path: Path) -> None:
    template(tmp_path, "mine")
    (tmp_path / "mine" / "template.typ").unlink()
    with pytest.raises(ConfigurationError, match=r"has no template\.typ"):
        load_template("mine", ReportSettings(template_folder=tmp_path))


def test_a_template_that_would_download_is_refused(tmp_path: Path) -> None:
    template(tmp_path, "mine", source='#import "@preview/cetz:0.3.0"')
    with pytest.raises(ConfigurationError, match="copy what it needs"):
        load_template("mine", ReportSettings(template_folder=tmp_path))
