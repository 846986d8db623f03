"""Values that Prefect would evaluate, look up or load, if they reached the place where it does."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

from prefect.utilities.schema_tools import hydration

VARIABLE: Final = "secret_variable"

#: Every kind of object that Prefect's server evaluates in parameters, as Prefect registers them.
KINDS: Final = tuple(hydration._handlers)  # pyright: ignore[reportPrivateUsage]

#: Keys that any of the handlers reads.
_BAIT: Final[Mapping[str, Any]] = {
    "value": {"__prefect_kind": "workspace_variable", "variable_name": VARIABLE},
    "template": "{{ 7 * 191 }}",
    "variable_name": VARIABLE,
}


def hostile_values(block_document_id: str) -> Mapping[str, Any]:
    """Each value by a name: kinds, references to blocks, placeholders, names of classes.

    Args:
        block_document_id: The id of a saved block, which must not be loaded.
    """
    return {
        **{f"kind {kind}": {"__prefect_kind": kind, **_BAIT} for kind in KINDS},
        **{f"bare kind {kind}": {"__prefect_kind": kind} for kind in KINDS},
        **{f"kind {kind!r}": {"__prefect_kind": kind, **_BAIT} for kind in _UNKNOWN_KINDS},
        "json text of a kind": {"__prefect_kind": "json", "value": json.dumps(_BAIT["value"])},
        "kind within a kind": {"__prefect_kind": "none", "value": {"__prefect_kind": "jinja"}},
        **{f"reference {ref!r}": {"$ref": ref} for ref in _references(block_document_id)},
        **{f"placeholder {text}": text for text in _PLACEHOLDERS},
        **{f"class {name}": {"__class__": name, "data": data} for name, data in _CLASSES.items()},
        "class without data": {"__class__": "noa_flows.jobs.noop_job.NoopPayload"},
        "exception": {"__exc_type__": "builtins.SystemExit", "message": "out"},
        "no exception": {"__exc_type__": "subprocess.Popen", "message": "true"},
    }


#: Unknown to Prefect, and some of them not even hashable, which its server answers with a 500.
_UNKNOWN_KINDS: Final[tuple[Any, ...]] = (
    "nobody",
    "",
    None,
    True,
    5,
    [],
    ["json"],
    {},
    {"__prefect_kind": "json"},
)

_PLACEHOLDERS: Final = (
    "{{ prefect.blocks.secret.hostile }}",
    f"{{{{ prefect.variables.{VARIABLE} }}}}",
    "{{ $PATH }}",
    "{{ 7 * 191 }}",
    "{% for _ in range(9) %}x{% endfor %}",
    "${HOME}",
)

#: Prefect's reader of results makes objects of these.
_CLASSES: Final[Mapping[str, Any]] = {
    "builtins.frozenset": [1, 2],
    "pathlib.PosixPath": "/etc/passwd",
    "noa_flows.jobs.noop_job.NoopPayload": {"echo": 1},
    "prefect.blocks.system.Secret": {"value": "x"},
}


def _references(block_document_id: str) -> Iterator[Any]:
    yield {"block_document_id": block_document_id}
    yield {"block_document_id": block_document_id, "block_document_slug": "secret/hostile"}
    yield {"block_document_id": str(uuid4())}
    yield {"block_document_id": "nonsense"}
    yield {"block_document_id": [5]}
    yield {"block_document_slug": "secret/hostile"}
    yield {}
    yield block_document_id
    yield "#/definitions/Secret"
    yield "file:///etc/passwd"
    yield None


def placements(value: Any) -> Iterator[Any]:
    """The value where Prefect looks first, and everywhere else that it could look."""
    yield value
    yield {"deep": {"down": value}, "list": [1, [value]], "text": json.dumps(value)}
