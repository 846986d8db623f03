"""Reads the settings file: TOML, YAML or JSON, as its suffix says."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

#: The files that are looked for in the working folder.
FILE_NAMES: Final = ("noa.toml", "noa.yaml", "noa.json")


class UnreadableFileError(Exception):
    """The file can't be read as a table: what is wrong, where in the file, and what to do."""


def read_table(path: Path) -> Mapping[Any, Any]:
    """Read the file's table, with its names as they are written there.

    Raises:
        UnreadableFileError: The file is missing, can't be opened or parsed, or holds no table.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise UnreadableFileError(
            f"unknown kind of file; give one that ends with {', '.join(_PARSERS)}"
        )
    content = parse(_text_of(path))
    if not isinstance(content, Mapping):
        raise UnreadableFileError(
            "the top level is no table; begin with a group such as `provider`"
        )
    return cast("Mapping[Any, Any]", content)


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise UnreadableFileError("no such file; make it, or unset NOA_CONFIG") from error
    except OSError as error:
        raise UnreadableFileError(
            f"can't be read: {error.strerror}; name a file that may be read"
        ) from error
    except UnicodeDecodeError as error:
        raise UnreadableFileError(
            f"not UTF-8 at byte {error.start}; save the file as UTF-8"
        ) from error


def _parse_toml(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UnreadableFileError(f"not TOML: {error}; correct it there") from error


def _parse_json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"(at line {error.lineno}, column {error.colno})"
        raise UnreadableFileError(f"not JSON: {error.msg} {place}; correct it there") from error


def _parse_yaml(text: str) -> object:
    import yaml

    try:
        content: object = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        reason = _without_quotes(str(error.problem))
        raise UnreadableFileError(f"not YAML: {reason}{place}; correct it there") from error
    except (yaml.YAMLError, ValueError) as error:
        # Such as a control character, or a date that is none.
        reason = _without_quotes(re.sub(r"\s+", " ", str(error)))
        raise UnreadableFileError(f"not YAML: {reason}; correct it there") from error
    return {} if content is None else content


def _without_quotes(problem: str) -> str:
    """Leave out what YAML quotes of the file: a password that begins with `*` or `!` is no text."""
    return re.sub(r"'(?!<)[^']{2,}'", "'…'", problem)


_PARSERS: Final[Mapping[str, Callable[[str], object]]] = {
    ".toml": _parse_toml,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".json": _parse_json,
}
