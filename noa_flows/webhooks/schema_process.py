"""Runs as a script: validates one document against one JSON Schema, both read from stdin.

A schema in a message can be a bomb: a pattern that backtracks for hours, references that
multiply, recursion without end. Inside the job's process none of that could be stopped, as a
regular expression holds the interpreter's lock; a process of its own can be ended. It is started
by path, and imports nothing of noa-flows, so that it starts fast.
"""

import json
import sys
from itertools import islice
from typing import Any

_MEMORY_BYTES = 1024 * 1024 * 1024
_SHOWN_ERRORS = 5
_SHOWN_CHARACTERS = 200


def _limit_memory() -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _problems(schema: dict[str, Any], text: str | None) -> list[str]:
    """List what is wrong with the schema, or else with the document; empty for nothing."""
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        return [f"schema: at {error.json_path}: {error.message}"]
    if text is None:
        return []
    try:
        document = json.loads(text)
    except ValueError as error:
        return [f"it is not JSON: {error}"]
    errors = kind(schema, registry=Registry()).iter_errors(document)
    # What was received is not quoted: it may hold what nobody should see in a log.
    return [
        f"at {error.json_path}: does not fit {error.validator!r}: {error.validator_value!r}"
        for error in islice(errors, _SHOWN_ERRORS)
    ]


def main() -> None:
    """Write the problems as a JSON list of strings."""
    _limit_memory()
    order = json.loads(sys.stdin.buffer.read())
    try:
        problems = _problems(order["schema"], order["text"])
    except (RecursionError, MemoryError) as error:
        problems = [f"it needs too much memory or recursion to be judged: {type(error).__name__}"]
    except Exception as error:  # noqa: BLE001 - the parent can only be told
        problems = [f"it can't be judged: {error}"]
    sys.stdout.write(json.dumps([text[:_SHOWN_CHARACTERS] for text in problems]))


if __name__ == "__main__":
    main()
