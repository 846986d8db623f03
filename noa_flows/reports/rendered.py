"""A finished report in memory."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The bytes of a report's file, and what is known of them."""

    content: bytes
    media_type: str
    #: Pages of a PDF; None for other formats.
    pages: int | None = None
    #: Charts that are in it.
    charts: int = 0
