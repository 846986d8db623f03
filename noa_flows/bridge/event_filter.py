"""Which of a queue's events a route wants: the filters of a subscriber.

The dialects `exact`, `prefix`, `suffix`, `all`, `any` and `not` are those of the CloudEvents
Subscriptions API (https://github.com/cloudevents/spec/blob/main/subscriptions/spec.md, 3.2.4). A
name is that of an attribute, `data.` and the way to a value of the payload, or `headers.` and the
name of a header. `schema` is a JSON Schema that the payload has to fit, for what the others can't
say.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from noa_flows.errors import ConfigurationError
from noa_flows.event import Event
from noa_flows.strict_json import is_array, is_object
from noa_flows.validation import closest
from noa_flows.webhooks.schema_rules import check_schema_rules

#: An event's values by name: attributes, `data`, and `headers`.
View = Mapping[str, Any]
Test = Callable[[View], bool]

_MISSING: Final = object()


class EventFilter:
    """A list of filters, all of which an event has to pass; an empty one lets everything pass.

    Example:
        >>> paid = EventFilter([{"exact": {"type": "noa.job.report", "data.paid": True}}])
        >>> paid.accepts(Event(source="/shop", job_type="report", data={"paid": False}), {})
        False

    Raises:
        ConfigurationError: A filter isn't one of the dialects; names the place.
    """

    def __init__(self, filters: Sequence[Mapping[str, Any]] = ()) -> None:
        self._tests = [_compile(one, f"filters[{place}]") for place, one in enumerate(filters)]

    def accepts(self, event: Event, headers: Mapping[str, str]) -> bool:
        """Whether the event passes all filters."""
        if not self._tests:
            return True
        lowered = {name.lower(): text for name, text in headers.items()}
        view = {**event.attributes(), "data": event.data, "headers": lowered}
        return all(test(view) for test in self._tests)


def _compile(definition: object, path: str) -> Test:
    if not is_object(definition) or len(definition) != 1:
        raise ConfigurationError(
            f"{path}: must be an object with one key, the dialect: {', '.join(_DIALECTS)}"
        )
    ((dialect, argument),) = definition.items()
    if dialect not in _DIALECTS:
        raise ConfigurationError(
            f"{path}: unknown dialect {dialect!r}{closest(dialect, _DIALECTS)}; "
            f"there are {', '.join(_DIALECTS)}"
        )
    return _DIALECTS[dialect](argument, f"{path}.{dialect}")


def _exact(argument: object, path: str) -> Test:
    wanted = _by_name(argument, path)
    return lambda view: all(_same(_look_up(view, name), wanted[name]) for name in wanted)


def _prefix(argument: object, path: str) -> Test:
    return _on_text(argument, path, str.startswith)


def _suffix(argument: object, path: str) -> Test:
    return _on_text(argument, path, str.endswith)


def _on_text(argument: object, path: str, holds: Callable[[str, str], bool]) -> Test:
    wanted = _by_name(argument, path)
    for name, text in wanted.items():
        if not isinstance(text, str) or not text:
            raise ConfigurationError(f"{path}.{name}: must be a text that isn't empty")

    def test(view: View) -> bool:
        values = ((_look_up(view, name), text) for name, text in wanted.items())
        return all(isinstance(value, str) and holds(value, text) for value, text in values)

    return test


def _all(argument: object, path: str) -> Test:
    return _combined(argument, path, all)


def _any(argument: object, path: str) -> Test:
    return _combined(argument, path, any)


def _combined(argument: object, path: str, combine: Callable[[Iterable[bool]], bool]) -> Test:
    if not is_array(argument) or not argument:
        raise ConfigurationError(f"{path}: must be a list of filters that isn't empty")
    tests = [_compile(one, f"{path}[{place}]") for place, one in enumerate(argument)]
    return lambda view: combine(test(view) for test in tests)


def _not(argument: object, path: str) -> Test:
    test = _compile(argument, path)
    return lambda view: not test(view)


def _schema(argument: object, path: str) -> Test:
    from jsonschema import Draft202012Validator, SchemaError

    if not is_object(argument):
        raise ConfigurationError(f"{path}: must be an object, a JSON Schema")
    try:
        check_schema_rules(argument)
        Draft202012Validator.check_schema(argument)
    except (SchemaError, ValueError) as error:
        text = error.message if isinstance(error, SchemaError) else str(error)
        raise ConfigurationError(f"{path}: not a JSON Schema that can be used: {text}") from error
    validator = Draft202012Validator(argument)
    return lambda view: validator.is_valid(view["data"])


_DIALECTS: Final[Mapping[str, Callable[[object, str], Test]]] = {
    "exact": _exact,
    "prefix": _prefix,
    "suffix": _suffix,
    "all": _all,
    "any": _any,
    "not": _not,
    "schema": _schema,
}


def _by_name(argument: object, path: str) -> Mapping[str, Any]:
    if not is_object(argument) or not argument:
        raise ConfigurationError(
            f'{path}: must be an object of names and values, such as {{"type": "noa.job.report"}}'
        )
    return argument


def _look_up(view: View, name: str) -> object:
    """Find the value of a name; an attribute's name has no dots, so that a dot leads inside."""
    head, _, rest = name.partition(".")
    value: object = view.get(head, _MISSING)
    if head == "headers" and is_object(value):
        # A header's own name may have dots.
        return value.get(rest.lower(), _MISSING)
    for step in rest.split(".") if rest else ():
        value = value.get(step, _MISSING) if is_object(value) else _MISSING
    return value


def _same(value: object, wanted: object) -> bool:
    # In JSON true is not 1, as it is in Python.
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)
