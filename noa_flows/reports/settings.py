"""What an operator decides about reports."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

#: Rows that an Excel sheet holds, less the header and the totals.
EXCEL_DATA_ROWS = 1_048_576 - 2


class ReportSettings(BaseModel):
    """Where reports go, where templates come from, and how large a report may be.

    Example:
        >>> ReportSettings(output_folder=Path("/srv/reports")).folder
        PosixPath('/srv/reports')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    output_folder: Path | None = Field(
        default=None,
        description="Folder that finished reports are written to; it is created when the first "
        "report is. Default: `.noa/reports` in the home folder of whoever runs the worker.",
    )
    template_folder: Path | None = Field(
        default=None,
        description="Folder of your own templates, one sub-folder each; a template of yours "
        "replaces a packaged one of the same name. Default: packaged templates only.",
    )
    organisation: str = Field(
        default="", max_length=120, description="Name printed at the head and foot of reports."
    )
    max_rows: int = Field(
        default=200_000,
        ge=1,
        le=EXCEL_DATA_ROWS,
        description="Rows above which an Excel or CSV report is refused. The upper bound is what "
        "an Excel sheet holds.",
    )
    max_pdf_rows: int = Field(
        default=10_000,
        ge=1,
        le=100_000,
        description="Rows above which a PDF report is refused. Setting pages takes some 100 MB of "
        "memory per 1,000 rows of nine columns.",
    )
    max_tagged_pdf_rows: int = Field(
        default=5_000,
        ge=0,
        le=20_000,
        description="Rows up to which a PDF is tagged for screen readers. Tags make a long "
        "report's file some fifteen times larger.",
    )
    csv_byte_order_mark: bool = Field(
        default=False,
        description="Begin CSV reports with a UTF-8 byte order mark. Excel needs it to read other "
        "than English letters from a double-clicked file; most programs take it for a part of "
        "the first column's name.",
    )

    @property
    def folder(self) -> Path:
        """The absolute output folder, with the default worked out when it is asked for."""
        return (self.output_folder or Path.home() / ".noa" / "reports").expanduser().absolute()
