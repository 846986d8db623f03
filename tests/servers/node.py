"""Node.js programs that send messages, as the existing producers do."""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.project import PROJECT
from tests.servers.cache import cached
from tests.servers.programs import NODE, NPM

_PRODUCERS = PROJECT / "tests" / "producers"


def node_modules() -> Path:
    """The folder with everything of `tests/producers/package.json`, fetched once."""
    manifest = _PRODUCERS / "package.json"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()[:12]
    with cached(f"node-{digest}") as (folder, filled):
        if not filled:
            shutil.copy(manifest, folder)
            options = ("--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")
            subprocess.run([str(NPM.require()), "install", *options], cwd=folder, check=True)
    return folder / "node_modules"


async def produce(script: str, **order: Any) -> Any:
    """Run `tests/producers/<script>` with an order as JSON on its standard input.

    Returns:
        What it printed, read as JSON.
    """
    modules = await asyncio.to_thread(node_modules)
    # Modules are looked for beside the script, not where NODE_PATH says, by `import`; so scripts
    # are CommonJS.
    process = await asyncio.create_subprocess_exec(
        *(str(NODE.require()), str(_PRODUCERS / script)),
        env={**os.environ, "NODE_PATH": str(modules)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate(json.dumps(order).encode())
    assert process.returncode == 0, f"{script} failed:\n{errors.decode()}"
    return json.loads(out)
