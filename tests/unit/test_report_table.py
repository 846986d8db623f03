"""How rows are read as a table."""

from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from noa_flows.errors import PayloadError
from noa_flows.reports.cell_text import cell_text, number_text, short_number_text
from noa_flows.reports.column import Column, ColumnKind, Measure, label_of, measure_of
from noa_flows.reports.table import MAX_COLUMNS, Table

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def only_column(*values: JsonValue, key: str = "value") -> Column:
    return Table.from_rows([{key: value} for value in values]).columns[0]


def test_columns_stand_in_the_order_in_which_rows_first_name_them() -> None:
    table = Table.from_rows([{"b": 1}, {"a": 2, "b": 3}, {"c": 4}])
    assert [column.key for column in table.columns] == ["b", "a", "c"]
    assert table.rows == ((1, None, None), (3, 2, None), (None, None, 4))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((1, 2.5, None, ""), ColumnKind.NUMBER),
        ((True, False, None), ColumnKind.BOOLEAN),
        (("2024-02-29", None), ColumnKind.DATE),
        (("2024-02-29", "2024-03-01T10:00:00"), ColumnKind.DATETIME),
        (("2024-02-30",), ColumnKind.TEXT),
        (("20240229",), ColumnKind.TEXT),
        ((1, "n/a"), ColumnKind.TEXT),
        ((1, True), ColumnKind.TEXT),
        ((None,), ColumnKind.TEXT),
    ],
)
def test_the_kind_of_a_column_is_what_all_of_its_values_are(
    values: tuple[JsonValue, ...], kind: ColumnKind
) -> None:
    assert only_column(*values).kind is kind


def test_dates_and_moments_are_read_and_zones_become_utc() -> None:
    table = Table.from_rows([{"day": "2024-03-01", "at": "2024-03-01T01:00:00+02:00"}])
    assert table.rows == ((date(2024, 3, 1), datetime(2024, 2, 29, 23, 0)),)  # noqa: DTZ001
    assert [column.label for column in table.columns] == ["Day", "At (UTC)"]


def test_lists_and_objects_are_shown_as_json() -> None:
    table = Table.from_rows([{"tags": ["ü", 1], "size": {"w": 2}}])
    assert table.rows == (('["ü", 1]', '{"w": 2}'),)


def test_control_characters_and_broken_surrogates_are_left_out() -> None:
    assert Table.from_rows([{"a": "x\x00\x1b\ud800y\tz"}]).rows == (("xy\tz",),)


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("orderId", "Order ID"),
        ("order_date", "Order date"),
        ("amount", "Amount"),
        ("Sub-Category", "Sub-Category"),
        ("Umsatz in €", "Umsatz in €"),
        ("", ""),
    ],
)
def test_programmers_names_become_headings_and_others_stay(key: str, label: str) -> None:
    assert label_of(key) == label


def test_headings_that_would_be_the_same_stay_apart() -> None:
    table = Table.from_rows([{"orderId": 1, "order_id": 2}])
    assert [column.label for column in table.columns] == ["orderId", "order_id"]


@pytest.mark.parametrize(
    ("key", "measure"),
    [
        ("sales", Measure.SUM),
        ("quantity", Measure.SUM),
        ("discount", Measure.AVERAGE),
        ("unitPrice", Measure.AVERAGE),
        ("growth %", Measure.AVERAGE),
        ("orderId", Measure.NONE),
        ("Postal Code", Measure.NONE),
        ("year", Measure.NONE),
    ],
)
def test_only_numbers_that_mean_something_together_are_summed_up(
    key: str, measure: Measure
) -> None:
    assert measure_of(key) is measure


def test_sums_are_exact_and_averages_skip_missing_values() -> None:
    table = Table.from_rows([{"n": 0.1, "rate": 1}, {"n": 0.2}, {"n": 0.3, "rate": 2}])
    assert [table.total(column) for column in table.columns] == [0.6, 1.5]


def test_a_sum_beyond_every_float_is_no_sum() -> None:
    table = Table.from_rows([{"n": 1.7e308}, {"n": 1.7e308}])
    assert table.total(table.columns[0]) is None


def test_too_many_different_names_are_refused_with_the_row() -> None:
    with pytest.raises(PayloadError, match=rf"data\[{MAX_COLUMNS}\].*same names in every row"):
        Table.from_rows([{f"c{number}": 1} for number in range(MAX_COLUMNS + 1)])


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (1234567.891, 2, "1,234,567.89"),
        (-1234, 0, "-1,234"),
        (0, 2, "0.00"),
        (10**17, 0, "100,000,000,000,000,000"),
        (1e300, 2, "1.000000E+300"),
    ],
)
def test_numbers_have_thousands_separators(value: float, decimals: int, text: str) -> None:
    assert number_text(value, decimals) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.5, "12.50"), (1234567.8, "1,234,568"), (2.5e9, "2.50 bn"), (1e17, "1.00E+17")],
)
def test_large_key_figures_are_shortened(value: float, text: str) -> None:
    assert short_number_text(value, 2) == text


def test_years_and_identifiers_have_no_thousands_separators() -> None:
    assert cell_text(2024, only_column(2024, key="year")) == "2024"
    assert cell_text(10248, only_column(10248, key="orderId")) == "10248"


def test_small_fractions_keep_up_to_four_decimals() -> None:
    assert only_column(0.0375, 0.5).decimals == 4
    assert only_column(1.23456, 0.5).decimals == 2
    assert only_column(3.0, 4).decimals == 0


@given(st.lists(st.dictionaries(st.text(max_size=3), JSON_VALUES, max_size=4), max_size=6))
def test_any_rows_make_a_table_whose_cells_can_be_printed(rows: list[dict[str, JsonValue]]) -> None:
    table = Table.from_rows(rows)
    assert len(table.rows) == len(rows)
    for row in table.rows:
        texts = [cell_text(cell, column) for cell, column in zip(row, table.columns, strict=True)]
        "".join(texts).encode()
