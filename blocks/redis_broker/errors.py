"""What an error of the Redis driver means to whoever uses a broker."""

import ssl
from typing import Final

from blocks.errors import BrokerError, BrokerRefusedError, BrokerUnavailableError

#: Answers of a server that is there but can't serve now → what to do about it.
_PASSING: Final = {
    "LOADING": "it is reading its data after a start; try again",
    "MASTERDOWN": "the replica has lost its master; try again",
    "READONLY": "this is a replica after a fail-over; it is looked up again on the next call",
    "CLUSTERDOWN": "the cluster is not complete; try again",
    "TRYAGAIN": "the cluster is moving the key; try again",
    "MISCONF": "it can't save to disk; free disk space, or see its log",
    "OOM": "it is out of memory; raise `maxmemory`, or drain queues and dead letters",
    "NOREPLICAS": "fewer replicas than `min-replicas-to-write`; bring them back",
    "BUSY": "a script runs for too long; try again, or SCRIPT KILL it",
    "UNBLOCKED": "its role has changed; try again",
}
_BEYOND_RIGHTS: Final = (
    "the user's ACL doesn't allow the command or the key; the documentation lists what is needed"
)
#: Answers that stay the same until somebody changes something → what to change.
_LASTING: Final = {
    "NOPERM": _BEYOND_RIGHTS,
    "The user executing the script can't": _BEYOND_RIGHTS,
    "WRONGTYPE": "a key of the queue or topic holds something else; choose another queue name",
    "CROSSSLOT": "on a cluster write the queue's name in braces, as in `{orders}`",
    "MOVED": "the node of a cluster doesn't hold the queue; name one that does",
    "unknown command": "Redis 7.0 or Valkey is the least that is needed",
    "DB index": "check `db`",
}
#: The driver's classes for such answers, by name, since the driver is imported late.
_CODES: Final = {
    "BusyLoadingError": "LOADING",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}


class NoGroupError(BrokerUnavailableError):
    """The consumer group or its stream is missing: never declared, or flushed away."""


class ReplicaError(BrokerUnavailableError):
    """The connection leads to a replica, since its server is no longer the master."""


def translate(error: Exception, address: str) -> BrokerError:
    """Find the broker error for a driver's error; raise it `from` that one."""
    text = _as_sent(error)
    if text.startswith(("NOGROUP", "UNBLOCKED the stream key no longer")):
        return NoGroupError(f"{address}: {text}")
    if _is_bad_certificate(error):
        return BrokerRefusedError(
            f"{address}: the certificate isn't trusted: {error}; check `tls_ca_file`"
        )
    return from_answer(text, address) or _by_class(error, address)


def from_answer(text: str, address: str) -> BrokerError | None:
    """Find the broker error for an answer that is an error; None for an unknown one."""
    for code, advice in _PASSING.items():
        if text.startswith(code):
            kind = ReplicaError if code == "READONLY" else BrokerUnavailableError
            return kind(f"{address} can't serve now: {text}; {advice}")
    for code, advice in _LASTING.items():
        if text.startswith(code):
            return BrokerRefusedError(f"{address} refused: {text}; {advice}")
    return None


def _by_class(error: Exception, address: str) -> BrokerError:
    from redis import exceptions

    if isinstance(error, exceptions.AuthenticationError):
        return BrokerRefusedError(
            f"{address} refused the log-in: {error}; check `username` and `password`"
        )
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError):
        return BrokerUnavailableError(
            f"{address} can't be reached: {str(error) or type(error).__name__}; "
            "check that it runs, and `host` and `port`"
        )
    return BrokerRefusedError(f"{address} refused: {error}")


def _as_sent(error: Exception) -> str:
    """The server's own words: the driver cuts the code off the errors that it has a class for."""
    code = _CODES.get(type(error).__name__)
    return f"{code} {error}" if code else str(error).removeprefix("ERR ")


def _is_bad_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
