"""What one source says about the settings, and how several of them become one tree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from noa_flows.payload_names import camel_case
from noa_flows.settings.shape import Shape
from noa_flows.validation import dotted

FieldPath = tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One thing that is wrong, as one line: where, which field, which value, what to do."""

    where: str
    path: str = ""
    #: As it may be shown; None where there is no value to show.
    value: str | None = None
    remedy: str

    def __str__(self) -> str:
        """Write `noa.toml: workers.min_workers = 0: give an integer from 1 to 1000`."""
        subject = f"{self.where}: {self.path}" if self.path else self.where
        shown = subject if self.value is None else f"{subject} = {self.value}"
        return f"{shown}: {self.remedy}"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The settings that one source gives, in snake case."""

    #: The source as it is named to people: a file's name, an environment variable's, `argument`.
    where: str
    values: Mapping[str, Any]
    #: For a field that was given in camelCase: its path as it was written.
    written: Mapping[FieldPath, str] = field(default_factory=dict[FieldPath, str])

    def holds(self, path: FieldPath) -> bool:
        """Tell whether this source says anything about the field."""
        return not isinstance(self.value(path), _Nothing)

    def value(self, path: FieldPath) -> Any:
        """Return what this source gives for the field; `NOTHING` where it is silent."""
        value: Any = self.values
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return NOTHING
        return value

    def name_of(self, path: FieldPath) -> str:
        """Write the path as this source does, as far as it does."""
        for length in range(len(path), 0, -1):
            if above := self.written.get(path[:length]):
                return above + dotted(path).removeprefix(dotted(path[:length]))
        return dotted(path)


class _Nothing:
    """The type of what a silent source says."""


NOTHING = _Nothing()


def merged(layers: Sequence[Layer]) -> dict[str, Any]:
    """Lay the sources over each other, the first one on top; only tables are merged."""
    tree: dict[str, Any] = {}
    for layer in reversed(layers):
        tree = _laid_over(layer.values, tree)
    return tree


def suited(layers: Sequence[Layer], provider: str) -> list[Layer]:
    """Leave out what a source says about a provider that another source has overruled."""
    return [_suited(layer, provider) for layer in layers]


def read_layer(where: str, values: Mapping[Any, Any], shape: Shape) -> tuple[Layer, list[Mistake]]:
    """Turn known camelCase names into snake case; both spellings of one name are a mistake."""
    reading = _Reading(where)
    snake = reading.table(values, shape, (), ())
    return Layer(where=where, values=snake, written=reading.written), reading.mistakes


@dataclass
class _Reading:
    """The walk through one source's tables."""

    where: str
    written: dict[FieldPath, str] = field(default_factory=dict[FieldPath, str])
    mistakes: list[Mistake] = field(default_factory=list[Mistake])

    def table(
        self, values: Mapping[Any, Any], shape: Shape | None, path: FieldPath, spelt: FieldPath
    ) -> dict[str, Any]:
        known = {camel_case(name): name for name in shape.names()} if shape else {}
        table: dict[str, Any] = {}
        for key, value in values.items():
            name = known.get(str(key), str(key))
            here, spelt_here = (*path, name), (*spelt, str(key))
            if name in table:
                self._refuse_both_spellings(spelt, name)
            if here != spelt_here:
                self.written[here] = dotted(spelt_here)
            table[name] = self._value(value, shape and shape.child(name), here, spelt_here)
        return table

    def _value(self, value: Any, shape: Shape | None, path: FieldPath, spelt: FieldPath) -> Any:
        if isinstance(value, Mapping):
            return self.table(cast("Mapping[Any, Any]", value), shape, path, spelt)
        if isinstance(value, list | tuple):
            return [
                self._value(item, shape and shape.child(index), (*path, index), (*spelt, index))
                for index, item in enumerate(cast("Sequence[Any]", value))
            ]
        return value

    def _refuse_both_spellings(self, table: FieldPath, name: str) -> None:
        camel = camel_case(name)
        self.mistakes.append(
            Mistake(
                where=self.where,
                path=dotted((*table, name)),
                remedy=f"given twice, as `{name}` and as `{camel}`; give one of them",
            )
        )


def _laid_over(upper: Mapping[str, Any], lower: Mapping[str, Any]) -> dict[str, Any]:
    tree = dict(lower)
    for name, value in upper.items():
        above, below = _table(value), _table(tree.get(name))
        tree[name] = value if above is None or below is None else _laid_over(above, below)
    return tree


def _table(value: object) -> Mapping[str, Any] | None:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None


def _suited(layer: Layer, provider: str) -> Layer:
    group = _table(layer.values.get("provider"))
    if group is None or group.get("type", provider) == provider:
        return layer
    kept = {name: value for name, value in group.items() if name != "config"}
    return replace(layer, values={**layer.values, "provider": kept})
