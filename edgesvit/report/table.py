"""Plain text tables for a terminal: aligned columns, no decoration to strip."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned, numbers to the right; None prints as a dash.

    >>> print(table(("use", "bytes"), [("code", 1200), ("arena", None)]))
    use    bytes
    -----  -----
    code   1,200
    arena      -
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    numeric = [all(not isinstance(row[i], str) or _is_number(row[i]) for row in rows)
               for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(cell.rjust(width) if right else cell.ljust(width)
                         for cell, width, right in zip(row, widths, numeric, strict=True)).rstrip()

    return "\n".join(map(line, [list(header), ["-" * width for width in widths], *cells]))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
