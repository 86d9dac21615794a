"""Start this program again with AMX refused: no processor we deploy to has anything like it."""

import os
import platform
import sys
from pathlib import Path

from edgesvit.lower.compile import build

_SET = "EDGESVIT_BENCH_NO_AMX"


def without_amx() -> None:
    """Replace this process by itself under no_amx.c; returns when that has happened already."""
    if os.environ.get(_SET) or platform.machine() != "x86_64":
        return
    source = Path(__file__).resolve().parent.parent / "kernels" / "no_amx.c"
    wrapper = build("cc", [source], ["-O2"], "no_amx")
    os.environ[_SET] = "1"
    os.execv(wrapper, [str(wrapper), sys.executable, *sys.argv])
