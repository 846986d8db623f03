"""JSON is read as far as a database can hold it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noa_flows.errors import EnvelopeError
from noa_flows.strict_json import JsonLimits, dump_json, load_json

LIMITS = JsonLimits(max_body_bytes=100_000, max_nesting=64)


def refusal(body: bytes) -> EnvelopeError:
    with pytest.raises(EnvelopeError) as caught:
        load_json(body, LIMITS, path="data")
    assert caught.value.reason == "schema"
    return caught.value


@pytest.mark.parametrize(
    ("body", "text", "path"),
    [
        (b"\xff\xfe", "not UTF-8", ""),
        (b"", "not JSON", ""),
        (b'{"a": 1', "not JSON", ""),
        (b'{"a": NaN}', "NaN is no JSON number", ""),
        (b'{"a": -Infinity}', "-Infinity is no JSON number", ""),
        (b'{"a": [0, 1e999]}', "too large for a double", "data.a[1]"),
        (b'{"a": {"b": "x\\u0000"}}', "NUL", "data.a.b"),
        (b'{"a\\u0000": 1}', "NUL", "data"),
        (b'{"a": "\\ud800"}', "surrogate", "data.a"),
        (b"1" * 5000, "not JSON", ""),
        (b"[" * 65 + b"]" * 65, "nested deeper than 64", "data[0][0][0][0][0][0][0]"),
        (b"[" * 1000 + b"]" * 1000, "nested deeper than 64", ""),
        (b"[" * 90_000, "nested deeper than 64", ""),
        (b'"' + b"x" * 100_000 + b'"', "100002 bytes; at most 100000", ""),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_a_database_cannot_hold_is_refused_with_its_path(
    body: bytes, text: str, path: str
) -> None:
    error = refusal(body)
    assert text in str(error)
    assert error.path == path


def test_nesting_up_to_the_limit_is_taken() -> None:
    assert load_json(b"[" * 64 + b"]" * 64, LIMITS)


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii")), inner),
    max_leaves=20,
)


@given(value=_values)
def test_what_is_dumped_is_loaded(value: object) -> None:
    if "\\u0000" in json.dumps(value):
        return
    assert load_json(dump_json(value), LIMITS) == value
