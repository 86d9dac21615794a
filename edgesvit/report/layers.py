"""The table of what each operator took."""

from collections.abc import Sequence

from edgesvit.measure.layers import LayerTime, shares
from edgesvit.report.table import table


def layers_table(layers: Sequence[LayerTime]) -> str:
    """One row an operator in the order in which they run, then their sum.

    >>> print(layers_table([LayerTime("fire", (8, 8, 64), 1.25, "us"),
    ...                     LayerTime("classify", (10,), 3.75, "us")]))
    operator  shape     us     share %
    --------  --------  -----  -------
    fire      8 x 8 x 64   1.25     25.0
    classify  10        3.750     75.0
    """
    unit = layers[0].unit if layers else "us"
    rows = [(layer.name, " x ".join(map(str, layer.shape)), _figure(layer.value, unit),
             f"{100 * share:.1f}")
            for layer, share in zip(layers, shares(layers), strict=True)]
    rows.append(("all", "", _figure(sum(layer.value for layer in layers), unit), "100.0"))
    return table(("operator", "shape", unit, "share %"), rows)


def _figure(value: float, unit: str) -> str:
    return f"{value:.2f}" if unit == "us" else f"{round(value):,}"
