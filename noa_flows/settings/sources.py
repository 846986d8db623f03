"""Where settings come from: environment variables, the original's names for them, and a file."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from noa_flows.settings.display import shown_value
from noa_flows.settings.file import FILE_NAMES, UnreadableFileError, read_table
from noa_flows.settings.layers import FieldPath, Layer, Mistake, read_layer
from noa_flows.settings.shape import Shape
from noa_flows.validation import closest

Found = tuple[list[Layer], list[Mistake]]

PREFIX: Final = "NOA_"
#: Names the file to read, and so isn't a field itself.
FILE_VARIABLE: Final = "NOA_CONFIG"
#: Variables of the test suite, which names its servers by them.
TEST_PREFIX: Final = "NOA_TEST_"

#: The original's names that belong to one provider.
_PROVIDER_VARIABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "redis": {"REDIS_HOST": "host", "REDIS_PORT": "port", "REDIS_PASSWORD": "password"},
    "rabbitmq": {
        "RABBITMQ_HOST": "hostname",
        "RABBITMQ_USER": "username",
        "RABBITMQ_PASSWORD": "password",
    },
    "sqs": {
        "AWS_REGION": "region",
        "AWS_ACCESS_KEY_ID": "access_key_id",
        "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    },
}
_OTHER_VARIABLES: Final[Mapping[str, FieldPath]] = {
    "SMTP_HOST": ("smtp", "host"),
    "SMTP_PORT": ("smtp", "port"),
    "SMTP_USER": ("smtp", "user"),
    "SMTP_PASSWORD": ("smtp", "password"),
    "LOG_LEVEL": ("log_level",),
}
#: Where no source names the provider, the first of these that is set does. AWS's variables are
#: not among them: they are set on many machines, for other programs.
_CHOOSING_VARIABLES: Final = {"REDIS_HOST": "redis", "RABBITMQ_HOST": "rabbitmq"}


def environment_layers(environment: Mapping[str, str], shape: Shape) -> Found:
    """Read the variables `NOA_<GROUP>__<FIELD>`, each as a layer, the most particular first.

    An empty variable counts as one that isn't set, since a container can't unset one.
    """
    layers: list[Layer] = []
    mistakes: list[Mistake] = []
    for name, text in _own_variables(environment):
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        there = shape.at(path)
        if there is None:
            mistakes.append(_unknown_variable(name, text, shape))
            continue
        value = _parsed(text, there)
        if value is None:
            mistakes.append(_unreadable_variable(name, text, there))
            continue
        layer, wrong = read_layer(name, _nested(path, value), shape)
        layers.append(layer)
        mistakes += wrong
    return sorted(layers, key=lambda layer: -layer.where.count("__")), mistakes


def original_layers(environment: Mapping[str, str], provider: str) -> list[Layer]:
    """Read the variables that the original read; those of other providers are passed over."""
    own = _PROVIDER_VARIABLES.get(provider, {})
    paths = _OTHER_VARIABLES | {name: ("provider", "config", key) for name, key in own.items()}
    return [
        Layer(where=name, values=_nested(path, environment[name]))
        for name, path in paths.items()
        if environment.get(name)
    ]


def default_layer(environment: Mapping[str, str], layers: list[Layer]) -> Layer:
    """Choose the provider: as the highest source says, else by what is set, else embedded."""
    chosen = next((name for layer in layers if (name := _provider_of(layer))), None)
    chosen = chosen or next(
        (kind for name, kind in _CHOOSING_VARIABLES.items() if environment.get(name)), "embedded"
    )
    return Layer(where="default", values={"provider": {"type": chosen, "config": {}}})


def file_layers(environment: Mapping[str, str], folder: Path, shape: Shape) -> Found:
    """Read the file that `NOA_CONFIG` names, else `noa.toml`, `.yaml` or `.json` in the folder."""
    named = environment.get(FILE_VARIABLE)
    paths = [folder / named] if named else [p for n in FILE_NAMES if (p := folder / n).exists()]
    if len(paths) > 1:
        names = " and ".join(path.name for path in paths)
        remedy = f"keep one of {names}, or name one in {FILE_VARIABLE}"
        return [], [Mistake(where=str(folder), remedy=remedy)]
    if not paths:
        return [], []
    where = str(named or paths[0].name)
    try:
        layer, mistakes = read_layer(where, read_table(paths[0]), shape)
    except UnreadableFileError as error:
        return [], [Mistake(where=where, remedy=str(error))]
    return [layer], mistakes


def _own_variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in environment.items():
        ours = name.startswith(PREFIX) and not name.startswith(TEST_PREFIX)
        if ours and name != FILE_VARIABLE and text:
            yield name, text


def _unknown_variable(name: str, text: str, shape: Shape) -> Mistake:
    known = [PREFIX + "__".join(path).upper() for path in shape.leaves()]
    return Mistake(
        where=name, value=shown_value(text, name=name), remedy=f"unknown{closest(name, known)}"
    )


def _unreadable_variable(name: str, text: str, shape: Shape) -> Mistake:
    kind = '["…"]' if shape.takes("array") else '{"…": …}'
    value = shown_value(text, name=name, secret=shape.holds_secret())
    return Mistake(where=name, value=value, remedy=f"give JSON, as {kind}")


def _parsed(text: str, shape: Shape) -> Any:
    """Read JSON where a table or a list is due; a list of texts may have commas instead.

    Returns None where the text isn't the JSON that is due.
    """
    if shape.takes("object"):
        return _json_of(text, dict)
    if not shape.takes("array"):
        return text
    items = shape.child(0)
    if text.lstrip().startswith("[") or (items and items.takes("object")):
        return _json_of(text, list)
    return [part.strip() for part in text.split(",") if part.strip()]


def _json_of(text: str, kind: type[Any]) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, kind) else None


def _nested(path: FieldPath, value: Any) -> dict[str, Any]:
    for step in reversed(path):
        value = {str(step): value}
    return value


def _provider_of(layer: Layer) -> str | None:
    group = layer.values.get("provider")
    kind: Any = (
        cast("Mapping[str, Any]", group).get("type")
        if isinstance(group, Mapping)
        else getattr(group, "type", None)
    )
    return kind if isinstance(kind, str) else None
