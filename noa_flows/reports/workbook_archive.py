"""Workbooks as bytes that depend on nothing but what is in them."""

import re
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

if TYPE_CHECKING:
    from openpyxl import Workbook

#: The earliest time that a ZIP archive can name.
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_CORE: Final = "docProps/core.xml"
_MODIFIED: Final = re.compile(rb"(<dcterms:modified[^>]*>)[^<]*")


def pack_workbook(workbook: "Workbook", modified: datetime) -> bytes:
    """Save a workbook without the present time, which openpyxl writes into it.

    Args:
        workbook: What to save; it can't be used afterwards.
        modified: When the workbook says that it was last changed, in UTC.
    """
    from openpyxl.writer.excel import ExcelWriter

    draft = BytesIO()
    ExcelWriter(workbook, ZipFile(draft, "w", ZIP_STORED, allowZip64=True)).save()
    stamp = f"{modified:%Y-%m-%dT%H:%M:%SZ}".encode()
    packed = BytesIO()
    with ZipFile(draft) as source, ZipFile(packed, "w", ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == _CORE:
                content = _MODIFIED.sub(rb"\g<1>" + stamp, content)
            target.writestr(ZipInfo(name, _EPOCH), content, ZIP_DEFLATED)
    return packed.getvalue()
