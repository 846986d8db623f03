"""The envelope: CloudEvents ↔ bytes and headers, structured, binary, and the short plain form.

Structured mode has the whole event in the body. Binary mode has the attributes in the headers, with
the prefixes of the Kafka (`ce_`), HTTP (`ce-`) and AMQP (`cloudEvents_`, `cloudEvents:`) bindings.
The plain form is `{"type": "email", "data": {…}}`, with any attribute beside these two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import unquote

from blocks.message import DEFAULT_PRIORITY, HIGHEST_PRIORITY, LOWEST_PRIORITY
from noa_flows.errors import EnvelopeError
from noa_flows.event import SPEC_VERSION, TEXT_ATTRIBUTES, TIME_ATTRIBUTES, TYPE_PREFIX, Event
from noa_flows.strict_json import JsonLimits, dump_json, is_object, load_json
from noa_flows.validation import closest, dotted, shown

CLOUDEVENTS_JSON: Final = "application/cloudevents+json"

_BINARY_PREFIXES: Final = ("ce_", "ce-", "cloudevents_", "cloudevents:")
_KNOWN: Final = frozenset(
    {"specversion", "id", "source", "type", "data", "priority", "datacontenttype", "dataschema"}
    | TEXT_ATTRIBUTES.keys()
    | TIME_ATTRIBUTES.keys()
)
#: Block type slug → the prefix of attributes in binary mode, where CloudEvents has a binding.
BINDING_PREFIXES: Final[Mapping[str, str]] = {
    "kafka-broker": "ce_",
    "rabbitmq-broker": "cloudEvents_",
}
_MAX_ATTRIBUTE_LENGTH: Final = 1024
_PRIORITIES: Final = range(HIGHEST_PRIORITY, LOWEST_PRIORITY + 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Who a message is, where its event doesn't say: the broker's own coordinates."""

    id: str
    source: str
    priority: int = DEFAULT_PRIORITY


def decode(body: bytes, headers: Mapping[str, str], *, origin: Origin, limits: JsonLimits) -> Event:
    """Read a message in any of the three forms.

    Raises:
        EnvelopeError: Not an event, or one that this version doesn't know; with the path.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    media_type = lowered.get("content-type", "").partition(";")[0].strip().lower()
    if media_type.startswith("application/cloudevents-batch"):
        raise EnvelopeError(
            "a batch of events in one message; send them one by one", reason="schema"
        )
    attributes = _binary_attributes(lowered)
    if attributes is not None and media_type != CLOUDEVENTS_JSON:
        return _event({**attributes, "data": load_json(body, limits, path="data")}, origin)
    document = load_json(body, limits)
    if not is_object(document):
        raise EnvelopeError(
            'the message must be a JSON object, such as {"type": "report", "data": {…}}',
            reason="schema",
        )
    if media_type != CLOUDEVENTS_JSON and "specversion" not in document:
        return _event(_plain_attributes(document), origin)
    return _event(document, origin)


def encode(
    event: Event, mode: Literal["structured", "binary"] = "structured", *, prefix: str = "ce_"
) -> tuple[bytes, Mapping[str, str]]:
    """Write an event as body and headers; `prefix` is that of the binding, in binary mode."""
    attributes = event.attributes()
    if mode == "structured":
        document = {**attributes, "datacontenttype": "application/json", "data": event.data}
        return dump_json(document), {"content-type": CLOUDEVENTS_JSON}
    headers = {f"{prefix}{name}": str(value) for name, value in attributes.items()}
    return dump_json(event.data), {"content-type": "application/json", **headers}


def _binary_attributes(headers: Mapping[str, str]) -> dict[str, Any] | None:
    """Collect the attributes from the headers, or None where there are none.

    The HTTP binding writes what isn't printable ASCII as percent-encoded UTF-8.
    """
    found = {
        name.removeprefix(prefix): unquote(value) if prefix == "ce-" else value
        for name, value in headers.items()
        for prefix in _BINARY_PREFIXES
        if name.startswith(prefix)
    }
    return found or None


def _plain_attributes(document: dict[str, Any]) -> dict[str, Any]:
    """Check the names of the plain form, where a misspelt one would be silently ignored."""
    for name in document:
        if name not in _KNOWN:
            raise EnvelopeError(
                f"unknown name{closest(name, _KNOWN)}; a message has `type`, `data` and the "
                "attributes of a CloudEvent",
                reason="schema",
                path=dotted((name,)),
            )
    return {"specversion": SPEC_VERSION, **document}


def _event(attributes: Mapping[str, Any], origin: Origin) -> Event:
    _check_version(attributes)
    if "dataref" in attributes:
        raise EnvelopeError(
            "a payload by reference is not taken from a producer; send it as `data`",
            reason="forbidden",
            path="dataref",
        )
    data = attributes.get("data")
    if not is_object(data):
        raise EnvelopeError("must be an object: the job's payload", reason="schema", path="data")
    options: dict[str, Any] = {
        field: _text(attributes, name)
        for name, field in TEXT_ATTRIBUTES.items()
        if name in attributes
    }
    options.update(
        {
            field: _time(attributes, name)
            for name, field in TIME_ATTRIBUTES.items()
            if name in attributes
        }
    )
    options["priority"] = (
        _priority(attributes["priority"]) if "priority" in attributes else origin.priority
    )
    return Event(
        id=_text(attributes, "id") if "id" in attributes else origin.id,
        source=_text(attributes, "source") if "source" in attributes else origin.source,
        job_type=_job_type(attributes),
        data=data,
        extensions={name: value for name, value in attributes.items() if name not in _KNOWN},
        **options,
    )


def _check_version(attributes: Mapping[str, Any]) -> None:
    version = attributes.get("specversion")
    if version != SPEC_VERSION:
        raise EnvelopeError(
            f"is {shown(repr(version))}; this consumer knows CloudEvents {SPEC_VERSION}",
            reason="schema",
            path="specversion",
        )


def _job_type(attributes: Mapping[str, Any]) -> str:
    if "type" not in attributes:
        raise EnvelopeError("missing; name the job type", reason="schema", path="type")
    return _text(attributes, "type").removeprefix(TYPE_PREFIX)


def _text(attributes: Mapping[str, Any], name: str) -> str:
    value = attributes[name]
    if not isinstance(value, str) or not value:
        raise EnvelopeError("must be a text that isn't empty", reason="schema", path=name)
    if len(value) > _MAX_ATTRIBUTE_LENGTH:
        raise EnvelopeError(
            f"has {len(value)} characters; at most {_MAX_ATTRIBUTE_LENGTH} are taken",
            reason="schema",
            path=name,
        )
    if not value.isprintable():
        raise EnvelopeError("holds control characters", reason="schema", path=name)
    return value


def _time(attributes: Mapping[str, Any], name: str) -> datetime:
    text = _text(attributes, name)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise EnvelopeError(
            f"is {text!r}; give a time as in RFC 3339, such as 2027-01-31T09:00:00Z",
            reason="schema",
            path=name,
        )
    return time


def _priority(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:3])
    if isinstance(value, bool) or not isinstance(value, int) or value not in _PRIORITIES:
        raise EnvelopeError(
            f"is {str(value)[:20]!r}; give 0 (highest) to 9 (lowest)",
            reason="schema",
            path="priority",
        )
    return value
