"""Deployments over an ssh connection that is cut at a random moment: do they recover?

    python benchmarks/ssh_cuts.py [--cuts 20] [--seed 0]

A real ssh server (of the emulated Linux board) behind a TCP line that ends after a random number of
bytes: a third of the cuts among the first 12,000 bytes, a third among the last, a third anywhere.
Every cut deployment must end in one error with exit code 4; the one after it must be right, without
copying again what had arrived whole.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from edgesvit import targets  # noqa: E402
from edgesvit.boards.qemu_linux import emulated_board  # noqa: E402
from edgesvit.lower.native import lower  # noqa: E402
from edgesvit.program import interpret  # noqa: E402
from edgesvit.report.table import table  # noqa: E402
from tests.fakes.cut_line import cuts  # noqa: E402
from tests.fakes.serial_boards import small_program, write_program  # noqa: E402
from tests.program.programs import random_image  # noqa: E402

HEADER = ("cut after bytes", "exit code", "what was said", "there before", "bytes of the rerun",
          "recovered", "s")


def rows(count: int, seed: int, folder: Path):
    """One row of HEADER for each cut."""
    program, target = small_program(), targets.load("rpi5")
    images = np.stack([random_image(program, i) for i in range(2)])
    expected = np.stack([interpret.run(program, image) for image in images])
    artifact = lower(write_program(program, folder)[0], target)
    emulated = targets.load("qemu-aarch64")
    emulator = msgspec.structs.replace(emulated.emulator, icount_shift=None)
    with emulated_board(msgspec.structs.replace(emulated, emulator=emulator), print) as board:
        begin = time.monotonic()
        for seen in cuts(board, target, artifact, images, expected, count, seed):
            error, files = seen["error"], len(artifact.files) + 1
            sound = (seen["kept"] == seen["there"] and len(seen["after"]) == files
                     and (error is None or error.exit_code == 4))
            yield (seen["cut_after"], error.exit_code if error else 0,
                   error.message if error else "had ended before", len(seen["there"]),
                   f"{seen['bytes']} of {seen['whole_bytes']}", "yes" if sound else "NO",
                   f"{time.monotonic() - begin:.1f}")
            begin = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = folder  # the board is named in a boards.toml of our own
        found = list(rows(options.cuts, options.seed, Path(folder)))
    print(table(HEADER, found))
    failed = sum(row[5] == "NO" for row in found)
    print(f"\n{len(found) - failed} of {len(found)} deployments recovered")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
