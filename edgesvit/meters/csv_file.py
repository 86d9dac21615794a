"""Anything else: a table that another program recorded, with a column that marks the inferences."""

import csv
import math
from pathlib import Path

import numpy as np

from edgesvit.errors import UsageError
from edgesvit.meters.recording import Trace
from edgesvit.meters.samples import About, Samples

# Quantity of a column's name before its unit, and the unit's factor.
_UNITS = {"time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
          "voltage": {"v": 1.0, "mv": 1e-3, "uv": 1e-6},
          "current": {"a": 1.0, "ma": 1e-3, "ua": 1e-6, "na": 1e-9},
          "power": {"w": 1.0, "mw": 1e-3, "uw": 1e-6},
          "energy": {"j": 1.0, "mj": 1e-3, "uj": 1e-6}}
_FORM = "a header like: time_s,voltage_v,current_a,trigger"


def read(path: str) -> Trace:
    """The recording in `path`: columns QUANTITY_UNIT in any order, separated by , ; or tab.

    Needs time, and power or voltage and current. Rows that are no numbers count as damaged.
    Raises UsageError when there is no such file or no such column.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--meter csv:{path}: cannot be read: {error}", _FORM) from None
    head, *rows = [line for line in text.splitlines() if line.strip()] or [""]
    separator = max(",;\t", key=head.count)
    columns = _columns([name.strip(' "').lower() for name in head.split(separator)])
    if "time" not in columns or not ({"voltage", "current"} <= columns.keys()
                                     or "power" in columns):
        raise UsageError(f"--meter csv:{path}: needs time, and power or voltage and current",
                         _FORM)
    table, damaged = _table(csv.reader(rows, delimiter=separator), columns)
    table = {name: values * columns[name][1] for name, values in table.items()}
    backwards = np.diff(table["time"]) < 0
    if backwards.any():
        raise UsageError(f"--meter csv:{path}: its time runs backwards in data row "
                         f"{int(backwards.argmax()) + 2}", "sort it by time")
    power_w = table["power"] if "power" in table else table["voltage"] * table["current"]
    samples = Samples(table["time"], power_w, table.get("voltage"), table.get("current"),
                      table["trigger"] > 0.5 if "trigger" in table else None, table.get("energy"),
                      damaged=damaged)
    about = About(kind="csv", serial=Path(path).name, covers="what the file's own meter covers",
                  error_percent=math.nan)
    return Trace(about, samples, np.zeros((0, 2)))


def _columns(names: list[str]) -> dict[str, tuple[int, float]]:
    """Quantity -> place and factor of its column."""
    found = {}
    for place, name in enumerate(names):
        quantity, _, unit = name.rpartition("_")
        if factor := _UNITS.get(quantity, {}).get(unit):
            found[quantity] = (place, factor)
        elif name == "trigger":
            found["trigger"] = (place, 1.0)
    return found


def _table(rows, columns: dict[str, tuple[int, float]]) -> tuple[dict[str, np.ndarray], int]:
    """The columns as float64 [n] in the file's units, and how many rows are no numbers."""
    kept, damaged = [], 0
    for row in rows:
        try:
            values = [float(row[place]) for place, _ in columns.values()]
        except (ValueError, IndexError):
            values = [math.nan]
        if all(map(math.isfinite, values)):
            kept.append(values)
        else:
            damaged += 1
    table = np.array(kept, np.float64).reshape(-1, len(columns))
    return dict(zip(columns, table.T, strict=True)), damaged
