"""Where a finished report is kept, under a name that a rerun finds again."""

import hashlib
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from noa_flows.files import write_atomically

#: Letters of a delivery id that stand in a file's name as they are.
_MAX_ID: Final = 80
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")


class ReportFile:
    """The file of one delivery's report.

    A rerun of the same delivery replaces the file. The file's time is the moment that the report
    names as its own, so that a rerun finds it there, and makes the same bytes again.

    Example:
        >>> ReportFile(Path("/srv"), "monthly-report", "order/17", "pdf").path.name
        'monthly-report-order-17-ba125075.pdf'
    """

    def __init__(self, folder: Path, template: str, delivery_id: str, suffix: str) -> None:
        self.path = folder / f"{template}-{_file_name(delivery_id)}.{suffix}"

    def generated(self) -> datetime:
        """The moment of the delivery's first report, else now; in UTC, to the second."""
        try:
            moment = datetime.fromtimestamp(self.path.stat().st_mtime, UTC)
        except OSError:
            moment = datetime.now(UTC)
        return moment.replace(microsecond=0)

    def write(self, content: bytes, generated: datetime) -> None:
        """Write the report so that nobody sees half of one.

        Raises:
            OSError: The folder can't be made, or the file can't be written.
        """
        write_atomically(self.path, content)
        os.utime(self.path, (generated.timestamp(), generated.timestamp()))


def _file_name(delivery_id: str) -> str:
    """Make a delivery id a part of a file name; where that changes it, a digest keeps it apart."""
    safe = _UNSAFE.sub("-", delivery_id).strip("-")[:_MAX_ID]
    if safe == delivery_id:
        return safe
    digest = hashlib.sha256(delivery_id.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{safe}-{digest}" if safe else digest
