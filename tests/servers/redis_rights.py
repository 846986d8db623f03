"""The least rights that `RedisBroker` documents, as a user's line in Redis' list of users."""

from typing import Final

#: What the documentation says.
COMMANDS: Final = "+@connection +@stream +@sortedset +sadd +smembers +exists +eval +evalsha +time"
#: What `max_per_second` needs beside it.
RATE: Final = "+get +set"
#: What `dead_letters_max_bytes` needs beside it.
MEMORY: Final = "+memory|usage"


def user(name: str, password: str, *keys: str, more: str = "") -> str:
    """A user who may do what a provider does, on keys that match one of the patterns."""
    patterns = " ".join(f"~{key}" for key in keys)
    return f"user {name} on >{password} resetchannels {patterns} -@all {COMMANDS} {more}"
