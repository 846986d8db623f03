"""Which charts a report shows, and the points that they have."""

import pytest
from pydantic import JsonValue, ValidationError

from noa_flows.errors import PayloadError
from noa_flows.reports.chart import Chart, ChartKind
from noa_flows.reports.chart_svg import draw_chart
from noa_flows.reports.default_charts import default_charts
from noa_flows.reports.series import Series, series_of
from noa_flows.reports.table import Table

ORDERS: list[dict[str, JsonValue]] = [
    {"day": "2024-01-15", "region": "North", "sales": 10, "discount": 0.1},
    {"day": "2024-03-02", "region": "South", "sales": 5, "discount": 0.3},
    {"day": "2024-03-09", "region": "North", "sales": 7, "discount": 0.2},
    {"day": None, "region": None, "sales": None, "discount": None},
]


def points(chart: Chart, rows: list[dict[str, JsonValue]]) -> dict[str, float]:
    series = series_of(chart, Table.from_rows(rows), path="charts[0]")
    return dict(zip(series.labels, series.values, strict=True))


def series(kind: str, rows: list[dict[str, JsonValue]], x: str = "region") -> Series:
    return series_of(
        Chart.model_validate({"kind": kind, "x": x, "y": "sales"}),
        Table.from_rows(rows),
        path="charts[0]",
    )


def test_bars_are_sums_by_group_with_the_largest_first() -> None:
    assert points(Chart(kind=ChartKind.BAR, x="region", y="sales"), ORDERS) == {
        "North": 17,
        "South": 5,
        "(none)": 0,
    }


def test_averages_leave_out_groups_without_numbers() -> None:
    chart = Chart.model_validate(
        {"kind": "bar", "x": "region", "y": "discount", "aggregate": "avg"}
    )
    assert points(chart, ORDERS) == pytest.approx({"South": 0.3, "North": 0.15})


def test_rows_are_counted_without_a_column_of_numbers() -> None:
    chart = Chart.model_validate({"kind": "bar", "x": "region", "aggregate": "count"})
    assert points(chart, ORDERS) == {"North": 2, "South": 1, "(none)": 1}


def test_dates_become_months_and_a_month_without_rows_is_zero() -> None:
    assert points(Chart(kind=ChartKind.LINE, x="day", y="sales"), ORDERS) == {
        "Jan 2024": 10,
        "Feb 2024": 0,
        "Mar 2024": 12,
    }


def test_an_odd_date_does_not_fill_two_thousand_years() -> None:
    rows: list[dict[str, JsonValue]] = [{"day": "0001-01-01", "sales": 1}, *ORDERS[:1]]
    assert points(Chart(kind=ChartKind.LINE, x="day", y="sales"), rows) == {"1": 1, "2024": 10}


def test_the_smallest_groups_are_drawn_as_one() -> None:
    rows: list[dict[str, JsonValue]] = [{"city": f"c{n:02}", "sales": 100 - n} for n in range(20)]
    found = points(Chart(kind=ChartKind.PIE, x="city", y="sales"), rows)
    assert list(found) == ["c00", "c01", "c02", "c03", "c04", "Other"]
    assert sum(found.values()) == sum(100 - n for n in range(20))


def test_named_months_keep_their_order() -> None:
    rows: list[dict[str, JsonValue]] = [
        {"month": "January", "sales": 1},
        {"month": "February", "sales": 9},
        {"month": "March", "sales": 4},
    ]
    assert list(points(Chart(kind=ChartKind.BAR, x="month", y="sales"), rows)) == [
        "January",
        "February",
        "March",
    ]


def test_an_unknown_column_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(PayloadError, match=r"charts\[0\]\.y: .*'sale'.*did you mean 'sales'"):
        points(Chart(kind=ChartKind.BAR, x="region", y="sale"), ORDERS)


def test_a_column_of_text_has_no_sum() -> None:
    with pytest.raises(PayloadError, match=r"charts\[0\]\.y: .*'region' isn't all numbers"):
        points(Chart(kind=ChartKind.BAR, x="day", y="region"), ORDERS)


def test_a_pie_of_negative_numbers_is_refused() -> None:
    with pytest.raises(PayloadError, match=r"charts\[0\]\.kind: .*'North' is below zero"):
        points(Chart(kind=ChartKind.PIE, x="region", y="sales"), [{"region": "North", "sales": -1}])


