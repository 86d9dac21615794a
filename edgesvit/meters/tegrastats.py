"""NVIDIA Jetson: the rails that `tegrastats` prints, JetPack 4 to 6. Coarser than hwmon, but there
without the right to read sysfs."""

import re
import shlex

from edgesvit.errors import Unreachable
from edgesvit.meters.on_board import TOTAL_RAILS, OnBoard, Run, lines_or_none
from edgesvit.meters.samples import About

PERIOD_MS = 100
PROGRAM = "tegrastats"
# `VDD_IN 4761mW/4778mW`, on JetPack 4 `POM_5V_IN 2532/2698`: of the moment, and mean since start.
# RAM, SWAP and IRAM look alike but for what follows the second number.
_RAIL = re.compile(r"\b((?:VDD|VIN|POM|VDDQ|CPU|GPU|SOC|CV|SYS5V|NC)\w*) (\d+)(?:mW)?/(\d+)(?:mW)?"
                   r"(?![\w.])")


def rails(text: str) -> dict[str, float] | None:
    """Watts of each rail at the moment of the line."""
    return {name: int(now) / 1000 for name, now, _ in _RAIL.findall(text)
            if not name.startswith("NC")} or None


def open_meter(where: str, run: Run) -> OnBoard:
    """The rails of the board that `run` reaches; `where` names another tegrastats."""
    program = where or PROGRAM
    script = f"timeout 3 {shlex.quote(program)} --interval {PERIOD_MS} | head -n 1"
    found = rails(" ".join(lines_or_none(run, ["sh", "-c", script]) or []))
    if not found:
        raise Unreachable(f"tegrastats: {program} prints no rail",
                          "is the board a Jetson with power sensors? try --meter hwmon")
    whole = [name for name in TOTAL_RAILS if name in found]
    return OnBoard(
        About(kind="tegrastats", settings={"rails": " ".join(found), "period_ms": PERIOD_MS},
              covers=f"the whole board ({whole[0]})" if whole else f"the sum of {', '.join(found)}",
              error_percent=5.0,  # as hwmon: the same sensors
              emulated=bool(where)),
        ("--stream", f"exec {shlex.quote(program)} --interval {PERIOD_MS}"), rails, tuple(whole))
