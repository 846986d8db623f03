"""Text that a spreadsheet shows as text, whatever it begins with."""

import re
from typing import Final

#: A spreadsheet takes a cell that begins with one of these for a formula, and formulas can fetch
#: addresses and start programs (https://owasp.org/www-community/attacks/CSV_Injection). Programs
#: for East Asian languages take the full-width forms too.
_FORMULA_STARTS: Final = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
)
#: `-5` and `+4.20` are numbers, and harm nobody.
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?")


def looks_like_formula(text: str) -> bool:
    """Tell whether a spreadsheet would calculate a text instead of showing it."""
    return text.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(text)
