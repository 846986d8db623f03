"""Turns pydantic's errors into one sentence a person can act on: path, what is wrong, remedy."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_LONGEST_NAME: Final = 100
_LONGEST_TEXT: Final = 500


def dotted(location: Sequence[int | str]) -> str:
    """Write a location as a path: `("data", 0, "name")` → `data[0].name`."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{shown(step)}" if path else shown(step)
    return path


def shown(text: str, limit: int = _LONGEST_NAME) -> str:
    """Write what a sender has chosen so that a log holds it, and a terminal is not moved by it."""
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= limit else f"{text[:limit]}…"


def closest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that was probably meant, as `; did you mean 'x'?`, or nothing."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def first_problem(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """Return the path of the first wrong field, and what is wrong with it.

    The value itself is left out: it may be secret, and it may be long.
    """
    details = error.errors(include_url=False, include_input=False)
    path, text = dotted(details[0]["loc"]), _sentence(details[0], model)
    others = len(details) - 1
    return path, f"{text} (and {others} more)" if others else text


def _sentence(detail: ErrorDetails, model: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        known = model.model_fields if len(detail["loc"]) == 1 else ()
        return f"unknown field{closest(str(detail['loc'][-1]), known)}"
    if detail["type"] == "missing":
        return "missing; this field is required"
    # A validator may quote what was sent.
    return shown(detail["msg"], _LONGEST_TEXT)
