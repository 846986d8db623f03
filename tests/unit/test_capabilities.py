"""The capability table: what the documentation says is what the code says, and has a test."""

from collections.abc import Iterator, Mapping
from dataclasses import fields

import pytest

from blocks.capabilities import Capabilities, as_table
from blocks.providers import PROVIDERS, broker_class
from tests.conformance.suite import BrokerConformance
from tests.project import PROJECT

PAGE = PROJECT / "docs" / "providers" / "README.md"


def every_variant() -> Mapping[str, Capabilities]:
    """The columns of the table."""
    return {
        name: broker.capabilities
        for slug in PROVIDERS
        for name, broker in broker_class(slug).variants().items()
    }


def marked() -> Iterator[str]:
    """The capabilities that tests of the suite stand behind."""
    for part in BrokerConformance.__mro__:
        members = [part, *vars(part).values()]
        for mark in (mark for one in members for mark in getattr(one, "pytestmark", ())):
            if mark.name == "capability":
                yield mark.args[0]


def test_the_table_of_the_documentation_is_the_codes():
    table = as_table(every_variant())
    assert table in PAGE.read_text(encoding="utf-8"), f"put this into {PAGE.name}:\n{table}"


@pytest.mark.parametrize("name", [one.name for one in fields(Capabilities)])
def test_every_line_of_the_table_has_a_test_of_the_suite_behind_it(name: str):
    assert name in set(marked())


def test_no_mark_names_a_line_that_is_not_there():
    assert set(marked()) <= {one.name for one in fields(Capabilities)}
