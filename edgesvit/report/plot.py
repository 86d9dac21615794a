"""A picture of a program's work: one SVG of horizontal bars, written without any library.

Light is what dense execution or every neuron would be, dark what the images made of it: dark over
light in the left half is the firing rate, in the right half it stands beside U. The scales are
linear, because the long bars are where the energy goes; the numbers are there for the short ones.
A rate of levels is their mean, which may exceed 100 %.
"""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from edgesvit.cost.operations import Work
from edgesvit.report.table import si

_ROW, _BAR, _TOP, _GAP = 18, 11, 64, 14  # heights of a row, its bar, the head; space between parts
_NAME, _WORK, _RATE, _NUMBER = 7, 330, 180, 110  # width of a letter, of both scales, of numbers
_DENSE, _SOPS, _MACS, _UNION, _FIRES = "#dfe3ea", "#2f6db5", "#c4622d", "#cfe3d4", "#3c8d55"


def work_svg(title: str, rows: Sequence[Work]) -> str:
    """An SVG of all operators that compute: SOPs and real MACs beside dense, rate beside U."""
    rows = [row for row in rows if row.macs]
    # A level counts more than once, so SOPs may exceed the dense MACs.
    most = max((max(row.macs, row.sops) for row in rows), default=1)
    rate_most = max([1.0, *(row.rate for row in rows if row.rate is not None)])
    left = _GAP + _NAME * max((len(row.output) for row in rows), default=0) + _GAP
    right = left + _WORK + _NUMBER
    width, height = right + _RATE + _NUMBER, _TOP + _ROW * len(rows) + _GAP
    parts = [_text(_GAP, 20, title, size=14)]
    parts += _legend(left, ((_DENSE, "dense MACs"), (_SOPS, "SOPs"), (_MACS, "MACs multiplied")))
    parts += _legend(right, ((_FIRES, "rate %"), (_UNION, "U %")))
    for index, row in enumerate(rows):
        y = _TOP + _ROW * index
        done, colour = (row.multiplies, _MACS) if row.multiplies else (row.sops, _SOPS)
        parts += [_text(left - _GAP, y + 10, row.output, anchor="end"),
                  _bar(left, y, _WORK * row.macs / most, _DENSE),
                  _bar(left, y, _WORK * done / most, colour),
                  _text(left + _WORK * max(row.macs, done) / most + 5, y + 10, si(round(done)))]
        if row.rate is not None:
            parts += [_bar(right, y, _RATE * row.union / rate_most, _UNION),
                      _bar(right, y + 3, _RATE * row.rate / rate_most, _FIRES, _BAR - 6),
                      _text(right + _RATE * max(row.union, row.rate) / rate_most + 5, y + 10,
                            f"{100 * row.rate:.1f} / {100 * row.union:.1f}")]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>", ""])


def _legend(x: int, entries: Sequence[tuple[str, str]]) -> list[str]:
    parts = []
    for colour, text in entries:
        parts += [_bar(x, 36, 12, colour), _text(x + 17, 46, text)]
        x += 32 + _NAME * len(text)
    return parts


def _bar(x: float, y: float, width: float, colour: str, height: int = _BAR) -> str:
    return (f'<rect x="{x:.1f}" y="{y}" width="{width:.2f}" height="{height}" '
            f'fill="{colour}"/>')


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 11) -> str:
    return (f'<text x="{x:.1f}" y="{y}" font-size="{size}" text-anchor="{anchor}">'
            f"{escape(text)}</text>")
