"""What can change a measurement: clocks, heat, supply, radio; told by a Linux board's files."""

from collections.abc import Callable

Run = Callable[[list[str]], list[str]]  # runs a short command on the board: its lines

# POSIX sh; what a board does not have, it does not tell.
_ASK = r"""
told() { [ -n "$2" ] && printf '%s=%s\n' "$1" "$2"; }
first() { [ -r "$2" ] && told "$1" "$(tr -d '\000' <"$2" 2>/dev/null | head -n 1)"; }
told kernel "$(uname -r)"; told machine "$(uname -m)"
first model /proc/device-tree/model
cpu=/sys/devices/system/cpu
first governor $cpu/cpu0/cpufreq/scaling_governor
told frequencies_khz "$(cat $cpu/cpu[0-9]*/cpufreq/scaling_cur_freq 2>/dev/null | tr '\n' ' ')"
first max_khz $cpu/cpu0/cpufreq/scaling_max_freq
told temperature_mc "$(cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null | sort -n | tail -n 1)"
told throttled "$(vcgencmd get_throttled 2>/dev/null | sed -n 's/^throttled=//p')"
told supply_v "$(vcgencmd pmic_read_adc EXT5V_V 2>/dev/null | sed -n 's/.*=\([0-9.]*\)V/\1/p')"
told power_mode "$(nvpmodel -q 2>/dev/null | sed -n 's/^NV Power Mode: //p')"
told radio "$(for r in /sys/class/rfkill/rfkill*; do
  [ -r $r/type ] && printf '%s:%s ' "$(cat $r/type)" "$(cat $r/state)"; done)"
told load "$(cut -d' ' -f1 /proc/loadavg)"
true
"""
_NUMBERS = ("max_khz", "temperature_mc", "supply_v", "load")


def conditions(run: Run) -> dict[str, object]:
    """Told by the board that `run` reaches. Units are in the names; temperature_c is the hottest.

    `throttled` is the Raspberry Pi's: 0x0 when neither voltage nor heat slowed it since boot.
    """
    told: dict[str, object] = dict(
        line.partition("=")[::2] for line in run(["sh", "-c", _ASK]) if "=" in line)
    for name in _NUMBERS:
        try:
            told[name] = float(told[name])
        except (KeyError, ValueError):
            told.pop(name, None)
    if "temperature_mc" in told:
        told["temperature_c"] = told.pop("temperature_mc") / 1000
    if text := told.get("frequencies_khz"):
        told["frequencies_khz"] = [int(word) for word in str(text).split() if word.isdigit()]
    return told
