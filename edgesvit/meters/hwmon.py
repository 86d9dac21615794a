"""Rails that the Linux kernel reads: the INA3221s of NVIDIA Jetson boards (JetPack 4 to 6), or any
hwmon device that tells power.

Paths as in the kernel's hwmon and the JetPack 4 iio driver; `where` is another root than /sys.
"""

from edgesvit.errors import Unreachable
from edgesvit.meters.on_board import TOTAL_RAILS, OnBoard, Run, lines_or_none
from edgesvit.meters.samples import About

PERIOD_MS = 20
# One line a rail: `vi LABEL FILE_mV FILE_mA`, or `uw LABEL FILE_uW`. $1 is the root.
FIND = r"""
seen=
for d in "$1"/bus/i2c/drivers/ina3221/*/hwmon/hwmon* "$1"/class/hwmon/hwmon*; do
  [ -r "$d/name" ] || continue
  real=$(cd "$d" && pwd -P); case "$seen" in *"|$real|"*) continue;; esac; seen="$seen|$real|"
  for n in 1 2 3; do
    label=$(cat "$d/in${n}_label" 2>/dev/null)
    case "$label" in ''|NC|*sum*) continue;; esac
    [ -r "$d/in${n}_input" ] && [ -r "$d/curr${n}_input" ] &&
      echo "vi $label $real/in${n}_input $real/curr${n}_input"
  done
  [ -r "$d/power1_input" ] && echo "uw $(cat "$d/name") $real/power1_input"
done
for d in "$1"/bus/i2c/drivers/ina3221x/*/iio:device* "$1"/bus/iio/devices/iio:device*; do
  [ -r "$d/rail_name_0" ] || continue
  real=$(cd "$d" && pwd -P); case "$seen" in *"|$real|"*) continue;; esac; seen="$seen|$real|"
  for n in 0 1 2; do
    label=$(cat "$d/rail_name_$n" 2>/dev/null)
    case "$label" in ''|NC) continue;; esac
    echo "vi $label $real/in_voltage${n}_input $real/in_current${n}_input"
  done
done
true
"""


def open_meter(where: str, run: Run) -> OnBoard:
    """The rails of the board that `run` reaches; Unreachable when its kernel knows none."""
    root = where or "/sys"
    found = [line.split(" ") for line in
             lines_or_none(run, ["sh", "-c", FIND, "sh", root]) or []]
    found = [words for words in found if (words[0], len(words)) in (("vi", 4), ("uw", 3))]
    if not found:
        raise Unreachable(f"hwmon: no power rail under {root} on the board",
                          "its kernel reads no power sensor; take an external meter")
    labels = [words[1] for words in found]
    whole = [name for name in TOTAL_RAILS if name in labels]
    files = [path for words in found for path in words[2:]]
    return OnBoard(
        About(kind="hwmon", settings={"rails": " ".join(labels), "period_ms": PERIOD_MS},
              covers=f"the whole board ({whole[0]})" if whole else
              f"the sum of {', '.join(labels)}: not what hangs on other rails",
              error_percent=5.0,  # a count of an INA3221 behind 5 milliohm is 8 mA
              emulated=root != "/sys"),
        ("--period-ms", str(PERIOD_MS), *(part for path in files for part in ("--file", path))),
        lambda text: _rails(found, text), tuple(whole))


def _rails(found: list[list[str]], text: str) -> dict[str, float] | None:
    values = iter(text.split())
    try:
        return {words[1]: (int(next(values)) * int(next(values)) * 1e-6 if words[0] == "vi"
                           else int(next(values)) * 1e-6) for words in found}
    except (StopIteration, ValueError):  # a sensor that cannot be read gives a dash
        return None
