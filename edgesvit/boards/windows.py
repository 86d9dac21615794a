"""Run the windows of a measurement on a board: the images once, proven, then over and over."""

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgesvit.boards import process
from edgesvit.boards.conditions import Run, conditions
from edgesvit.boards.runner import IDLE_S, plugin_flags
from edgesvit.boards.sampler import build_sampler
from edgesvit.errors import EdgesvitError, UsageError
from edgesvit.lower.artifact import Artifact
from edgesvit.lower.compile import need
from edgesvit.measure.layers import Steps, read_steps
from edgesvit.measure.protocol import SerialSession
from edgesvit.measure.run import BoardRun, read_runner
from edgesvit.measure.windows import LEAST_INFERENCES, Plan, Window, Windows, read_windows
from edgesvit.program.ops import Program
from edgesvit.targets import Target

Note = Callable[[str], None]
SAMPLER = "edgesvit-sampler"
LAYER_ROUNDS, LAYERS_S = 10, 3600.0  # of all images, where a clock is read; the deadline
SERIAL_EDGE_S = 0.005  # a line's way through a serial port and its USB bridge


@dataclass
class WindowRun:
    """`lines` are those of the sampler, where one ran beside the program; `steps` what the
    operators take, where that was asked."""

    board: BoardRun
    windows: Windows
    lines: list[str] = field(default_factory=list)
    steps: Steps | None = None


@dataclass(frozen=True)
class LinuxBoard:
    """An open Linux board: `run` for short commands, `stream` for long ones, both lines."""

    run: Run
    stream: Callable[[list[str], float], Iterator[str]]
    prefix: tuple[str, ...]
    folder: str  # with everything that was put there
    same_clock: bool


@contextmanager
def linux_board(target: Target, artifact: Artifact, images: np.ndarray, note: Note,
                sampler: bool) -> Iterator[LinuxBoard]:
    """`target` with the artifact, the images and, if wanted, the sampler in a folder on it."""
    extra = [build_sampler(_compiler(target))] if sampler else []
    with tempfile.TemporaryDirectory() as own:
        data = Path(own, "images.bin")
        data.write_bytes(np.ascontiguousarray(images, np.uint8).tobytes())
        if target.transport == "ssh":
            from edgesvit.boards.over_ssh import FOLDER, ssh_board

            with ssh_board(target, note) as board:
                board.connect()
                board.put([artifact.executable, *artifact.files, data, *extra], FOLDER)
                yield LinuxBoard(lambda argv: list(board.run(argv, 60, 60)),
                                 lambda argv, limit_s: board.run(argv, limit_s, IDLE_S + limit_s),
                                 (), FOLDER, False)
            return
        from edgesvit.boards.runner import placed

        with placed(artifact) as folder:
            for path in (data, *extra):
                (folder / path.name).write_bytes(path.read_bytes())
                (folder / path.name).chmod(0o755)
            prefix = () if target.transport == "local" else (
                need(target.emulator.program), "-cpu", target.emulator.cpu,
                *(("-L", str(artifact.root)) if artifact.root else ()))
            yield LinuxBoard(lambda argv: list(process.lines(argv, target.name, 60, 60)),
                             lambda argv, limit_s: process.lines(argv, target.name, limit_s,
                                                                 IDLE_S + limit_s),
                             prefix, str(folder), target.transport == "local")


def _compiler(target: Target) -> str:
    # Under user-mode emulation the sampler itself runs on this machine.
    foreign = "aarch64" in target.isa and target.transport == "ssh"
    return "aarch64-linux-gnu-gcc" if foreign else "cc"


def run_linux(board: LinuxBoard, target: Target, artifact: Artifact, images: np.ndarray,
              plan: Plan, threads: int, sampler: Iterable[str] = ()) -> WindowRun:
    """The runner's windows, under the sampler with its arguments where there is one."""
    runner, *arguments = artifact.command(board.folder, f"{board.folder}/images.bin", threads)
    argv = [*board.prefix, runner, *plan.options(), *arguments]
    if sampler := tuple(sampler):
        argv = [f"{board.folder}/{SAMPLER}", *sampler, "--", *argv]
    limit_s = 3600 + plan.idle_s + 20 * plan.windows * plan.seconds
    before = conditions(board.run)
    said = [(time.monotonic(), line) for line in board.stream(argv, limit_s)]
    run = read_runner((line for _, line in said), len(images), target.name)
    run.environment |= {"before": before, "after": conditions(board.run)}
    emulated = target.emulator is not None
    if emulated:
        run.latency_us = None  # the clock is the emulator's speed
    windows = read_windows(said, emulated, board.same_clock or bool(sampler), target.name)
    return WindowRun(run, windows, [line for _, line in said if line.startswith("sample ")])


