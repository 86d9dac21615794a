"""How long it takes to lower models, and to compile what all of them share, from an empty cache.

    python benchmarks/lowering.py [--model RUN]... [--runtime NAME]... [--json FILE]

Seconds after imports, of wall and of this process's processor time; compilers are other processes.
The aarch64 SDK of ExecuTorch and LiteRT's library are not fetched again.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from edgesvit.cli.options import CALIBRATION_IMAGES, dataset, model_folder
from edgesvit.data import load as load_data
from edgesvit.data.dataset import spread
from edgesvit.errors import EdgesvitError
from edgesvit.evaluate import program_of
from edgesvit.lower import litert, native
from edgesvit.lower.executorch import build, wheel
from edgesvit.lower.litert import package
from edgesvit.lower.runtimes import RUNTIMES, lower
from edgesvit.program.file import write
from edgesvit.report.table import table
from edgesvit.resources import cache_dir, shipped_model
from edgesvit.targets import load

RESULTS = Path(__file__).parent / "results"
FETCHED = ("executorch-sdk", f"litert/{package.RELEASE}")


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall, and of our own processor time."""
    wall, own = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - wall, time.process_time() - own


def compiled() -> list[tuple[str, float, float]]:
    """What is compiled once for all models, for both processors."""
    rows = []
    for name in ("host", "qemu-user-a76"):
        target = load(name)
        sdk = wheel.sdk(target)
        rows += [(f"{what}, {name}", *timed(work)) for what, work in (
            ("ExecuTorch operator library", lambda t=target, s=sdk: build.operator_library(s, t)),
            ("ExecuTorch runner", lambda t=target, s=sdk: build.board_runner(s, t)),
            ("native runner", lambda t=target: native.linux_runner(t)),
            ("LiteRT runner", lambda t=target: litert.linux_runner(t)))]
    return rows


def lowered(name: str, runtimes: list[str], folder: Path) -> list[tuple[str, str, float, float]]:
    """One row a runtime; one that fails is told and left out."""
    source = model_folder(name)
    card = source.card()
    train = load_data(card.data, "train")
    images = train.images[spread(len(train), CALIBRATION_IMAGES)]
    path = folder / f"{source.path.name}.esv"
    write(program_of(card, source.weights(), dataset(None, source)), path)
    rows = []
    for runtime in runtimes:
        try:
            spent = timed(lambda r=runtime: lower(path, load("host"), r, images))
        except EdgesvitError as error:
            print(f"{source.path.name}, {runtime}: {error.message}")
            continue
        rows.append((source.path.name, runtime, *spent))
        print(f"{source.path.name}, {runtime}: {spent[0]:.2f} s", file=sys.stderr, flush=True)
    return rows


def imports() -> None:
    """What lowering imports when it begins."""
    with wheel.quiet():
        from edgesvit.lower.executorch import delegate  # noqa: F401


def main() -> None:
    """Measure, print, write."""
    shipped = sorted(path.name for path in shipped_model("any").parent.iterdir())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", metavar="RUN")
    parser.add_argument("--runtime", action="append", choices=tuple(RUNTIMES))
    parser.add_argument("--json", type=Path, default=RESULTS / "lowering.json")
    given = parser.parse_args()
    kept = cache_dir()
    imports()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGESVIT_CACHE"] = folder
        for name in FETCHED:
            if (kept / name).exists():
                Path(folder, name).parent.mkdir(exist_ok=True)
                Path(folder, name).symlink_to(kept / name)
        shared = compiled()
        rows = [row for name in given.model or shipped
                for row in lowered(name, given.runtime or list(RUNTIMES), Path(folder))]
    print(table(("compiled once", "seconds"), [(what, f"{wall:.1f}") for what, wall, _ in shared]))
    print()
    print(table(("model", "runtime", "seconds", "processor s"),
                [(model, runtime, f"{wall:.2f}", f"{own:.2f}")
                 for model, runtime, wall, own in rows]))
    given.json.parent.mkdir(exist_ok=True)
    given.json.write_text(json.dumps({"compiled": shared, "lowered": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
