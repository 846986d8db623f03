"""What an error of botocore, or an answer of AWS, means to whoever uses a broker."""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from blocks.errors import (
    BrokerConfigurationError,
    BrokerError,
    BrokerRefusedError,
    BrokerUnavailableError,
    MessageTooLargeError,
)

#: Codes that stay until somebody changes something → what to change.
_LASTING: Final = {
    "AccessDenied": "the credentials don't allow it; see docs/providers/sqs.md for the permissions",
    "AuthorizationError": "the credentials don't allow it; see docs/providers/sqs.md",
    "AuthFailure": "check the access key",
    "ExpiredToken": "the credentials were temporary; get new ones, or name a role to assume",
    "IncompleteSignature": "check the access key",
    "InvalidAccessKeyId": "check `access_key_id`",
    "InvalidAddress": "check `region` and `endpoint`",
    "InvalidClientTokenId": "check `access_key_id`, and the session token if there is one",
    "InvalidSecurity": "the endpoint wants https",
    "KmsAccessDenied": "the credentials don't allow the use of the queue's KMS key",
    "KmsDisabled": "the queue's KMS key is disabled",
    "KmsNotFound": "the queue's KMS key doesn't exist; check `kms_key_id`",
    "KMS.": "see the queue's KMS key",
    "MissingAuthenticationToken": "give credentials",
    "NoSuchBucket": "make the bucket, or check `large_payload_bucket`",
    "OptInRequired": "the account isn't signed up for the service",
    "RequestExpired": "check this machine's clock",
    "SignatureDoesNotMatch": "check `secret_access_key`, and this machine's clock",
    "TokenRefreshRequired": "the temporary credentials have expired; get new ones",
    "UnrecognizedClient": "check `access_key_id`",
}
_MISSING: Final = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
#: Codes of a service that is there but can't serve now → what to do about it.
_PASSING: Final = {
    "Throttl": "too many requests; they are made less often now",
    "RequestThrottled": "too many requests; they are made less often now",
    "TooManyRequests": "too many requests; they are made less often now",
    "SlowDown": "too many requests; they are made less often now",
    "KmsThrottled": "too many requests to KMS; raise `kms_reuse_seconds`",
    "OverLimit": "too many messages are in flight; settle some first",
    "ServiceUnavailable": "try again",
    "InternalError": "try again",
    "InternalFailure": "try again",
    "QueueDeletedRecently": "the queue was deleted less than a minute ago; try again after it",
    "AWS.SimpleQueueService.QueueDeletedRecently": "it was deleted a moment ago; try again",
}
_TOO_LARGE: Final = ("BatchRequestTooLong", "must be shorter than", "Message too long")
_LOST: Final = ("MessageNotInflight", "ReceiptHandleIsInvalid")
#: Parts of the text where the code is that of any wrong parameter.
_LOST_TEXTS: Final = ("receipt handle", "not available for visibility", "Total VisibilityTimeout")
_CODE_IN_XML: Final = re.compile(r"<Code>(?P<code>.*?)</Code>\s*<Message>(?P<text>.*?)</Message>")
_LONGEST_TEXT: Final = 300
_SERVER_ERROR: Final = 500


class QueueMissingError(BrokerRefusedError):
    """There is no such queue at SQS."""


def translate(error: Exception, address: str) -> BrokerError:
    """Find the broker error for a driver's error; raise it `from` that one."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    if isinstance(error, exceptions.ClientError):
        response = cast("Mapping[str, Mapping[str, Any]]", error.response)
        answer = response.get("Error", {})
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return from_answer(
            str(answer.get("Code", "")), str(answer.get("Message", "")), address, status=status
        )
    if isinstance(error, exceptions.SSLError):
        return BrokerRefusedError(
            f"{address}: the certificate isn't trusted: {_short(error)}; check `tls_ca_file`, and "
            "that `endpoint` names the host of the certificate"
        )
    if isinstance(error, ResponseParserError):
        return BrokerUnavailableError(
            f"{address} answered something else than AWS would: {_short(error)}; check `endpoint`, "
            "and what stands in between"
        )
    if isinstance(error, _unreachable()):
        return BrokerUnavailableError(
            f"{address} can't be reached: {_short(error) or type(error).__name__}; check that it "
            "runs, `region`, `endpoint`, and the way there"
        )
    return _by_kind(error, address)


def from_answer(code: str, text: str, address: str, *, status: int = 0) -> BrokerError:
    """Find the broker error for a code of AWS, of a whole call or of one entry of a batch."""
    if in_xml := _CODE_IN_XML.search(text):
        # An answer of the older protocol, which the driver hands on as it is.
        code, text = in_xml["code"], in_xml["text"]
    told = f"{code}: {_short(text)}" if text else code
    return _known(code, told, address) or (
        BrokerUnavailableError(f"{address} can't serve now: {told}; try again")
        if status >= _SERVER_ERROR
        else BrokerRefusedError(f"{address} refused: {told}")
    )


def _known(code: str, told: str, address: str) -> BrokerError | None:
    if any(one in code for one in _MISSING):
        return QueueMissingError(
            f"{address} has no such queue ({told}); declare it, or check its name and the region"
        )
    if any(one in told for one in _TOO_LARGE):
        return MessageTooLargeError(f"{address} refused: {told}; see `max_message_bytes`")
    for prefix, advice in _PASSING.items():
        if code.startswith(prefix):
            return BrokerUnavailableError(f"{address} can't serve now: {told}; {advice}")
    for prefix, advice in _LASTING.items():
        if code.startswith(prefix):
            return BrokerRefusedError(f"{address} refused: {told}; {advice}")
    return None


def is_lost(code: str, text: str) -> bool:
    """Whether the answer to one entry says that its receipt handle leads nowhere any more."""
    return code.endswith(_LOST) or any(one in text for one in _LOST_TEXTS)


def _by_kind(error: Exception, address: str) -> BrokerError:
    from botocore import exceptions

    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return BrokerConfigurationError(
            f"{address}: no AWS credentials were found; give `access_key_id` and "
            "`secret_access_key`, an AwsCredentials block, or let AWS's own chain find them"
        )
    if isinstance(error, exceptions.BotoCoreError | ValueError):
        return BrokerConfigurationError(f"{address}: {_short(error)}; check the block's fields")
    return BrokerRefusedError(f"{address}: {type(error).__name__}: {_short(error)}")


def _unreachable() -> tuple[type[Exception], ...]:
    from botocore import exceptions

    return exceptions.HTTPClientError, exceptions.ConnectionError, OSError


def _short(text: object) -> str:
    # A wrong signature is answered with all that was to be signed.
    return " ".join(str(text).split())[:_LONGEST_TEXT]
