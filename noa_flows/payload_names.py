"""Turns the camelCase names that JavaScript producers send into the payload's snake case.

Only names that a payload model knows are turned. Free-form parts keep their keys.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from noa_flows.errors import PayloadError
from noa_flows.payload import Payload
from noa_flows.strict_json import is_array, is_object


def camel_case(name: str) -> str:
    """Write a snake-case name in camelCase: `max_backups` → `maxBackups`."""
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)


def snake_cased(data: Mapping[str, Any], model: type[Payload], path: str = "") -> dict[str, Any]:
    """Rename the known fields of a payload, and of the models nested in it.

    Raises:
        PayloadError: Both spellings of one name are there.
    """
    known = {camel_case(name): name for name in model.model_fields}
    renamed: dict[str, Any] = {}
    for sent, value in data.items():
        name = sent if sent in model.model_fields else known.get(sent, sent)
        if name in renamed:
            raise PayloadError(
                f"sent twice, as {name!r} and as {camel_case(name)!r}; send one of them",
                path=f"{path}{name}",
            )
        field = model.model_fields.get(name)
        nested = next(_models_in(field.annotation), None) if field else None
        renamed[name] = _nested(value, nested, f"{path}{name}") if nested else value
    return renamed


def _nested(value: Any, model: type[Payload], path: str) -> Any:
    if is_object(value):
        return snake_cased(value, model, f"{path}.")
    if is_array(value):
        return [_nested(item, model, f"{path}[{index}]") for index, item in enumerate(value)]
    return value


def _models_in(annotation: object) -> Iterator[type[Payload]]:
    """Find the payload models inside `X | None`, `list[X]`, `Annotated[X, …]`."""
    if isinstance(annotation, type) and issubclass(annotation, Payload):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
