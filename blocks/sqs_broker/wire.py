"""AWS's driver, and nothing of it outside this file: calls in threads of their own, our errors."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal

from blocks.errors import BrokerRefusedError
from blocks.sqs_broker.errors import translate

if TYPE_CHECKING:
    from boto3 import Session

Service = Literal["sqs", "sns", "s3"]

#: As many calls are under way at once; a waiting receive is one of them.
THREADS: Final = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where AWS is, and how patient to be with it."""

    address: str
    open_session: Callable[[], "Session"]
    #: More arguments of every client, such as `endpoint_url` and `verify`.
    client_options: Mapping[str, Any]
    connect_timeout: float
    timeout: float
    attempts: int


class Wire:
    """Calls to SQS, SNS and S3, in threads, so that the event loop never waits for a socket.

    Calls are repeated as botocore's standard mode does it: with back-off and jitter, a fixed number
    of times, never more than its quota allows. A waiting receive is never repeated: what the lost
    answer held would be held for nobody.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sqs-broker")
        self._lock = Lock()
        self._session: Any = None
        self._clients: dict[tuple[str, int | None], Any] = {}

    @property
    def address(self) -> str:
        """Where this leads."""
        return self._endpoint.address

    async def probe(self) -> None:
        """Ask for a sign of life. That the queues may not be listed says that somebody lives."""
        try:
            await self._run(lambda: self._client("sqs", 0).list_queues(MaxResults=1))
        except BrokerRefusedError as error:
            if "AccessDenied" not in str(error):
                raise

    async def call(self, service: Service, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make one call; it is made even if whoever waits for it is cancelled."""

        def work() -> dict[str, Any]:
            return getattr(self._client(service), operation)(**parameters)

        return await self._run(work)

    async def receive(self, url: str, *, most: int, wait: int, visibility: int) -> list[Any]:
        """Receive once, waiting up to `wait` seconds at SQS."""

        def work() -> list[Any]:
            answer = self._client("sqs", wait).receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=most,
                WaitTimeSeconds=wait,
                VisibilityTimeout=visibility,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
            return answer.get("Messages", [])

        return await self._run(work)

    async def run(self, work: Callable[[], Any]) -> Any:
        """Do any other work in a thread."""
        return await self._run(work)

    def client(self, service: Service) -> Any:
        """The client that repeats calls, for use in a thread."""
        return self._client(service)

    async def close(self) -> None:
        """Let go of the threads and the connections; calls under way are finished first."""
        self._threads.shutdown(wait=False)
        for client in self._clients.values():
            client.close()

    async def _run(self, work: Callable[[], Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        future = asyncio.wrap_future(self._threads.submit(work))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # Nobody asks for its outcome any more.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        except (BotoCoreError, ClientError, ResponseParserError, OSError, ValueError) as error:
            raise translate(error, self.address) from error

    def _client(self, service: Service, wait: int | None = None) -> Any:
        """Make or find a client: one for each wait, since the driver has a time-out a client."""
        with self._lock:
            client = self._clients.get((service, wait))
            if client is None:
                client = self._clients[service, wait] = self._make(service, wait)
            return client

    def _make(self, service: Service, wait: int | None) -> Any:
        from botocore.config import Config

        place, once = self._endpoint, wait is not None
        if self._session is None:
            self._session = place.open_session()
        config = Config(
            connect_timeout=place.connect_timeout,
            read_timeout=place.timeout + (wait or 0),
            max_pool_connections=THREADS,
            tcp_keepalive=True,
            retries={"mode": "standard", "total_max_attempts": 1 if once else place.attempts},
            s3={"addressing_style": "path"} if "endpoint_url" in place.client_options else None,
        )
        options: dict[str, Any] = dict(place.client_options)
        if given := options.pop("config", None):
            config = given.merge(config)
        return self._session.client(service, config=config, **options)
