"""Charts as SVG, drawn by Vega-Lite without a browser and without a network."""

from collections.abc import Sequence
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, Final

from noa_flows.reports.cell_text import short_number_text
from noa_flows.reports.chart import ChartKind
from noa_flows.reports.series import Series

#: The folder of the fonts that reports are set in.
FONTS: Final = Path(__file__).parent / "fonts"

_FONT: Final = "Inter"
_INK: Final = "#3a4450"
_GRID: Final = "#e6e9ed"
_MAX_LEVEL_LABELS: Final = 16
#: The largest number of an axis, and how d3 writes its labels up to there.
_NUMBER_FORMATS: Final = ((10, "~g"), (10**4, ",.0f"), (10**15, "~s"), (inf, ".1~e"))
#: Points: the longest name of a bar, and about what a letter and its share of the margin take.
_LABEL_LIMIT: Final = 110
_LETTER: Final = 5.2
_LARGE: Final = 1_000
_THICKEST_BAR: Final = 20
_FEW_BARS: Final = 6


def draw_chart(series: Series, *, width: int, height: int, palette: Sequence[str]) -> str:
    """Draw a chart as SVG of some given size in points, without its title."""
    import vl_convert

    _register_fonts()
    specification = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": width,
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "padding": 0,
        "background": "transparent",
        "data": {"values": _points(series)},
        "config": _config(palette),
        **_drawing(series, palette, width, height),
    }
    return vl_convert.vegalite_to_svg(specification, allowed_base_urls=[])


@cache
def _register_fonts() -> None:
    """Let labels be measured in the font that they are set in."""
    import vl_convert

    vl_convert.register_font_directory(str(FONTS))


def _points(series: Series) -> list[dict[str, Any]]:
    """Give each point the text that stands beside it."""
    whole = sum(series.values) or 1
    return [
        {
            "label": label,
            "value": value,
            "text": text,
            "share": f"{label}  {value / whole:.0%}" if series.kind is ChartKind.PIE else label,
        }
        for label, value, text in zip(series.labels, series.values, _texts(series), strict=True)
    ]


def _texts(series: Series) -> list[str]:
    """Write the numbers, without decimals where the largest is large."""
    decimals = 0 if max(map(abs, series.values)) >= _LARGE else series.decimals
    return [short_number_text(value, decimals) for value in series.values]


def _drawing(series: Series, palette: Sequence[str], width: int, height: int) -> dict[str, Any]:
    """Choose marks and axes by the kind of the chart."""
    if series.kind is ChartKind.PIE:
        return _pie(palette, min(height * 0.45, width * 0.25))
    if series.kind is ChartKind.BAR and not series.ordered:
        return _lying_bars(series, palette[0], width)
    marks: dict[ChartKind, dict[str, Any]] = {
        ChartKind.BAR: {"type": "bar", "cornerRadiusEnd": 1.5},
        ChartKind.LINE: {
            "type": "line",
            "strokeWidth": 2,
            "point": {"size": 24, "color": palette[0]},
        },
        ChartKind.AREA: {
            "type": "area",
            "fillOpacity": 0.18,
            "line": {"strokeWidth": 2, "color": palette[0]},
        },
    }
    return {
        "mark": {**marks[series.kind], "color": palette[0]},
        "encoding": {
            "x": {"field": "label", "type": "ordinal", "sort": None, "axis": _step_axis(series)},
            "y": {"field": "value", "type": "quantitative", "axis": _number_axis(series)},
        },
    }


def _pie(palette: Sequence[str], radius: float) -> dict[str, Any]:
    """Draw a ring, and name each part with its share in the legend."""
    return {
        "mark": {
            "type": "arc",
            "innerRadius": radius * 0.58,
            "outerRadius": radius,
            "stroke": "white",
            "strokeWidth": 1.5,
        },
        "encoding": {
            "theta": {"field": "value", "type": "quantitative", "stack": True},
            "order": {"field": "value", "type": "quantitative", "sort": "descending"},
            "color": {
                "field": "share",
                "type": "nominal",
                "sort": None,
                "scale": {"range": list(palette)},
                "legend": {"title": None, "orient": "right", "symbolType": "square"},
            },
        },
    }


def _lying_bars(series: Series, colour: str, width: int) -> dict[str, Any]:
    """Draw bars from left to right, which leaves room for long names and for numbers."""
    low, high = min(0.0, *series.values), max(0.0, *series.values)
    room = (high - low or 1.0) * _room_for_numbers(series, width)
    number = {
        "field": "value",
        "type": "quantitative",
        "axis": None,
        "scale": {"domain": [low - (room if low else 0), high + room], "nice": False},
    }
    name = {
        "field": "label",
        "type": "nominal",
        "sort": None,
        "axis": {
            "title": None,
            "domain": False,
            "ticks": False,
            "grid": False,
            "labelLimit": _LABEL_LIMIT,
        },
    }
    beside = "datum.value < 0 ? {} : {}"
    text = {
        "type": "text",
        "align": {"expr": beside.format("'right'", "'left'")},
        "dx": {"expr": beside.format(-4, 4)},
        "fontSize": 8,
        "color": _INK,
    }
    thickness = _THICKEST_BAR if len(series.labels) <= _FEW_BARS else {"band": 0.72}
    bar = {"type": "bar", "color": colour, "cornerRadiusEnd": 1.5, "height": thickness}
    return {
        "encoding": {"x": number, "y": name},
        "layer": [{"mark": bar}, {"mark": text, "encoding": {"text": {"field": "text"}}}],
    }


def _room_for_numbers(series: Series, width: int) -> float:
    """Work out how far the axis goes on beyond the bars, as a share of their length."""
    names = min(_LABEL_LIMIT, max(map(len, series.labels)) * _LETTER)
    numbers = max(map(len, _texts(series))) * _LETTER + _LETTER
    return numbers / max(width - names - numbers, numbers)


def _step_axis(series: Series) -> dict[str, Any]:
    """Label steps level while there are few; Vega leaves labels out where they would overlap."""
    return {
        "title": None,
        "labelAngle": 0 if len(series.labels) <= _MAX_LEVEL_LABELS else -45,
        "labelOverlap": True,
        "labelLimit": 90,
        "grid": False,
        "ticks": False,
    }


def _number_axis(series: Series) -> dict[str, Any]:
    """Label numbers as 12k or 3M from ten thousand on, and as powers of ten where those end."""
    largest = max(map(abs, series.values))
    number_format = next(text for limit, text in _NUMBER_FORMATS if largest < limit)
    return {"title": None, "format": number_format, "tickCount": 5, "domain": False, "ticks": False}


def _config(palette: Sequence[str]) -> dict[str, Any]:
    return {
        "font": _FONT,
        "view": {"stroke": None},
        "range": {"category": list(palette)},
        "axis": {
            "labelFontSize": 8,
            "labelColor": _INK,
            "gridColor": _GRID,
            "domainColor": _GRID,
            "labelPadding": 5,
        },
        "legend": {"labelFontSize": 8, "labelColor": _INK, "labelLimit": 150, "rowPadding": 4},
    }
