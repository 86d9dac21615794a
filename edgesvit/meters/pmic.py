"""Raspberry Pi 5: the power chip's own converters, `vcgencmd pmic_read_adc`.

Twelve rails have both voltage and current; the 5 V input has no current, so what hangs on USB,
HATs, and the converters' own losses are not in the sum.
"""

import re
import shlex

from edgesvit.errors import Unreachable
from edgesvit.meters.on_board import OnBoard, Run, lines_or_none
from edgesvit.meters.samples import About

PERIOD_MS = 100  # one call takes 5 to 20 ms of one core
PROGRAM = "vcgencmd"
_VALUE = re.compile(r"(\S+)_([AV])\s+(?:current|volt)\(\d+\)=([\d.]+|-?nan)[AV]")


def rails(text: str) -> dict[str, float] | None:
    """Watts of each rail that has voltage and current, paired by name: the indices differ."""
    values = {(name, unit): float(number) for name, unit, number in _VALUE.findall(text)}
    watts = {name: values[name, "V"] * values[name, "A"]
             for name, unit in values if unit == "A" and (name, "V") in values}
    return {name: value for name, value in watts.items() if value == value} or None


def supply_v(text: str) -> float | None:
    """The voltage of the 5 V input."""
    return next((float(number) for name, unit, number in _VALUE.findall(text)
                 if (name, unit) == ("EXT5V", "V")), None)


def open_meter(where: str, run: Run) -> OnBoard:
    """The chip of the board that `run` reaches; `where` names another vcgencmd.

    Raises Unreachable on a board that is no Raspberry Pi 5.
    """
    program = where or PROGRAM
    answer = " | ".join(lines_or_none(run, [program, "pmic_read_adc"]) or [])
    found = rails(answer)
    if not found:
        raise Unreachable(f"pmic: {program} pmic_read_adc tells no rail with volts and amperes",
                          "only a Raspberry Pi 5 measures itself; take an external meter")
    return OnBoard(
        About(kind="pmic", covers=f"{len(found)} rails behind the power chip: not USB, HATs or the "
              "losses of its converters",
              settings={"rails": " ".join(found), "period_ms": PERIOD_MS,
                        "supply_v": supply_v(answer) or 0.0},
              error_percent=5.0,  # not specified; what users found against an external meter
              emulated=bool(where)),
        ("--period-ms", str(PERIOD_MS), "--command", f"{shlex.quote(program)} pmic_read_adc"),
        rails)
