"""Charts of Excel's own, which follow the cells that they refer to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from noa_flows.reports.chart import ChartKind
from noa_flows.reports.excel_cells import Sheet
from noa_flows.reports.series import Series

if TYPE_CHECKING:
    from openpyxl.chart._chart import ChartBase

#: Centimetres.
_WIDTH: Final = 17.0
_HEIGHT: Final = 7.5


def native_chart(
    sheet: Sheet, series: Series, *, first_row: int, palette: Sequence[str]
) -> "ChartBase":
    """Make a chart over two columns of cells.

    Args:
        sheet: Where the cells are: labels in column A, numbers in column B.
        series: What they hold.
        first_row: The row of the headings, above the first point.
        palette: Colours as `#rrggbb`.
    """
    from openpyxl.chart import Reference

    last_row = first_row + len(series.labels)
    chart: Any = _empty_chart(series)
    chart.title = series.title
    chart.width, chart.height = _WIDTH, _HEIGHT
    numbers = Reference(sheet, min_col=2, min_row=first_row, max_row=last_row)
    chart.add_data(numbers, titles_from_data=True)
    chart.set_categories(Reference(sheet, min_col=1, min_row=first_row + 1, max_row=last_row))
    colours = [colour.removeprefix("#") for colour in palette]
    if series.kind is ChartKind.PIE:
        _dress_pie(chart, len(series.labels), colours)
    else:
        _dress_axes(chart, series, colours[0])
    return chart


def _empty_chart(series: Series) -> "ChartBase":
    from openpyxl.chart import AreaChart, BarChart, DoughnutChart, LineChart

    match series.kind:
        case ChartKind.LINE:
            return LineChart()
        case ChartKind.AREA:
            return AreaChart()
        case ChartKind.PIE:
            return DoughnutChart(holeSize=58)
        case ChartKind.BAR:
            bars = BarChart()
            bars.type = "col" if series.ordered else "bar"
            bars.gapWidth = 60
            return bars


def _dress_pie(chart: Any, slices: int, colours: Sequence[str]) -> None:
    """Colour the slices, and write their shares beside them."""
    from openpyxl.chart.label import DataLabelList
    from openpyxl.chart.marker import DataPoint

    for index in range(slices):
        point = DataPoint(idx=index)
        point.graphicalProperties.solidFill = colours[index % len(colours)]
        chart.series[0].dPt.append(point)
    chart.dataLabels = DataLabelList(showPercent=True, showVal=False, showSerName=False)


def _dress_axes(chart: Any, series: Series, colour: str) -> None:
    """Colour the series, and show both axes, which openpyxl hides from newer versions of Excel."""
    chart.legend = None
    chart.x_axis.delete = False
    chart.y_axis.delete = False
    chart.y_axis.number_format = "#,##0" if series.decimals == 0 else "#,##0.##"
    drawn = chart.series[0].graphicalProperties
    if series.kind is ChartKind.LINE:
        drawn.line.solidFill = colour
        chart.series[0].smooth = False
    else:
        drawn.solidFill = colour
    if series.kind is ChartKind.BAR and not series.ordered:
        # Excel begins at the bottom; a ranking is read from the top.
        chart.x_axis.scaling.orientation = "maxMin"
