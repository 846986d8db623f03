"""Topics: SNS, with a subscription a queue that delivers messages as they were published."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, cast

from blocks.errors import BrokerRefusedError
from blocks.sqs_broker.names import Names, topic_name
from blocks.sqs_broker.queues import Queues
from blocks.sqs_broker.wire import Wire

#: Somebody else may write the policy of the queue at the same time.
_ATTEMPTS: Final = 5


class Topics:
    """The topics of one account and region; those of FIFO queues are FIFO topics."""

    def __init__(self, wire: Wire, queues: Queues, *, fifo: bool, may_declare: bool) -> None:
        self._wire = wire
        self._queues = queues
        self._fifo = fifo
        self._may_declare = may_declare
        self._arns: dict[str, str] = {}

    async def arn(self, topic: str) -> str:
        """Find a topic, or make it.

        Raises:
            QueueNameError: SNS can't hold the name.
            BrokerRefusedError: It isn't there, and the block may not make it.
        """
        name = topic_name(topic, fifo=self._fifo)
        if name not in self._arns:
            self._arns[name] = await (self._make(name) if self._may_declare else self._find(name))
        return self._arns[name]

    async def subscribe(self, names: Names, topic: str) -> None:
        """Let a topic's messages come to a queue; doing it again changes nothing."""
        arn = await self.arn(topic)
        queue = (await self._queues.attributes(names.main))["QueueArn"]
        if self._may_declare:
            await self._allow(names, queue, arn)
        await self._wire.call(
            "sns",
            "subscribe",
            TopicArn=arn,
            Protocol="sqs",
            Endpoint=queue,
            Attributes={"RawMessageDelivery": "true"},
            ReturnSubscriptionArn=True,
        )

    async def _make(self, name: str) -> str:
        attributes = {"FifoTopic": "true"} if self._fifo else {}
        answer = await self._wire.call("sns", "create_topic", Name=name, Attributes=attributes)
        return answer["TopicArn"]

    async def _find(self, name: str) -> str:
        token: dict[str, str] = {}
        while True:
            page = await self._wire.call("sns", "list_topics", **token)
            for one in page.get("Topics", ()):
                if str(one["TopicArn"]).rpartition(":")[2] == name:
                    return one["TopicArn"]
            if not page.get("NextToken"):
                raise BrokerRefusedError(
                    f"{self._wire.address} has no topic {name}, and `declare` is false; make it"
                )
            token = {"NextToken": page["NextToken"]}

    async def _allow(self, names: Names, queue: str, topic: str) -> None:
        """Let SNS send to the queue for this topic, beside what its policy allows anyway."""
        wanted = _statement(queue, topic)
        for _ in range(_ATTEMPTS):
            policy = _policy((await self._queues.attributes(names.main)).get("Policy"))
            statements: list[Mapping[str, Any]] = policy["Statement"]
            if any(one.get("Sid") == wanted["Sid"] for one in statements):
                return
            # Written and read again: of two who write at once, the later has to see the other's.
            written = json.dumps({**policy, "Statement": [*statements, wanted]})
            await self._queues.set_attributes(names.main, {"Policy": written})
        raise BrokerRefusedError(
            f"{self._wire.address}: the policy of the queue {names.main} doesn't stay as it was "
            f"written; let sns.amazonaws.com send to it for {topic}"
        )


def _statement(queue: str, topic: str) -> dict[str, Any]:
    digest = hashlib.sha256(topic.encode()).hexdigest()[:16]
    return {
        "Sid": f"noa{digest}",
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }


def _policy(text: str | None) -> dict[str, Any]:
    written: object = json.loads(text) if text else {}
    policy = cast("dict[str, Any]", written) if isinstance(written, dict) else {}
    statements: object = policy.get("Statement", [])
    listed = cast("list[Any]", statements) if isinstance(statements, list) else [statements]
    return {"Version": "2012-10-17", **policy, "Statement": listed}
