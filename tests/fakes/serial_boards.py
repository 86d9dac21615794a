"""Boards for tests of the serial protocol, and a small program for them to run."""

import contextlib
import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgesvit.boards.process import start, stop
from edgesvit.boards.serial import Port, open_port
from edgesvit.lower import compile
from edgesvit.program import file, interpret
from edgesvit.program.ops import Check, Program
from edgesvit.program.plan import plan
from edgesvit.resources import shipped
from tests.program.programs import Builder, random_image

_FAKES = Path(__file__).parent


def needs(*tools: str) -> None:
    """Skip the test, naming the first of `tools` that is not installed."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")


def small_program(seed: int = 1) -> Program:
    """Every operator on an 8 x 8 x 3 image, T = 4, 10 classes; carries a self-check vector."""
    build = Builder(np.random.default_rng(seed), 4, (8, 8, 3))
    x = build.pool(build.encode(16))
    x = build.add(x, build.conv(x, 16, kernel=3, pad=1))
    x = build.add(x, build.conv(build.attend(x, 2, 8, 8), 16))
    program = build.finish(build.add(x, build.conv(x, 16)), 10)
    image = random_image(program, 3)
    return dataclasses.replace(program, check=Check(image, interpret.run(program, image)))


def write_program(program: Program, folder: Path) -> tuple[Path, int]:
    """The .esv file and the arena that it needs, in bytes."""
    path = folder / "small.esv"
    file.write(program, path)
    return path, plan(program).arena_bytes


def host_board(*sanitizers: str) -> Path:
    """The board's own C code as a host program."""
    needs("cc")
    folders = [shipped("firmware") / name for name in ("cortex_m", "runtime", "kernels")]
    sources = [folders[0] / f"{name}.c" for name in ("commands", "mlperf", "protocol", "work")]
    sources += [_FAKES / "host_board.c"]
    # No microcontroller runs those for x86-64, and instrumented they take minutes to compile.
    sources += [path for folder in folders[1:] for path in sorted(folder.glob("*.c"))
                if not path.name.startswith(("spike_conv_avx", "spike_sort_avx"))]
    headers = [path for folder in folders for path in sorted(folder.glob("*.h"))]
    flags = ["-O1", "-g", "-std=c11", '-DBOARD_NAME="host-board"', '-DBOARD_FIRMWARE="test"',
             *(f"-I{folder}" for folder in folders), *sanitizers]
    return compile.build("cc", sources, flags, "host_board", depends=headers)


@contextlib.contextmanager
def behind_pty(*board: str, fault: str | None = None) -> Iterator[Port]:
    """A board (`--tcp HOST:PORT` or `--run PROGRAM ...`) on a pty, with a fault in the line."""
    argv = [sys.executable, str(_FAKES / "faulty_pty.py"),
            *(["--fault", fault] if fault else []), *board]
    process = start(argv, stdout=subprocess.PIPE)
    try:
        with open_port(process.stdout.readline().decode().strip()) as port:
            yield port
    finally:
        stop(process)
