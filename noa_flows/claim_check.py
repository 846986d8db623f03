"""Payloads above Prefect's limit travel by reference: stored once, named by size and SHA-256.

A reference is made by the bridge and read by the job. One that a producer sent is never followed.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import anyio

from noa_flows.errors import PermanentJobError, StorageError
from noa_flows.files import write_atomically

_REFERENCE: Final = re.compile(r"noa:([0-9a-f]{64}):([0-9]{1,12})")


async def store_parameters(parameters: Mapping[str, Any], folder: Path) -> str:
    """Store a payload under its digest, and return the reference `noa:<sha256>:<bytes>`.

    Storing the same payload twice leaves one file.

    Raises:
        StorageError: The folder can't be written to, or is full.
    """
    body = json.dumps(parameters, ensure_ascii=False, separators=(",", ":")).encode()
    digest = hashlib.sha256(body).hexdigest()
    try:
        await anyio.to_thread.run_sync(write_atomically, _path(folder, digest), body)
    except OSError as error:
        raise StorageError(
            f"a payload of {len(body)} bytes can't be stored in {folder} ({error.strerror}); see "
            "that the folder of the setting `storage` can be written to and has room"
        ) from error
    return f"noa:{digest}:{len(body)}"


async def fetch_parameters(reference: str, folder: Path) -> Mapping[str, Any]:
    """Read the payload behind a reference.

    Raises:
        PermanentJobError: It is no reference of ours, the file is gone, or it has changed.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise PermanentJobError(f"{reference[:80]!r} is no reference that the bridge has made")
    digest, size = match[1], int(match[2])
    path = _path(folder, digest)
    try:
        body = await anyio.Path(path).read_bytes()
    except OSError as error:
        raise PermanentJobError(
            f"the payload {path} can't be read ({error.strerror}); "
            "the bridge and the worker must share the folder of the setting `storage`"
        ) from error
    if len(body) != size or hashlib.sha256(body).hexdigest() != digest:
        raise PermanentJobError(f"the payload {path} isn't the one that the bridge stored")
    return json.loads(body)


def _path(folder: Path, digest: str) -> Path:
    return folder / "payloads" / digest[:2] / f"{digest}.json"
