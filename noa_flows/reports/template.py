"""Named templates: how a report looks, and what it shows unless a payload says otherwise."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from noa_flows.errors import ConfigurationError, PayloadError
from noa_flows.reports.chart import Chart
from noa_flows.reports.settings import ReportSettings
from noa_flows.validation import closest, first_problem

#: One folder name and no path: letters, digits, dashes and underscores.
TEMPLATE_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

_PACKAGED: Final = Path(__file__).parent / "templates"
_OPTIONS_FILE: Final = "template.toml"
_SOURCE_FILE: Final = "template.typ"

Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class TemplateOptions(BaseModel):
    """What stands in a template's `template.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field(max_length=200, description="Used where the payload has none.")
    charts: Literal["auto", "none"] | tuple[Chart, ...] = Field(
        default="auto",
        description="Used where the payload has none; `auto` looks at the columns.",
    )
    key_figures: int = Field(
        default=3, ge=0, le=6, description="Number of columns summed up at the head."
    )
    palette: tuple[Colour, ...] = Field(
        default=("#1f4e79", "#2f8f9d", "#e08e45", "#7a6fac", "#5b8c5a", "#b3bac2"),
        min_length=1,
        description="Colours of charts; the first one is the report's own.",
    )
    footer: str = Field(default="", max_length=300, description="A line at the foot of pages.")


@dataclass(frozen=True, kw_only=True)
class Template:
    """A folder with a Typst file and its options.

    The Typst file finds the report as JSON in `sys.inputs.report`, and can read files of its own
    folder only.
    """

    name: str
    folder: Path
    options: TemplateOptions

    @property
    def source(self) -> Path:
        """The Typst file that draws the report."""
        return self.folder / _SOURCE_FILE


def template_names(settings: ReportSettings) -> list[str]:
    """List the templates there are, the operator's and the packaged ones."""
    return sorted(
        {
            entry.name
            for folder in _folders(settings)
            if folder.is_dir()
            for entry in folder.iterdir()
            if re.match(TEMPLATE_NAME, entry.name) and (entry / _OPTIONS_FILE).is_file()
        }
    )


def load_template(name: str, settings: ReportSettings) -> Template:
    """Find a template by its name, the operator's before the packaged one.

    Raises:
        PayloadError: There is no such template, or the name isn't one.
        ConfigurationError: The template's own files are wrong.
    """
    known = template_names(settings)
    if name not in known:
        raise PayloadError(
            f"there is no template {name!r}{closest(name, known)}; "
            f"the templates are {', '.join(known)}",
            path="template",
        )
    places = [folder / name for folder in _folders(settings)]
    folder = next(place for place in places if (place / _OPTIONS_FILE).is_file())
    template = Template(name=name, folder=folder.resolve(), options=_read_options(folder))
    _check_source(template)
    return template


def _folders(settings: ReportSettings) -> list[Path]:
    own = settings.template_folder
    return [own.expanduser(), _PACKAGED] if own else [_PACKAGED]


def _read_options(folder: Path) -> TemplateOptions:
    file = folder / _OPTIONS_FILE
    try:
        return TemplateOptions.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        path, text = first_problem(error, TemplateOptions)
        raise ConfigurationError(f"{file}: {path}: {text}") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} can't be read as TOML: {error}") from error


def _check_source(template: Template) -> None:
    """Refuse a template that Typst would fetch packages for from the internet."""
    if not template.source.is_file():
        raise ConfigurationError(
            f"template {template.name!r} has no {_SOURCE_FILE}; put one into {template.folder}"
        )
    for file in template.folder.rglob("*.typ"):
        if "@preview/" in file.read_text(encoding="utf-8", errors="replace"):
            raise ConfigurationError(
                f"{file} imports a package of Typst's registry, which would be downloaded while "
                "a report is made; copy what it needs into the template's folder"
            )