def steps_linux(board: LinuxBoard, target: Target, artifact: Artifact, done: BoardRun,
                threads: int) -> Steps:
    """What the operators take, in runs of their own: their clock is not inside the windows.

    Under user-mode emulation they alone are counted: `done` gets the instructions of its images.
    """
    runner, *arguments = artifact.command(board.folder, f"{board.folder}/images.bin", threads)
    prefix, counts, images = list(board.prefix), Path(board.folder, "counts"), len(done.logits)
    if target.transport == "qemu-user":
        prefix += plugin_flags(prefix, Path(runner), counts)
    rounds = 1 if target.emulator else LAYER_ROUNDS
    said = list(board.stream([*prefix, runner, "--layers", str(rounds), *arguments], LAYERS_S))
    read_runner((line for line in said if not line.startswith("layers ")), images, target.name)
    steps = read_steps(said, target.emulator is not None, target.name)
    if target.transport == "qemu-user" and counts.exists():  # whole images first, then the steps
        each = [int(line) for line in counts.read_text().split()]
        done.instructions = each[:images]
        steps.samples = np.reshape(each[images:], (-1, len(steps.firsts))).tolist()
    if steps.samples[0][0] < 0:
        raise EdgesvitError(f"{target.name}: nothing here counts instructions",
                            "edgesvit measure without --layers")
    return steps


def _steps_mcu(session: SerialSession, target: Target, program: Program, done: BoardRun,
               images: np.ndarray) -> Steps:
    samples = []
    for image, logits in zip(images, done.logits, strict=True):
        firsts, ticks, again = session.steps(image, len(program.ops))
        if not np.array_equal(again, logits):
            raise _changed(target)
        samples.append(ticks)
    scale = done.environment["ticks_per_instruction"]
    if scale:
        return Steps(firsts, [[round(t / scale) for t in ticks] for ticks in samples],
                     "instructions")
    return Steps(firsts, [[1e6 * t / target.clock_hz for t in ticks] for ticks in samples], "us")


def run_mcu(target: Target, artifact: Artifact, images: np.ndarray, plan: Plan, note: Note,
            progress: Callable[[int], None], layers_of: Program | None = None) -> WindowRun:
    """Every image once, then `repeat`: window i runs image i over and over. Then, with the program
    that it runs, every image step by step."""
    from edgesvit.boards.over_serial import put_there, run_on, serial_board

    with serial_board(target, artifact.executable, note) as port:
        session = SerialSession(port, run_s=120 + 20 * plan.seconds)
        put_there(session, target, artifact, note)
        board = run_on(session, target, artifact, images, progress)
        resting_s = time.monotonic()
        time.sleep(plan.idle_s)
        idle = (resting_s, time.monotonic())
        turns = LEAST_INFERENCES
        if board.latency_us:  # else it has no clock
            turns = max(turns, math.ceil(1e6 * plan.seconds / float(np.median(board.latency_us))))
        windows = [_repeated(session, target, images[i % len(images)],
                             board.logits[i % len(images)], turns) for i in range(plan.windows)]
        steps = _steps_mcu(session, target, layers_of, board, images) if layers_of else None
    board.retries = session.retries
    return WindowRun(board, Windows(windows, idle, SERIAL_EDGE_S), steps=steps)


def _repeated(session: SerialSession, target: Target, image: np.ndarray, logits: np.ndarray,
              turns: int) -> Window:
    begun: list[float] = []
    session.load(np.ascontiguousarray(image, np.uint8).tobytes())
    done = session.repeat(turns, lambda: begun.append(time.monotonic()))
    end_s = time.monotonic()
    if not np.array_equal(done.logits, logits):
        raise _changed(target)
    if target.emulator:
        return Window(begun[0], end_s, turns)
    seconds = done.ticks / target.clock_hz
    return Window(end_s - seconds, end_s, turns, seconds, [1e6 * seconds / turns], turns)


def _changed(target: Target) -> EdgesvitError:
    return EdgesvitError(f"{target.name}: an image gave other logits when it was repeated",
                         "please report it: no time is shown for a wrong result")


def not_for(target: Target, meter: str) -> UsageError:
    """The error for a meter that is part of a board, on a board that has no Linux."""
    return UsageError(f"--meter {meter}: {target.name} has no such sensor of its own",
                      "take an external meter: edgesvit doctor")


