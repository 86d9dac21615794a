"""What we ask of a board's shell: only POSIX sh, coreutils or busybox, and sha256sum."""

import re
import shlex

from edgesvit.errors import UsageError

# Runs "$@" and ends it when the connection does (its stdin closes), or after $1 seconds: an ssh
# server leaves a program that has no terminal running. Status 255 is kept for ssh itself.
WATCHED = """
limit_s=$1; shift; exec 3<&0
timeout -s KILL "$limit_s" "$@" </dev/null 3<&- & job=$!
{ cat <&3; kill "$job"; } >/dev/null 2>&1 & watch=$!
exec 3<&-; wait "$job"; code=$?; kill "$watch"; exit $((code == 255 ? 254 : code))
"""

# The SHA-256 of those of the files "$2"... that are in folder $1, then, after an empty line, of
# those that arrived whole before an earlier copy was cut; makes the folder.
LOOK = """
mkdir -p "$1"/.incoming && cd "$1" && shift || exit
sha256sum "$@" 2>/dev/null
echo; cd .incoming && sha256sum "$@" 2>/dev/null
true
"""

# Moves what arrived in $1/.incoming to its place if it matches the lines "$2"... (hash, two
# spaces, name).
COMMIT = """
cd "$1"/.incoming && shift && printf '%s\\n' "$@" | sha256sum -c >/dev/null 2>&1 ||
    { echo "what arrived is not what was sent" >&2; exit 1; }
for line in "$@"; do mv -f "${line#*  }" .. || exit; done
"""

DISCARD = 'rm -f "$1"/.incoming/*'

DESCRIBE = r"""
read_file() { [ -r "$2" ] && printf '%s=%s\n' "$1" "$(tr -d '\000' <"$2" | head -n 1)"; }
echo "machine=$(uname -m)"; echo "kernel=$(uname -r)"
echo "cores=$(grep -c ^processor /proc/cpuinfo)"
echo "features=$(sed -n 's/^Features[^:]*: *//p;s/^flags[^:]*: *//p' /proc/cpuinfo | head -n 1)"
first_version() { sed -n 's/^[^0-9]*\([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p' | head -n 1; }
glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | first_version)
for c in /lib/libc.so.6 /lib/*/libc.so.6; do
    [ -n "$glibc" ] || [ ! -x "$c" ] || glibc=$("$c" 2>/dev/null | first_version)
done
echo "glibc=$glibc"
read_file model /proc/device-tree/model
read_file governor /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor
read_file perf_event_paranoid /proc/sys/kernel/perf_event_paranoid
read_file temperature_mc /sys/class/thermal/thermal_zone0/temp
true
"""


def command(script: str, *arguments: str) -> str:
    """The command line that runs `script`, whatever the login shell is: sh and quoted words."""
    return shlex.join(["sh", "-c", script, "sh", *arguments])


def safe(name: str) -> str:
    """`name` of a file or folder, which every shell and scp must read alike; else UsageError."""
    if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_./+-]*", name) or ".." in name:
        raise UsageError(f"{name!r} cannot be a name on a board",
                         "rename it: letters, digits and _ . + - only")
    return name
