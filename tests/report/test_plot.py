"""The picture of the work is an SVG that a parser accepts and that says what the rows say."""

from xml.etree import ElementTree

import pytest

from edgesvit.cost.operations import Work
from edgesvit.report import plot

SVG = "{http://www.w3.org/2000/svg}"
ROWS = [Work("first", 1000, multiplies=1000), Work("add", 0),
        Work("q<&>", 4000, sops_int16=500.0, sops_int32=500.0, rate=0.25, union=0.5),
        Work("levels", 4000, sops_int32=8000.0, rate=2.0, union=1.0)]


def bars(colour: str, y_of: int) -> list[float]:
    """Widths of the bars of one colour, without the legend's (which is above `y_of`)."""
    root = ElementTree.fromstring(plot.work_svg("T & Co", ROWS))
    return [float(bar.get("width")) for bar in root.iter(f"{SVG}rect")
            if bar.get("fill") == colour and float(bar.get("y")) >= y_of]


def test_bars_are_in_proportion():
    assert bars(plot._MACS, plot._TOP) == [plot._WORK / 8]
    assert bars(plot._SOPS, plot._TOP) == [plot._WORK / 8, plot._WORK]
    assert bars(plot._DENSE, plot._TOP) == [plot._WORK / 8, plot._WORK / 2, plot._WORK / 2]
    assert bars(plot._FIRES, plot._TOP) == [plot._RATE / 8, plot._RATE]
    assert bars(plot._UNION, plot._TOP) == [plot._RATE / 4, plot._RATE / 2]


def test_names_are_escaped_and_idle_operators_left_out():
    root = ElementTree.fromstring(plot.work_svg("T & Co", ROWS))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "T & Co" in texts and "q<&>" in texts and "add" not in texts
    assert "25.0 / 50.0" in texts and "1.00k" in texts


@pytest.mark.parametrize("rows", [[], ROWS[:1]])
def test_everything_is_inside_the_picture(rows):
    root = ElementTree.fromstring(plot.work_svg("t", rows))
    width, height = float(root.get("width")), float(root.get("height"))
    for bar in root.iter(f"{SVG}rect"):
        assert float(bar.get("x", 0)) + float(bar.get("width")) <= width
        assert float(bar.get("y", 0)) + float(bar.get("height")) <= height
