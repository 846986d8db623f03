"""What an answer means: delivered, try again, or give up."""

from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from pydantic import JsonValue

from noa_flows.webhooks.expected_response import ExpectedResponse
from noa_flows.webhooks.schema_judge import schema_problems
from noa_flows.webhooks.sender import Answer

#: The receiver, or something before it, says that the same request may succeed later.
TEMPORARY_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt was no delivery."""

    text: str
    temporary: bool


async def judge_answer(
    answer: Answer, expected: ExpectedResponse, *, schema_time: timedelta
) -> Failure | None:
    """Return what is wrong with an answer, or None if it is what was expected.

    An answer with an expected status and an unexpected body is final: the receiver has taken the
    webhook, and the same request would hardly make it answer otherwise.
    """
    if not expected.accepts(answer.status):
        return _unexpected_status(answer.status, expected)
    if expected.json_schema is None:
        return None
    problems = await _body_problems(answer, expected.json_schema, schema_time)
    if not problems:
        return None
    text = f"{_named(answer.status)}, but the body is not as expected: {'; '.join(problems)}"
    return Failure(text=text, temporary=False)


def _unexpected_status(status: int, expected: ExpectedResponse) -> Failure:
    remark = ""
    if status == HTTPStatus.GONE:
        remark = ": the receiver wants no more of these"
    elif HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        remark = ": redirects are not followed; name the final URL"
    elif status < HTTPStatus.MULTIPLE_CHOICES:
        remark = f", but expected was {', '.join(map(str, expected.status))}"
    return Failure(text=_named(status) + remark, temporary=status in TEMPORARY_STATUSES)


async def _body_problems(
    answer: Answer, schema: dict[str, JsonValue], schema_time: timedelta
) -> list[str]:
    if not answer.complete:
        return [f"it is larger than {len(answer.body)} bytes"]
    try:
        text = answer.body.decode()
    except UnicodeDecodeError:
        return ["it is not JSON in UTF-8"]
    return await schema_problems(schema, text, within=schema_time)


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
