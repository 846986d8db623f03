"""Answers are judged in a process that a hostile schema can't hold or fill."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest

from noa_flows.webhooks.schema_judge import schema_problems

AMPLE = timedelta(seconds=20)


async def problems(schema: dict[str, Any], text: str | None) -> list[str]:
    return await schema_problems(schema, text, within=AMPLE)


async def test_a_document_that_fits_has_no_problems() -> None:
    assert await problems({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, "5") == []


async def test_at_most_five_problems_are_told_and_none_quotes_the_document() -> None:
    document = json.dumps([f"hunter{n}" for n in range(9)])
    found = await problems({"items": {"type": "integer"}}, document)
    assert len(found) == 5
    assert found[0] == "at $[0]: does not fit 'type': 'integer'"
    assert "hunter" not in str(found)


async def test_the_schema_itself_can_be_checked_without_a_document() -> None:
    assert await problems({"type": "integer"}, None) == []
    assert "$.minimum" in (await problems({"minimum": "one"}, None))[0]


async def test_a_pattern_that_backtracks_for_ever_is_ended() -> None:
    started = time.monotonic()
    found = await schema_problems(
        {"pattern": "^(a+)+$"}, json.dumps("a" * 60 + "!"), within=timedelta(seconds=1)
    )
    assert found == ["it took longer than 1 s to be judged"]
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"$ref": "#"}, "1"),
        ({}, "[" * 100_000 + "]" * 100_000),
        ({"pattern": "("}, '"x"'),
        ({"$ref": "http://127.0.0.1:1/never-fetched"}, "1"),
    ],
    ids=["recursion", "deep document", "no pattern", "remote reference"],
)
async def test_what_cannot_be_judged_is_a_problem_and_no_crash(
    schema: dict[str, Any], text: str
) -> None:
    assert await problems(schema, text)


async def test_references_that_multiply_are_ended() -> None:
    defs = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 4} for n in range(20)}
    schema: dict[str, Any] = {"$ref": "#/$defs/d0", "$defs": {**defs, "d20": {}}}
    found = await schema_problems(schema, "1", within=timedelta(seconds=1))
    assert found == ["it took longer than 1 s to be judged"]
