"""What the driver's errors mean."""

import pytest
from redis import exceptions

from blocks.errors import BrokerError, BrokerRefusedError, BrokerUnavailableError
from blocks.redis_broker.errors import NoGroupError, translate

ADDRESS = "redis://localhost:6379/0"


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (exceptions.ConnectionError("refused"), BrokerUnavailableError, "check that it runs"),
        (exceptions.TimeoutError("Timeout"), BrokerUnavailableError, "check that it runs"),
        (ConnectionResetError(), BrokerUnavailableError, "ConnectionResetError"),
        (exceptions.BusyLoadingError("Redis is loading"), BrokerUnavailableError, "after a start"),
        (exceptions.ReadOnlyError("You can't write"), BrokerUnavailableError, "fail-over"),
        (exceptions.MasterDownError("Link is down"), BrokerUnavailableError, "master"),
        (exceptions.OutOfMemoryError("command not allowed"), BrokerUnavailableError, "maxmemory"),
        (exceptions.ResponseError("MISCONF Errors"), BrokerUnavailableError, "disk"),
        (exceptions.ResponseError("UNBLOCKED force unblock"), BrokerUnavailableError, "role"),
        (exceptions.ResponseError("NOGROUP No such key"), NoGroupError, "NOGROUP"),
        (
            exceptions.ResponseError("UNBLOCKED the stream key no longer exists"),
            NoGroupError,
            "no longer",
        ),
        (exceptions.AuthenticationError("invalid pair"), BrokerRefusedError, "`password`"),
        (exceptions.NoPermissionError("this user"), BrokerRefusedError, "ACL"),
        (exceptions.ResponseError("WRONGTYPE Operation"), BrokerRefusedError, "queue name"),
        (exceptions.ResponseError("ERR unknown command"), BrokerRefusedError, "Redis 7"),
        (exceptions.ResponseError("ERR something new"), BrokerRefusedError, "something new"),
    ],
)
def test_an_error_of_the_driver_becomes_one_of_ours(
    error: Exception, kind: type[BrokerError], says: str
):
    told = translate(error, ADDRESS)
    assert isinstance(told, kind)
    assert says in str(told)
    assert ADDRESS in str(told)
