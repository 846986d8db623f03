"""Turns what pydantic says about the settings into mistakes that name their source."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from noa_flows.payload_names import camel_case
from noa_flows.settings.display import shown_value, without_logins
from noa_flows.settings.layers import NOTHING, FieldPath, Layer, Mistake
from noa_flows.settings.shape import Shape
from noa_flows.validation import closest, dotted

#: What pydantic's location ends with where the key of a table is wrong, not its value.
_KEY = "[key]"


def explained(error: ValidationError, layers: Sequence[Layer], shape: Shape) -> Iterator[Mistake]:
    """Say of each error which sources are to blame, and what to do there."""
    for detail in error.errors(include_url=False):
        place = _located(detail, shape)
        blamed = _blamed(layers, place.path)
        yield Mistake(
            where=", ".join(layer.where for layer in blamed) or "settings",
            path=blamed[0].name_of(place.path) if blamed else dotted(place.path),
            value=_shown(detail, blamed, place),
            remedy=_remedy(detail, place),
        )


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where an error is, in the terms of the settings' schema."""

    path: FieldPath
    parent: Shape
    #: None for an unknown field.
    shape: Shape | None

    @property
    def name(self) -> str:
        return str(self.path[-1]) if self.path else ""


def _located(detail: ErrorDetails, root: Shape) -> _Place:
    """Walk down to the error. Pydantic's location also holds the discriminators of unions."""
    parent, shape, path = root, root, ()
    for step in detail["loc"]:
        if step == _KEY:
            break
        if branch := shape.chosen(step):
            shape = branch
            continue
        parent, child, path = shape, shape.child(step), (*path, step)
        if child is None:
            return _Place(path=path, parent=parent, shape=None)
        shape = child
    tag = shape.discriminator() if detail["type"].startswith("union_tag") else None
    if tag:
        return _Place(path=(*path, tag), parent=shape, shape=shape.child(tag))
    return _Place(path=path, parent=parent, shape=shape)


def _blamed(layers: Sequence[Layer], path: FieldPath) -> list[Layer]:
    """Find who gave the value: the highest source, or all of them where it is a merged table.

    For a field that nobody gave it is whoever gave the table that it is missing from.
    """
    for length in range(len(path), 0, -1):
        holders = [layer for layer in layers if layer.holds(path[:length])]
        if holders:
            table = isinstance(holders[0].value(path[:length]), Mapping)
            return holders if table else holders[:1]
    return []


def _shown(detail: ErrorDetails, blamed: Sequence[Layer], place: _Place) -> str | None:
    value = blamed[0].value(place.path) if blamed else NOTHING
    if (
        value is NOTHING
        or _KEY in detail["loc"]
        or (detail["type"] == "value_error" and isinstance(value, Mapping))
    ):
        return None
    if place.shape is None:
        return shown_value(value, name=place.name, secret=_has_secret_field(place.parent))
    return shown_value(value, secret=place.shape.holds_secret())


def _remedy(detail: ErrorDetails, place: _Place) -> str:
    if _KEY in detail["loc"]:
        return f"rename it: {detail['msg']}"
    if place.shape is None:
        return f"unknown{closest(place.name, _spelt_alike(place.name, place.parent.names()))}"
    if detail["type"] == "missing":
        return f"missing; {place.shape.remedy()}"
    own_words = detail.get("ctx", {}).get("error")
    # A validator's words may quote the value.
    if own_words and not place.shape.is_secret():
        return without_logins(str(own_words))
    return place.shape.remedy()


def _spelt_alike(name: str, known: Sequence[str]) -> Sequence[str]:
    """Write the known names in camelCase where the unknown one is."""
    return known if name == name.lower() else [camel_case(each) for each in known]


def _has_secret_field(group: Shape) -> bool:
    """Tell whether an unknown field may be a misspelt secret, judging by its neighbours."""
    return any(child.is_secret() for name in group.names() if (child := group.child(name)))
