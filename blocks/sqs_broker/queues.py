"""Queues at SQS: finding them, making them, and what they are set to."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from blocks.errors import BrokerConfigurationError, BrokerError, BrokerRefusedError
from blocks.sqs_broker.errors import QueueMissingError
from blocks.sqs_broker.names import Names, names_of
from blocks.sqs_broker.wire import Wire

_FOURTEEN_DAYS: Final = 14 * 24 * 60 * 60

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSettings:
    """What the block says about its queues."""

    fifo: bool
    #: Queues may be made and set; else they are only checked.
    may_declare: bool
    #: After so many deliveries SQS itself moves a message to the dead letters.
    max_receive_count: int
    #: `SqsManagedSseEnabled`, `KmsMasterKeyId`, `KmsDataKeyReusePeriodSeconds`, where given.
    encryption: Mapping[str, str]


class Queues:
    """The queues of one account and region; their URLs are asked for once."""

    def __init__(self, wire: Wire, settings: QueueSettings) -> None:
        self._wire = wire
        self._settings = settings
        self._urls: dict[str, str] = {}

    def names(self, queue: str) -> Names:
        """See `names_of`."""
        return names_of(queue, fifo=self._settings.fifo)

    async def url(self, name: str) -> str:
        """Find a queue's URL.

        Raises:
            QueueMissingError: There is no such queue.
        """
        if name not in self._urls:
            answer = await self._wire.call("sqs", "get_queue_url", QueueName=name)
            self._urls[name] = answer["QueueUrl"]
        return self._urls[name]

    async def attributes(self, name: str) -> dict[str, str]:
        """All that SQS tells about a queue."""
        url = await self.url(name)
        answer = await self._wire.call(
            "sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=["All"]
        )
        return answer.get("Attributes", {})

    async def declare(self, names: Names) -> None:
        """Make a queue and its dead letters, or check that they are as the block says.

        Raises:
            QueueMissingError: They aren't there, and the block may not make them.
            BrokerRefusedError: They are there, and otherwise than the block says.
        """
        if not self._settings.may_declare:
            for name in (names.main, names.dead):
                self._check(name, await self.attributes(name))
            return
        dead = await self._ensure(
            names.dead,
            {"MessageRetentionPeriod": str(_FOURTEEN_DAYS), **self._settings.encryption},
        )
        policy = json.dumps(
            {
                "deadLetterTargetArn": dead["QueueArn"],
                "maxReceiveCount": self._settings.max_receive_count,
            }
        )
        wanted = {"RedrivePolicy": policy, **self._settings.encryption}
        main = await self._ensure(names.main, wanted)
        if "RedrivePolicy" in main and json.loads(main["RedrivePolicy"]) != json.loads(policy):
            _logger.warning(
                "%s: the queue %s has a redrive policy of its own, which stays: %s",
                self._wire.address,
                names.main,
                main["RedrivePolicy"],
            )
        if "RedriveAllowPolicy" not in dead:
            await self._allow_redrive(names, main["QueueArn"])

    async def set_attributes(self, name: str, attributes: Mapping[str, str]) -> None:
        """Set some of a queue's attributes."""
        url = await self.url(name)
        await self._wire.call(
            "sqs", "set_queue_attributes", QueueUrl=url, Attributes=dict(attributes)
        )

    async def _ensure(self, name: str, wanted: Mapping[str, str]) -> dict[str, str]:
        """Make a queue, or set what it lacks; return its attributes."""
        try:
            found = await self.attributes(name)
        except QueueMissingError:
            fifo = {"FifoQueue": "true"} if self._settings.fifo else {}
            await self._create(name, {**wanted, **fifo})
            return await self.attributes(name)
        missing = {key: value for key, value in wanted.items() if _differs(key, value, found)}
        if missing:
            await self.set_attributes(name, missing)
            found |= missing
        self._check(name, found)
        return found

    async def _create(self, name: str, attributes: dict[str, str]) -> None:
        try:
            answer = await self._wire.call(
                "sqs", "create_queue", QueueName=name, Attributes=attributes
            )
        except BrokerRefusedError as error:
            # Somebody else has made it meanwhile, with other attributes.
            if "QueueNameExists" in str(error) or "QueueAlreadyExists" in str(error):
                return
            raise
        self._urls[name] = answer["QueueUrl"]

    async def _allow_redrive(self, names: Names, source: str) -> None:
        """Let no other queue move its dead letters here; a nicety that older services lack."""
        allowed = {"redrivePermission": "byQueue", "sourceQueueArns": [source]}
        try:
            await self.set_attributes(names.dead, {"RedriveAllowPolicy": json.dumps(allowed)})
        except BrokerError as error:
            _logger.info("%s has no redrive allow policy: %s", names.dead, error)

    def _check(self, name: str, found: Mapping[str, Any]) -> None:
        fifo = found.get("FifoQueue") == "true"
        if fifo is not self._settings.fifo:
            raise BrokerConfigurationError(
                f"{self._wire.address}: the queue {name} is {'' if fifo else 'not '}a FIFO queue; "
                f"set `fifo` to {str(fifo).lower()}, or choose another name"
            )
        for key, value in self._settings.encryption.items():
            if key in found and found[key] != value:
                raise BrokerRefusedError(
                    f"{self._wire.address}: the queue {name} has {key} = {found[key]!r}, and the "
                    f"block says {value!r}; change one of them"
                )


def _differs(key: str, value: str, found: Mapping[str, str]) -> bool:
    """Whether an attribute has to be set; what an operator has set otherwise is his."""
    if key in ("RedrivePolicy", "MessageRetentionPeriod"):
        return key not in found
    return found.get(key) != value
