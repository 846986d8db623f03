"""JSON as a database can hold it: bounded in depth and size, without NaN, NUL or lone surrogates.

Python reads more than JSON allows, and PostgreSQL stores less than JSON allows. What either of them
would trip over is refused here, with the path of the value.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeGuard

from noa_flows.errors import EnvelopeError
from noa_flows.validation import dotted

_Path = tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonLimits:
    """How much of a message is read."""

    max_body_bytes: int
    max_nesting: int


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a value read from JSON is an object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Whether a value read from JSON is an array."""
    return isinstance(value, list)


def dump_json(value: object) -> bytes:
    """Write compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def load_json(body: bytes, limits: JsonLimits, *, path: str = "") -> Any:
    """Read one JSON value.

    Raises:
        EnvelopeError: Too large, not UTF-8, not JSON, nested too deep, or with a value that a
            database can't hold; with the path of that value below `path`.
    """
    if len(body) > limits.max_body_bytes:
        raise _refusal(
            f"the body has {len(body)} bytes; at most {limits.max_body_bytes} are taken "
            "(setting `bridge.max_body_bytes`)"
        )
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _refusal(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise _refusal(f"nested deeper than {limits.max_nesting} levels") from error
    except ValueError as error:  # JSONDecodeError, and integers too long for Python
        raise _refusal(f"not JSON: {error}") from error
    _check_values(value, limits.max_nesting, (path,) if path else ())
    return value


def _check_values(root: object, max_nesting: int, start: _Path) -> None:
    """Walk over all values without recursion, since the depth is the sender's choice."""
    stack: list[tuple[object, _Path]] = [(root, start)]
    while stack:
        value, path = stack.pop()
        if is_object(value) or is_array(value):
            if len(path) - len(start) >= max_nesting:
                raise _refusal(f"nested deeper than {max_nesting} levels", path[:8])
            stack.extend((child, (*path, step)) for step, child in _children(value, path))
        elif isinstance(value, str):
            _check_text(value, path)
        elif isinstance(value, float) and not math.isfinite(value):
            raise _refusal("the number is too large for a double", path)


def _children(value: object, path: _Path) -> Iterator[tuple[int | str, Any]]:
    if is_array(value):
        yield from enumerate(value)
    elif is_object(value):
        for name, child in value.items():
            _check_text(name, path)
            yield name, child


def _check_text(text: str, path: _Path) -> None:
    if "\0" in text:
        raise _refusal("holds a NUL character, which a database can't store", path)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _refusal("holds half of a surrogate pair, which isn't Unicode text", path) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _refusal(text: str, path: _Path = ()) -> EnvelopeError:
    return EnvelopeError(text, reason="schema", path=dotted(path))