def test_a_sum_needs_a_column() -> None:
    with pytest.raises(ValidationError, match="`y` is missing"):
        Chart.model_validate({"kind": "bar", "x": "region"})


def test_charts_are_chosen_by_kinds_and_names() -> None:
    chosen = default_charts(Table.from_rows(ORDERS))
    assert [(chart.kind.value, chart.x, chart.y) for chart in chosen] == [
        ("line", "day", "sales"),
        ("bar", "region", "sales"),
    ]


def test_a_column_that_never_varies_is_not_drawn() -> None:
    rows: list[dict[str, JsonValue]] = [{"country": "US", "city": c, "sales": 1} for c in "aabb"]
    assert [chart.x for chart in default_charts(Table.from_rows(rows))] == ["city"]


@pytest.mark.parametrize(
    "rows", [[], [{}], [{"name": "a"}, {"name": "b"}], [{"sales": 1}, {"sales": 2}]]
)
def test_there_is_no_chart_where_there_is_nothing_to_draw(rows: list[dict[str, JsonValue]]) -> None:
    assert default_charts(Table.from_rows(rows)) == ()


@pytest.mark.parametrize("kind", ["bar", "line", "area", "pie"])
def test_every_kind_is_drawn_with_its_labels_as_text(kind: str) -> None:
    rows: list[dict[str, JsonValue]] = [{"region": "<b>&", "sales": 3}, {"region": "S", "sales": 1}]
    svg = draw_chart(series(kind, rows), width=240, height=150, palette=["#1f4e79"])
    assert svg.startswith("<svg")
    assert "&lt;b&gt;&amp;" in svg


def test_numbers_of_every_size_are_drawn() -> None:
    rows: list[dict[str, JsonValue]] = [
        {"region": "a", "sales": 1e300},
        {"region": "b", "sales": 0},
    ]
    assert "<svg" in draw_chart(series("line", rows), width=240, height=150, palette=["#1f4e79"])


@pytest.mark.parametrize(
    ("days", "labels"),
    [
        (["2024-02-28", "2024-03-01"], ["28 Feb", "29 Feb", "1 Mar"]),
        (["2023-12-01", "2024-02-29"], ["Dec 2023", "Jan 2024", "Feb 2024"]),
        (["2019-05-05", "2023-01-01"], ["2019", "2020", "2021", "2022", "2023"]),
    ],
)
def test_the_step_of_time_follows_the_time_spanned(days: list[str], labels: list[str]) -> None:
    rows: list[dict[str, JsonValue]] = [{"day": day, "sales": 1} for day in days]
    assert list(points(Chart(kind=ChartKind.LINE, x="day", y="sales"), rows)) == labels


def test_numbers_stand_in_their_order() -> None:
    rows: list[dict[str, JsonValue]] = [{"size": size, "sales": 1} for size in (40, 5, None, 300)]
    found = points(Chart(kind=ChartKind.BAR, x="size", y="sales"), rows)
    assert list(found) == ["5", "40", "300", "(none)"]


def test_counting_a_column_leaves_out_what_is_missing() -> None:
    chart = Chart.model_validate({"kind": "bar", "x": "region", "y": "day", "aggregate": "count"})
    found = series_of(chart, Table.from_rows(ORDERS), path="charts[0]")
    assert dict(zip(found.labels, found.values, strict=True)) == {
        "North": 2,
        "South": 1,
        "(none)": 0,
    }
    assert (found.title, found.decimals) == ("Number of Day by Region", 0)


def test_a_group_whose_sum_no_float_can_hold_is_not_drawn() -> None:
    huge: list[dict[str, JsonValue]] = [{"region": "a", "sales": 1.7e308}] * 2
    rows: list[dict[str, JsonValue]] = [*huge, {"region": "b", "sales": 1}]
    assert points(Chart(kind=ChartKind.BAR, x="region", y="sales"), rows) == {"b": 1}
    whole: list[dict[str, JsonValue]] = [{"region": "a", "sales": 10**308}] * 2
    assert points(Chart(kind=ChartKind.BAR, x="region", y="sales"), whole) == {}


def test_averages_of_no_numbers_draw_nothing() -> None:
    rows: list[dict[str, JsonValue]] = [{"day": "2024-01-01", "sales": None}, {"sales": 2}]
    chart = Chart.model_validate({"kind": "line", "x": "day", "y": "sales", "aggregate": "avg"})
    assert points(chart, rows) == {}
