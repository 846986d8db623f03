"""Text that every format can hold."""

import re
from typing import Final

#: Control characters but tab and line ends, halves of surrogate pairs, and what XML leaves out.
_UNPRINTABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Leave out the characters that can't stand in a file of text, of XML, or on paper."""
    return _UNPRINTABLE.sub("", text)
