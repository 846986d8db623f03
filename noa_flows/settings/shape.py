"""Reads the settings' JSON Schema: which names there are, what is secret, what to give."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Node = Mapping[str, Any]

_BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "from above",
    "minLength": "from",
    "maximum": "to",
    "maxLength": "to",
}


@dataclass(frozen=True)
class Shape:
    """What may stand at one path of the settings.

    Where the schema leaves a choice, such as between the providers, all of its branches count.
    """

    node: Node
    definitions: Mapping[str, Node]

    @classmethod
    def of_schema(cls, schema: Node) -> "Shape":
        """Begin at the root of a JSON Schema."""
        return cls(schema, schema.get("$defs", {}))

    def child(self, step: int | str) -> "Shape | None":
        """Go one step down; None where nothing may stand there."""
        found = [node for branch in self._branches() for node in _steps(branch, step)]
        return self._with({"anyOf": found}) if found else None

    def at(self, path: Sequence[int | str]) -> "Shape | None":
        """Go all steps down; None where nothing may stand there."""
        shape: Shape | None = self
        for step in path:
            shape = shape.child(step) if shape else None
        return shape

    def chosen(self, tag: int | str) -> "Shape | None":
        """Take the branch of a union that has this discriminator."""
        mapping = self._discriminator().get("mapping", {})
        return self._with({"$ref": mapping[tag]}) if tag in mapping else None

    def discriminator(self) -> str | None:
        """Name the field that tells the branches of a union apart."""
        return self._discriminator().get("propertyName")

    def names(self) -> list[str]:
        """List the fields, in snake case."""
        return list(
            dict.fromkeys(n for each in self._branches() for n in each.get("properties", {}))
        )

    def leaves(self, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        """Walk over the paths of all fields that have no named fields below them."""
        names = self.names()
        if not names:
            yield path
        for name in names:
            if child := self.child(name):
                yield from child.leaves((*path, name))

    def takes(self, *kinds: str) -> bool:
        """Tell whether a value of one of these JSON types may stand here."""
        return any(branch.get("type") in kinds for branch in self._branches())

    def is_secret(self) -> bool:
        """Tell whether the value is never to be shown."""
        return any(branch.get("writeOnly") for branch in self._branches())

    def holds_secret(self) -> bool:
        """Tell whether this value, or one below it, is never to be shown."""
        return self.is_secret() or any(
            child.holds_secret() for name in self.names() if (child := self.child(name))
        )

    def remedy(self) -> str:
        """Say what to give, such as `give an integer from 1 to 65535`."""
        branches = self._branches()
        choices = [str(each) for branch in branches for each in _choices(branch)]
        if choices:
            return f"give one of {', '.join(dict.fromkeys(choices))}"
        wanted = (_wanted(branch) for branch in branches if branch.get("type") != "null")
        return f"give {' or '.join(dict.fromkeys(wanted))}"

    def _with(self, node: Node) -> "Shape":
        return Shape(node, self.definitions)

    def _branches(self) -> list[Node]:
        """Follow references and choices down to the nodes that say something themselves."""
        return list(self._resolved(self.node))

    def _resolved(self, node: Node) -> Iterator[Node]:
        parts = [*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())]
        if "$ref" in node:
            parts.append(self.definitions[node["$ref"].rpartition("/")[2]])
        if not parts:
            yield node
        passed_on = {word: node[word] for word in ("examples", "writeOnly") if word in node}
        for part in parts:
            yield from self._resolved({**passed_on, **part})

    def _discriminator(self) -> Node:
        """Find the discriminator, which may stand behind an `anyOf` of one."""
        node = self.node
        while "discriminator" not in node and len(node.get("anyOf", ())) == 1:
            node = node["anyOf"][0]
        return node.get("discriminator", {})


def _choices(branch: Node) -> Sequence[object]:
    return [branch["const"]] if "const" in branch else branch.get("enum", ())


def _steps(branch: Node, step: int | str) -> list[Node]:
    if isinstance(step, int):
        return [branch["items"]] if "items" in branch else []
    if step in branch.get("properties", {}):
        return [branch["properties"][step]]
    free = [
        *branch.get("patternProperties", {}).values(),
        branch.get("additionalProperties", False),
    ]
    return [{} if each is True else each for each in free if each is not False]


def _wanted(branch: Node) -> str:
    match branch.get("type"):
        case "integer":
            return f"an integer{_bounds(branch)}"
        case "number":
            return f"a number{_bounds(branch)}"
        case "boolean":
            return "true or false"
        case "array":
            return f"a list{' with one entry or more' if branch.get('minItems') else ''}"
        case "object":
            return "a table"
        case _:
            return _wanted_text(branch)


def _wanted_text(branch: Node) -> str:
    if "examples" in branch:
        return f"text such as `{branch['examples'][0]}`"
    if branch.get("format") in {"path", "file-path", "directory-path"}:
        return "a path"
    if "pattern" in branch:
        return f"text that matches `{branch['pattern']}`"
    bounds = _bounds(branch)
    return f"text{bounds} characters long" if bounds else "text"


def _bounds(branch: Node) -> str:
    text = "".join(f" {word} {branch[bound]}" for bound, word in _BOUNDS.items() if bound in branch)
    return f" up{text}" if text.startswith(" to") else text
