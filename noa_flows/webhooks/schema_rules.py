"""What a JSON Schema in a message may be, as far as that can be told without running it."""

import json
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

from pydantic import JsonValue

MAX_SCHEMA_BYTES: Final = 65_536
MAX_SCHEMA_DEPTH: Final = 50
DRAFTS: Final = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
)

_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_ANCHORS: Final = ("/$anchor", "/$dynamicAnchor")

Node = tuple[str, JsonValue]


def check_schema_rules(schema: dict[str, JsonValue]) -> None:
    """Refuse a schema that is too large, too deep, or refers to anything outside itself.

    Whether its keywords are used as they should be is checked later, in a process of its own.

    Raises:
        ValueError: Naming the place in the schema, and the rule.
    """
    draft = schema.get("$schema", DRAFTS[0])
    if not isinstance(draft, str) or draft.rstrip("#") not in DRAFTS:
        raise ValueError(f"$schema is not one of the known drafts: {', '.join(DRAFTS)}")
    nodes = list(_nodes(schema))
    if len(json.dumps(schema, ensure_ascii=False).encode()) > MAX_SCHEMA_BYTES:
        raise ValueError(f"the schema is larger than {MAX_SCHEMA_BYTES} bytes")
    anchors = {str(value) for path, value in nodes if path.endswith(_ANCHORS)}
    for path, value in nodes:
        keyword = path.rpartition("/")[2]
        if keyword in _REFERENCES and isinstance(value, str):
            _check_reference(path, value, schema, anchors)
        if keyword == "$id" and isinstance(value, str) and path != "#/$id":
            raise ValueError(f"{path}: only the schema as a whole may have an $id")


def _nodes(schema: JsonValue) -> Iterator[Node]:
    """Walk the schema without recursion, since its depth is what is in question."""
    waiting: list[tuple[Node, int]] = [(("#", schema), 0)]
    while waiting:
        (path, value), depth = waiting.pop()
        if depth > MAX_SCHEMA_DEPTH:
            raise ValueError(f"the schema is nested deeper than {MAX_SCHEMA_DEPTH} levels")
        yield path, value
        waiting += [((f"{path}/{key}", inner), depth + 1) for key, inner in _children(value)]


def _children(value: JsonValue) -> list[tuple[str, JsonValue]]:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list):
        return [(str(index), inner) for index, inner in enumerate(value)]
    return []


def _check_reference(path: str, target: str, schema: JsonValue, anchors: set[str]) -> None:
    if not target.startswith("#"):
        raise ValueError(
            f"{path}: refers to something outside the schema, which is never fetched; "
            "put the definition under $defs and refer to it as '#/$defs/…'"
        )
    if target.startswith("#/") and not _points_somewhere(target, schema):
        raise ValueError(f"{path}: refers to {target[:100]!r}, which the schema does not have")
    if target[1:2] not in ("", "/") and target[1:] not in anchors:
        raise ValueError(f"{path}: refers to the anchor {target[:100]!r}, which is not there")


def _points_somewhere(pointer: str, schema: JsonValue) -> bool:
    """Follow a JSON pointer (RFC 6901) from the root."""
    value = schema
    for step in unquote(pointer).split("/")[1:]:
        children = dict(_children(value))
        key = step.replace("~1", "/").replace("~0", "~")
        if key not in children:
            return False
        value = children[key]
    return True
