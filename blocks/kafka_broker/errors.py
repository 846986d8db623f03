"""What an error of the Kafka driver means to whoever uses a broker."""

from typing import Any, Final

from blocks.errors import (
    BrokerConfigurationError,
    BrokerError,
    BrokerRefusedError,
    BrokerUnavailableError,
    MessageTooLargeError,
    QueueNameError,
    UnroutableError,
)

#: Errors that stay until somebody changes something → what to change.
_REFUSED: Final = {
    "_AUTHENTICATION": "check `username`, `password` and `mechanism`",
    "SASL_AUTHENTICATION_FAILED": "check `username`, `password` and `mechanism`",
    "UNSUPPORTED_SASL_MECHANISM": "check `mechanism`",
    "_SSL": "check `tls_ca_file`, and that the certificate is valid for the name in `servers`",
    "TOPIC_AUTHORIZATION_FAILED": "the user's ACLs don't allow it on the topic",
    "GROUP_AUTHORIZATION_FAILED": "the user's ACLs don't allow the consumer group",
    "CLUSTER_AUTHORIZATION_FAILED": "the user's ACLs don't allow it on the cluster",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": "the user's ACLs don't allow the transactional id",
    "INVALID_REPLICATION_FACTOR": "lower `replication_factor`, or add brokers",
    "POLICY_VIOLATION": "the cluster's policy forbids it; declare the topics by hand",
    "UNSUPPORTED_VERSION": "Kafka 2.5 is the least that is needed",
}
_UNKNOWN_TOPIC: Final = ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION")
#: A member that isn't one any more, or not at this moment; see `Member`.
_REGROUPING: Final = frozenset(
    {"ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS", "FENCED_INSTANCE_ID"}
    | {"_FENCED", "STALE_MEMBER_EPOCH", "_STATE"}
)


def name_of(error: Any) -> str:
    """The name of a `KafkaError`, or of the one in a `KafkaException`."""
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    name = getattr(inner, "name", None)
    return str(name()) if callable(name) else ""


def is_regrouping(error: Any) -> bool:
    """Whether the group is about to say whose the partition is."""
    return name_of(error) in _REGROUPING


def is_refusal(error: Any) -> bool:
    """Whether it will be the same the next time."""
    return name_of(error) in _REFUSED


def translate(error: Any, address: str) -> BrokerError:
    """Find the broker error for a driver's error; raise it `from` that one."""
    name = name_of(error)
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    text = str(inner.str()) if callable(getattr(inner, "str", None)) else str(error)
    if advice := _REFUSED.get(name):
        return BrokerRefusedError(f"{address} refused: {text}; {advice}")
    if name in _UNKNOWN_TOPIC:
        return UnroutableError(
            f"{address}: {text}; make the topic, or let `declare_topics` be true"
        )
    if name in ("INVALID_TOPIC_EXCEPTION", "_INVALID_ARG") and "opic" in text:
        return QueueNameError(f"{address}: {text}; give another name")
    if name == "INVALID_SESSION_TIMEOUT":
        return BrokerConfigurationError(
            f"{address}: {text}; raise `lease_seconds`, or lower the brokers' "
            "`group.min.session.timeout.ms`"
        )
    if name in ("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"):
        return MessageTooLargeError(
            f"{address}: {text}; raise `max.message.bytes` of the topic, or publish a reference"
        )
    return BrokerUnavailableError(
        f"{address} can't be reached, or can't serve now: {text or name}; "
        "check that it runs, and `servers`"
    )
