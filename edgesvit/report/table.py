"""Plain text tables for a terminal: aligned columns, no decoration to strip."""

import re
from collections.abc import Sequence

_PREFIXES = {-4: "p", -3: "n", -2: "u", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}
_NUMBER = re.compile(r"-?[\d,]+(\.\d+)?[pnumkMGT]?")


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


def si(value: float) -> str:
    """Three digits and an SI prefix, u for micro; whole numbers below a thousand as they are.

    >>> [si(n) for n in (0, 480, 999.6, 65088, 1.04e9, 4.2e-8, 12)]
    ['0', '480', '1.00k', '65.1k', '1.04G', '42.0n', '12']
    """
    if value == 0 or abs(value) < 1000 and value == int(value):
        return str(int(value))
    mantissa, exponent = (float(part) for part in f"{value:.2e}".split("e"))
    power = min(max(int(exponent // 3), min(_PREFIXES)), max(_PREFIXES))
    shift = int(exponent) - 3 * power
    return f"{mantissa * 10**shift:.{max(2 - shift, 0)}f}{_PREFIXES[power]}"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None
