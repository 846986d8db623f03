"""What an error of the AMQP driver means to whoever uses a broker."""

import ssl
from collections.abc import Iterator
from typing import Any, Final

from pika import exceptions

from blocks.errors import BrokerError, BrokerRefusedError, BrokerUnavailableError

_FORBIDDEN: Final = 403
_MISSING: Final = 404
_LOCKED: Final = 405
_OTHERWISE: Final = 406
_NO_VHOST: Final = 530
#: Reply codes that stay the same until somebody changes something → what to change.
_LASTING: Final = {
    _FORBIDDEN: "give the user the permission that is named, on this virtual host",
    _MISSING: "declare it, or check the name and `vhost`",
    _OTHERWISE: (
        "what is there was declared otherwise: set `queue_type` as it was, set `declare` to false "
        "to take it as it is, or delete it"
    ),
    _NO_VHOST: "check `vhost`, and the user's permissions on it",
}
#: What pika supposes when a connection breaks while it is being opened → what to check.
_SUPPOSED: Final = {
    exceptions.ProbableAuthenticationError: "check `username` and `password`",
    exceptions.ProbableAccessDeniedError: _LASTING[_NO_VHOST],
    exceptions.IncompatibleProtocolError: "check `port` and `tls`",
}


def translate(error: BaseException, address: str) -> BrokerError:
    """Find the broker error for a driver's error; raise it `from` that one."""
    if isinstance(error, BrokerError):
        return error
    chain = list(_chain(error))
    for one in chain:
        if (refusal := _refusal(one, address)) is not None:
            return refusal
    reason = next((text for one in chain if (text := str(one))), type(error).__name__)
    return BrokerUnavailableError(
        f"{address} can't be reached: {reason}; check that it runs, and `host` and `port`"
    )


def is_missing(error: exceptions.ChannelClosedByBroker) -> bool:
    """Whether the broker said that there is no such queue or exchange."""
    return error.reply_code == _MISSING


def is_locked(error: exceptions.ChannelClosedByBroker) -> bool:
    """Whether another connection has the queue for itself."""
    return error.reply_code == _LOCKED


def _refusal(error: BaseException, address: str) -> BrokerError | None:
    if isinstance(error, ssl.SSLError):
        return _about_tls(error, address)
    if isinstance(error, exceptions.ConnectionClosedByBroker | exceptions.ChannelClosedByBroker):
        return _by_code(error.reply_code, error.reply_text, address)
    advice = next((text for kind, text in _SUPPOSED.items() if isinstance(error, kind)), None)
    # RabbitMQ says so where it refuses a log-in; a server that is being killed says nothing.
    if advice is None or "StreamLostError" in str(error):
        return None
    return BrokerRefusedError(f"{address} refused: {error}; {advice}")


def _about_tls(error: ssl.SSLError, address: str) -> BrokerError | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return BrokerRefusedError(
            f"{address}: the certificate isn't trusted: {error.verify_message}; check "
            "`tls_ca_file` and `host`, and until when the certificate is valid"
        )
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return None
    return BrokerRefusedError(
        f"{address}: TLS isn't spoken there, or not as it should be: {error.reason or error}; "
        "check `tls` and `port`"
    )


def _by_code(code: int, text: str, address: str) -> BrokerError:
    if code == _FORBIDDEN and "login" in text.lower():
        return BrokerRefusedError(
            f"{address} refused the log-in: {text}; check `username` and `password`"
        )
    if code in _LASTING:
        return BrokerRefusedError(f"{address} refused: {text}; {_LASTING[code]}")
    return BrokerUnavailableError(f"{address} can't serve now: {code} {text}; try again")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error with all that it wraps: pika keeps errors as attributes and arguments of others."""
    seen: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop(0)
        if not isinstance(one, BaseException) or one in seen:
            continue
        seen.append(one)
        yield one
        todo += [getattr(one, "exception", None), *getattr(one, "exceptions", ()), *one.args]
        todo += [one.__cause__, one.__context__]
