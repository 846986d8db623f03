"""What an error of the AMQP driver means to whoever uses a broker."""

import ssl
from typing import Final

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


def is_missing(error: BaseException | None) -> bool:
    """Whether the broker said that there is no such queue or exchange."""
    return isinstance(error, exceptions.ChannelClosed) and error.reply_code == _MISSING


def is_locked(error: BaseException | None) -> bool:
    """Whether another connection has the queue for itself."""
    return isinstance(error, exceptions.ChannelClosed) and error.reply_code == _LOCKED


def is_certain(error: BaseException | None) -> bool:
    """Whether the broker itself has said no, on a connection that stands."""
    return isinstance(error, exceptions.ChannelClosedByBroker)


def _refusal(error: BaseException, address: str) -> BrokerError | None:
    match error:
        case ssl.SSLCertVerificationError():
            return BrokerRefusedError(
                f"{address}: the certificate isn't trusted: {error.verify_message}; check "
                "`tls_ca_file`, `host`, and until when the certificate is valid"
            )
        case ssl.SSLError() if not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return BrokerRefusedError(
                f"{address}: no TLS is spoken there: {error.reason or error}; check `tls` and `port`"
            )
        case _ if _is_a_guess(error):
            return None
        case exceptions.ProbableAuthenticationError() | exceptions.AuthenticationError():
            return _login(error, address)
        case exceptions.ProbableAccessDeniedError():
            return BrokerRefusedError(f"{address} refused: {error}; {_LASTING[_NO_VHOST]}")
        case exceptions.IncompatibleProtocolError() | exceptions.ProtocolVersionMismatch():
            return BrokerRefusedError(
                f"{address} doesn't speak AMQP 0-9-1: {error}; check `port` and `tls`"
            )
        case exceptions.ConnectionClosedByBroker() | exceptions.ChannelClosedByBroker():
            return _by_code(error, address)
        case _:
            return None


def _is_a_guess(error: BaseException) -> bool:
    """Whether the connection broke in the middle of its beginning, and pika supposes a reason.

    RabbitMQ says so itself where it refuses a log-in; a server that is being killed doesn't.
    """
    guesses = (
        exceptions.ProbableAuthenticationError,
        exceptions.ProbableAccessDeniedError,
        exceptions.IncompatibleProtocolError,
    )
    return isinstance(error, guesses) and "StreamLostError" in str(error)


def _by_code(error: exceptions.ConnectionClosed | exceptions.ChannelClosed, address: str):
    code, text = error.reply_code, error.reply_text
    if code == _FORBIDDEN and "login" in text.lower():
        return _login(error, address)
    if code in _LASTING:
        return BrokerRefusedError(f"{address} refused: {text}; {_LASTING[code]}")
    return BrokerUnavailableError(f"{address} can't serve now: {code} {text}; try again")


def _login(error: BaseException, address: str) -> BrokerError:
    text = getattr(error, "reply_text", "") or str(error)
    return BrokerRefusedError(
        f"{address} refused the log-in: {text}; check `username` and `password`"
    )


def _chain(error: BaseException | None):
    """An error with all that it wraps: pika's connectors keep errors as attributes."""
    seen: list[BaseException] = []
    todo = [error]
    while todo:
        one = todo.pop(0)
        if one is None or one in seen:
            continue
        seen.append(one)
        yield one
        inner = [getattr(one, "exception", None), *(getattr(one, "exceptions", None) or ())]
        todo += [item for item in inner if isinstance(item, BaseException)]
        todo += [item for item in one.args if isinstance(item, BaseException)]
        todo += [one.__cause__, one.__context__]
