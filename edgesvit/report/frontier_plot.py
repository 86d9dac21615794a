"""A picture of what may be chosen: accuracy over bytes and over instructions, as one SVG."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_SIDE, _LEFT, _TOP, _BETWEEN = 320, 60, 50, 90  # of a panel, the margins, the room between panels
_AXIS, _LINE, _OTHER, _TICKS = "#8a93a3", "#2f6db5", "#c9d3e2", 4


def frontier_svg(title: str, panels: Mapping[str, Sequence[tuple[float, float]]],
                 results: Sequence[int] = ()) -> str:
    """A panel for each cost, by its label: points (cost, accuracy in percent), costs logarithmic.

    Where a line joins points, none of the others is better in both. `results` are the indices of
    points to mark, the models that were made.
    """
    width = _LEFT + len(panels) * (_SIDE + _BETWEEN)
    parts = [_text(_LEFT, 20, title, size=14)]
    for index, (label, points) in enumerate(panels.items()):
        parts += _panel(_LEFT + index * (_SIDE + _BETWEEN), label, points, results)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_TOP + _SIDE + 50}" '
        f'viewBox="0 0 {width} {_TOP + _SIDE + 50}" font-family="sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>", '<rect width="100%" height="100%" fill="white"/>',
        *parts, "</svg>", ""])


def _panel(left: int, label: str, points: Sequence[tuple[float, float]], results: Sequence[int]
           ) -> list[str]:
    costs, rights = ([point[i] for point in points] for i in (0, 1))
    across = _scale([math.log(cost) for cost in costs], left, left + _SIDE)
    up = _scale(rights, _TOP + _SIDE, _TOP)
    places = [(across(math.log(cost)), up(right)) for cost, right in points]
    parts = [f'<rect x="{left}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" '
             f'stroke="{_AXIS}"/>', _text(left + _SIDE / 2, _TOP + _SIDE + 38, label, "middle")]
    for i in range(_TICKS + 1):
        low, high = math.log(min(costs)), math.log(max(costs))
        cost = math.exp(low + (high - low) * i / _TICKS)
        right = min(rights) + (max(rights) - min(rights)) * i / _TICKS
        parts += [_text(across(math.log(cost)), _TOP + _SIDE + 16, f"{cost:,.3g}", "middle"),
                  _text(left - 6, up(right) + 4, f"{right:.1f} %", "end")]
    best = [place for place, point in zip(places, points, strict=True)
            if not any(_better(other, point) for other in points)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in sorted(best))
    parts += [_dot(x, y, _OTHER, 3) for x, y in places]
    parts.append(f'<polyline points="{line}" fill="none" stroke="{_LINE}"/>')
    return parts + [_dot(*places[i], _LINE, 4) for i in results]


def _better(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] <= other[0] and one[1] >= other[1]


def _scale(values: Sequence[float], begin: float, end: float):
    low, high = min(values), max(values)
    room = 0.04 * (end - begin)

    def place(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return begin + room + share * (end - begin - 2 * room)

    return place


def _dot(x: float, y: float, colour: str, radius: int) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 11) -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">'
            f"{escape(text)}</text>")
