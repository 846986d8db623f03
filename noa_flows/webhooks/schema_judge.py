"""Validation against a JSON Schema that an untrusted message brought."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from datetime import timedelta
from pathlib import Path

from pydantic import JsonValue, TypeAdapter

_SCRIPT = Path(__file__).with_name("schema_process.py")
_PROBLEMS = TypeAdapter(list[str])


async def schema_problems(
    schema: dict[str, JsonValue], text: str | None, *, within: timedelta
) -> list[str]:
    """List what keeps a document from fitting a schema, at most five of them; empty if it fits.

    With None for the document only the schema itself is checked. The work is done in a process
    of its own, which is ended after the given time; that, too, is a problem and not an error.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", str(_SCRIPT), stdin=PIPE, stdout=PIPE
    )
    try:
        async with asyncio.timeout(within.total_seconds()):
            order = json.dumps({"schema": schema, "text": text}).encode()
            written, _ = await process.communicate(order)
    except TimeoutError:
        return [f"it took longer than {within.total_seconds():g} s to be judged"]
    finally:
        await _end(process)
    return _PROBLEMS.validate_json(written) if written else ["its validation was aborted"]


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
