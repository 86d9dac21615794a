"""`--meter KIND:WHERE`: one table of all meters."""

import importlib
from collections.abc import Callable

from edgesvit.errors import UsageError
from edgesvit.meters.recording import Meter

Run = Callable[[list[str]], list[str]]  # runs a short command on the board: its lines

# kind -> module that opens it; each has `open_meter(kind, where)`.
HERE = {
    "ina219": "bridge", "ina226": "bridge", "ina228": "bridge", "ina3221": "bridge",
    "ppk2": "ppk2", "lpm01a": "lpm01a", "tc66c": "tc66c", "um25c": "um25c",
    "joulescope": "joulescope",
}
# Read on the board itself, by its own processor: `open_meter(where, run)`.
ON_BOARD = {"pmic": "pmic", "hwmon": "hwmon", "tegrastats": "tegrastats"}
# Read afterwards, from what another program recorded.
FILES = {"csv": "csv_file"}


def split(address: str) -> tuple[str, str]:
    """Kind and place of `KIND:WHERE`; UsageError naming the kinds when there is no such kind."""
    kind, _, where = address.partition(":")
    if kind not in {**HERE, **ON_BOARD, **FILES}:
        raise UsageError(f"--meter {address}: no meter is called {kind!r}",
                         f"one of {', '.join([*HERE, *ON_BOARD, *FILES])}, or auto")
    if kind in FILES and not where:
        raise UsageError(f"--meter {address}: which file?", f"--meter {kind}:FILE")
    if kind in HERE and kind != "joulescope" and not where:
        raise UsageError(f"--meter {address}: at which port?",
                         f"--meter {kind}:/dev/ttyACM0; `edgesvit doctor` lists the ports")
    return kind, where


def open_meter(address: str) -> Meter:
    """The meter at a port of this machine, after it said who it is.

    Raises Unreachable when it does not answer or something else does.
    """
    kind, where = split(address)
    return module(kind).open_meter(kind, where)


def module(kind: str):
    """The module of a kind, imported when it is used."""
    name = {**HERE, **ON_BOARD, **FILES}[kind]
    return importlib.import_module(f"edgesvit.meters.{name}")
