"""camelCase is turned where a payload knows the name, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from noa_flows.errors import PayloadError
from noa_flows.payload import Payload
from noa_flows.payload_names import camel_case, snake_cased


class Retention(Payload):
    max_backups: int


class Order(Payload):
    template_data: dict[str, JsonValue]
    retention: Retention | None = None
    all_of_them: list[Retention] | None = None


def test_known_names_are_turned_at_every_depth() -> None:
    sent = {
        "templateData": {"firstName": "Noa"},
        "retention": {"maxBackups": 3},
        "allOfThem": [{"maxBackups": 1}, {"max_backups": 2}],
    }
    assert snake_cased(sent, Order) == {
        "template_data": {"firstName": "Noa"},
        "retention": {"max_backups": 3},
        "all_of_them": [{"max_backups": 1}, {"max_backups": 2}],
    }


def test_keys_of_free_form_objects_are_never_touched() -> None:
    free = {"maxBackups": 1, "templateData": {"allOfThem": [{"maxBackups": 2}]}}
    assert snake_cased({"template_data": free}, Order)["template_data"] == free


def test_unknown_names_are_left_for_the_model_to_refuse() -> None:
    assert snake_cased({"fooBar": 1}, Order) == {"fooBar": 1}


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ({"templateData": {}, "template_data": {}}, "template_data"),
        ({"retention": {"maxBackups": 1, "max_backups": 1}}, "retention.max_backups"),
        ({"all_of_them": [{}, {"max_backups": 1, "maxBackups": 1}]}, "all_of_them[1].max_backups"),
    ],
)
def test_both_spellings_of_one_name_are_refused_with_the_path(
    sent: dict[str, object], path: str
) -> None:
    with pytest.raises(PayloadError, match="sent twice") as caught:
        snake_cased(sent, Order)
    assert caught.value.path == path


@given(name=st.from_regex(r"[a-z]+(_[a-z0-9]+){0,4}", fullmatch=True))
def test_camel_case_has_no_underscores_and_the_same_letters(name: str) -> None:
    camel = camel_case(name)
    assert "_" not in camel
    assert camel.lower() == name.replace("_", "")
