"""Shows a run's progress, tables, texts and links in Prefect's UI, as artifacts."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)


class PrefectAudience:
    """Artifacts of the running flow, named `<flow>-<key>`."""

    def __init__(self, flow_name: str) -> None:
        self._flow_name = flow_name
        self._progress: UUID | None = None

    async def progress(self, percent: float, text: str) -> None:
        """Show one progress bar a run, and move it."""
        if self._progress is None:
            self._progress = await acreate_progress_artifact(
                percent, key=self._key("progress"), description=text
            )
        else:
            await aupdate_progress_artifact(self._progress, percent, description=text)

    async def table(self, key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
        """Show rows as a table artifact."""
        await acreate_table_artifact(
            [dict(row) for row in rows], key=self._key(key), description=description
        )

    async def markdown(self, key: str, text: str, description: str) -> None:
        """Show a Markdown text as an artifact."""
        await acreate_markdown_artifact(text, key=self._key(key), description=description)

    async def link(self, key: str, url: str, text: str, description: str) -> None:
        """Show a link as an artifact."""
        await acreate_link_artifact(
            url, link_text=text, key=self._key(key), description=description
        )

    def _key(self, key: str) -> str:
        """Prefect takes lower-case letters, digits and dashes."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self._flow_name}-{key}".lower()).strip("-")
