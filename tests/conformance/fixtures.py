"""What a provider's test class gives to the suite, and what the suite makes of it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

import pytest

from blocks.broker import Broker, Session
from blocks.errors import BrokerError

#: Short enough to wait for its end in a test; the shortest that a block takes.
SHORT_LEASE_SECONDS = 1.0
#: Longer than any test, so that a slow machine never loses a lease by accident.
LONG_LEASE_SECONDS = 120.0


class ServerHandle(Protocol):
    """What stands behind a broker, as far as a test may harm it."""

    async def kill(self) -> None:
        """Kill it at once, in the middle of whatever it does (SIGKILL)."""
        ...

    async def start(self) -> None:
        """Start it again with the same data at the same address; return when it answers."""
        ...


@dataclass(frozen=True)
class Refusal:
    """A broker that can't be connected to, and the error that says so."""

    broker: Broker
    error: type[BrokerError]
    #: A part of the message: what was wrong, and what to do.
    says: str


class BrokerFixtures(ABC):
    """The fixtures of the suite; the first four are given by the provider."""

    @pytest.fixture
    @abstractmethod
    def broker(self) -> Broker:
        """A broker that works. The suite sets `lease_seconds` itself."""
        raise NotImplementedError

    @pytest.fixture
    @abstractmethod
    def server(self) -> ServerHandle:
        """What can be killed behind `broker`; without a server: a process in mid-transaction."""
        raise NotImplementedError

    @pytest.fixture
    @abstractmethod
    def wrong_credentials(self) -> Refusal:
        """Somebody answers and says no (`BrokerRefusedError`); without a log-in: a foreign file."""
        raise NotImplementedError

    @pytest.fixture
    @abstractmethod
    def unreachable(self) -> Refusal:
        """Nobody answers (`BrokerUnavailableError`); without a server: a path that can't be."""
        raise NotImplementedError

    @pytest.fixture
    def queue(self) -> str:
        """The name of a queue that no other test knows."""
        return f"conformance-{uuid4().hex}"

    @pytest.fixture
    def patient(self, broker: Broker) -> Broker:
        """The broker, with leases that don't end within a test."""
        return broker.model_copy(update={"lease_seconds": LONG_LEASE_SECONDS})

    @pytest.fixture
    def hasty(self, broker: Broker) -> Broker:
        """The broker, with leases whose end a test can wait for."""
        return broker.model_copy(update={"lease_seconds": SHORT_LEASE_SECONDS})

    @pytest.fixture
    async def session(self, patient: Broker, queue: str) -> AsyncIterator[Session]:
        """A session with long leases, on which `queue` is declared."""
        async with patient.connect() as session:
            await session.declare(queue)
            yield session
