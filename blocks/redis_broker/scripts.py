"""The Lua scripts that run in Redis: each is one atomic step of the broker."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Final


class Script(StrEnum):
    """One file `<name>.lua` each; what it takes and returns stands at its head."""

    DECLARE = "declare"
    PUBLISH = "publish"
    RECEIVE = "receive"
    SETTLE = "settle"
    RENEW = "renew"
    DEPTH = "depth"
    UNSETTLED = "unsettled"
    SWEEP = "sweep"
    BROWSE = "browse"
    REDRIVE = "redrive"
    SUBSCRIBE = "subscribe"
    BROADCAST = "broadcast"


#: Scripts that have `topics.lua` before them, too.
_KNOW_TOPICS: Final = frozenset(
    {Script.RECEIVE, Script.DEPTH, Script.SWEEP, Script.SUBSCRIBE, Script.BROADCAST}
)


@dataclass(frozen=True, slots=True)
class Source:
    """A script's text, and the digest under which Redis keeps it."""

    text: str
    digest: str


@cache
def source_of(script: Script) -> Source:
    """Read a script, with what all of them share put before it."""
    shared = _read("prelude") + (_read("topics") if script in _KNOW_TOPICS else "")
    text = shared + _read(script)
    # Redis names scripts by their SHA-1; nothing secret depends on it.
    return Source(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    return files("blocks.redis_broker").joinpath(f"{name}.lua").read_text(encoding="utf-8")
