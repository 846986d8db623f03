"""redis-py: XADD, then XREADGROUP with XACK and XDEL, in pipelines."""

from typing import Any
from uuid import uuid4

from redis import Redis

from tests.benchmarks.bare.client import BATCH, BODY


class BareRedis:
    """See `BareClient`."""

    def __init__(self, url: str) -> None:
        self._stream = f"bare-{uuid4().hex}"
        self._redis: Any = Redis.from_url(url)
        self._redis.xgroup_create(self._stream, "group", id="0", mkstream=True)

    def publish(self, messages: int) -> None:
        for _ in range(messages // BATCH):
            pipeline = self._redis.pipeline(transaction=False)
            for _ in range(BATCH):
                pipeline.xadd(self._stream, {"body": BODY})
            pipeline.execute()

    def drain(self, messages: int) -> None:
        left = messages
        while left:
            ((_, entries),) = self._redis.xreadgroup(
                "group", "me", {self._stream: ">"}, count=BATCH
            )
            ids = [entry_id for entry_id, _ in entries]
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.xack(self._stream, "group", *ids)
            pipeline.xdel(self._stream, *ids)
            pipeline.execute()
            left -= len(ids)

    def close(self) -> None:
        self._redis.close()
