"""The number of rows beyond which a report is refused."""

from noa_flows.errors import PayloadError
from noa_flows.reports.settings import ReportSettings
from noa_flows.reports.table import Table


def check_row_limit(table: Table, settings: ReportSettings) -> None:
    """Refuse more rows than the operator allows.

    Raises:
        PayloadError: There are too many.
    """
    rows = len(table.rows)
    if rows > settings.max_rows:
        raise PayloadError(
            f"{rows:,} rows are more than a report holds ({settings.max_rows:,}); "
            "send fewer rows, or ask the operator to raise `reports.max_rows`",
            path="data",
        )
