"""Behind `edgesvit measure`: windows on a board, a meter beside them, energy from both."""

import hashlib
import platform
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edgesvit.boards.run import version
from edgesvit.boards.windows import WindowRun, linux_board, not_for, run_linux, run_mcu, steps_linux
from edgesvit.cost.energy import bit_aware_mj, field_mj
from edgesvit.cost.operations import work
from edgesvit.deploy import Deployment, require_fit
from edgesvit.errors import EdgesvitError, UsageError
from edgesvit.lower.artifact import Artifact
from edgesvit.lower.runtimes import lower
from edgesvit.measure.energy import SAME_CLOCK, Energy, energy, fit_clock, trigger_windows
from edgesvit.measure.layers import program_layers, records
from edgesvit.measure.measurement import Analytical, Measurement, differences, latency
from edgesvit.measure.result import compare, require_equal, samples
from edgesvit.measure.windows import Plan, Windows
from edgesvit.meters import address
from edgesvit.meters.on_board import OnBoard
from edgesvit.meters.recording import Recording, Trace
from edgesvit.profiles import Profile
from edgesvit.program import file
from edgesvit.program.ops import Program
from edgesvit.run_folder import RunFolder
from edgesvit.targets import Target

Note = Callable[[str], None]
Progress = Callable[[int], None]
ANALYTICAL_IMAGES = 20
# An emulator's clock follows the instructions and tells nothing: its windows are short.
EMULATED_S, EMULATED_IDLE_S = 0.02, 0.5
NO_WINDOWS = ("litert-kernels",)
# Which runtimes tell what an operator takes: by a clock, and by counting in an emulator.
LAYERS = (("native", "executorch", "xnnpack-int8", "xnnpack-fp32"), ("native", "executorch"))
_storing = threading.Lock()  # boards are measured side by side


@dataclass
class _Meter:
    """A meter for the time of a run: one that records here, one on the board, a file, or none."""

    kind: str = ""
    where: str = ""
    recording: Recording | None = None
    trace: Trace | None = None

    @property
    def on_board(self) -> bool:
        return self.kind in address.ON_BOARD


def measure(deployment: Deployment, target: Target, profile: Profile, run: RunFolder, plan: Plan,
            meter: str | None, note: Note, progress: Progress = lambda done: None,
            threads: int = 1) -> Measurement:
    """Run the windows of `plan` on `target` with the meter at address `meter`; append the result.

    Whatever the meter saw is stored, in the run folder, before a fault of it is raised.
    Raises DoesNotFit, Unreachable, ResultDiffers, UsageError or EdgesvitError.
    """
    return ready(deployment, target, profile, run, plan, meter, threads)(note, progress)


def ready(deployment: Deployment, target: Target, profile: Profile, run: RunFolder, plan: Plan,
          meter: str | None, threads: int = 1, layers: bool = False, runtime: str = "native"
          ) -> Callable[[Note, Progress], Measurement]:
    """The first half of `measure`: the program fits and is lowered. What it returns is the second,
    which may run beside those of other boards; `layers`: also what each operator takes."""
    require_fit(deployment, target, profile, f"edgesvit compress --target {target.name}")
    if target.emulator:
        plan = Plan(min(plan.seconds, EMULATED_S), plan.windows,
                    min(plan.idle_s, EMULATED_IDLE_S))
    _require_able(target, runtime, layers)
    artifact = lower(deployment.path, target, runtime, deployment.calibration)

    def measured(note: Note, progress: Progress) -> Measurement:
        with _meter(meter, target) as used:
            done = _windows(target, artifact, deployment, plan, used, note, progress, threads,
                            layers)
            if used.recording:
                used.trace = used.recording.stop()
        if artifact.exact:
            require_equal(done.board.logits, deployment.expected, target.name)
        if used.kind in address.FILES:
            used.trace = address.module(used.kind).read(used.where)
        result = _result(deployment, target, artifact, plan, done, used.trace, threads)
        with _storing:
            result = _stored(result, run, used.trace)
        if used.trace and used.trace.fault:
            fault = used.trace.fault
            raise type(fault)(fault.message, f"{len(used.trace.samples)} samples were kept: "
                                             f"{run.path / result.trace}")
        return result

    return measured


def _require_able(target: Target, runtime: str, layers: bool) -> None:
    """UsageError for what the runner of a runtime cannot do."""
    if runtime in NO_WINDOWS:
        raise UsageError(f"--runtime {runtime}: its runner is a Python program and repeats nothing",
                         f"edgesvit deploy --target {target.name} --runtime {runtime}")
    if layers and runtime not in LAYERS[target.emulator is not None]:
        where = "an emulated board" if target.emulator else "a board"
        raise UsageError(f"--layers: on {where} {runtime} does not tell what each operator takes",
                         "--runtime native")


@contextmanager
def _meter(where: str | None, target: Target):
    """The meter, sampling where it hangs on this machine; closed in the end."""
    if not where:
        yield _Meter()
        return
    kind, place = address.split(where)
    if kind not in address.HERE:
        yield _Meter(kind, place)
        return
    opened = address.open_meter(where)
    try:
        recording = Recording(opened)
        recording.start()
        try:
            yield _Meter(kind, place, recording)
        finally:
            recording.stop()
    finally:
        opened.close()


def _windows(target: Target, artifact: Artifact, deployment: Deployment, plan: Plan, used: _Meter,
             note: Note, progress: Progress, threads: int, layers: bool) -> WindowRun:
    if target.kind == "mcu":
        if used.on_board:
            raise not_for(target, used.kind)
        done = run_mcu(target, artifact, deployment.images, plan, note, progress,
                       deployment.program if layers else None)
    else:
        with linux_board(target, artifact, deployment.images, note, used.on_board) as board:
            sensor: OnBoard | None = None
            if used.on_board:
                sensor = address.module(used.kind).open_meter(used.where, board.run)
            done = run_linux(board, target, artifact, deployment.images, plan, threads,
                             sensor.sampler if sensor else ())
            if layers:
                done.steps = steps_linux(board, target, artifact, done.board, threads)
        if sensor:
            used.trace = Trace(sensor.about, sensor.samples(done.lines), np.zeros((0, 2)))
    if target.emulator:
        done.board.environment["emulator"] = version(target.emulator.program)
    progress(len(deployment.images))
    return done


def _result(deployment: Deployment, target: Target, artifact: Artifact, plan: Plan,
            done: WindowRun, trace: Trace | None, threads: int) -> Measurement:
    label = "emulated" if target.emulator else "measured"
    spent, warnings = None, []
    if trace and not trace.fault:
        spent = energy_of(done.windows, trace, label)
        warnings += spent.warnings
    after = done.board.environment.get("after") or {}
    if after.get("throttled") not in (None, "0x0"):
        warnings.append(f"the board was throttled: {after['throttled']}")
    return Measurement(
        target=target.name, title=target.title, label=label, runtime=artifact.runtime,
        model=deployment.name,
        program_crc32=file.crc32(deployment.path),
        executable_sha256=hashlib.sha256(artifact.executable.read_bytes()).hexdigest(),
        threads=threads, images=len(deployment.images),
        logits_equal=compare(done.board.logits, deployment.expected)["logits_equal"],
        plan={"seconds": plan.seconds, "windows": plan.windows, "idle_s": plan.idle_s},
        inferences=[window.inferences for window in done.windows.work],
        latency_us=latency(done.windows.work),
        instructions_per_inference=samples(done.board.instructions),
        layers=records(program_layers(deployment.program, done.steps)) if done.steps else [],
        energy=spent, meter=trace.about if trace else None,
        analytical=analytical(deployment.program, deployment.images),
        environment={"host": platform.platform(), "processor": platform.machine()}
        | done.board.environment, warnings=warnings)


def energy_of(windows: Windows, trace: Trace, board_label: str) -> Energy:
    """Energy of the windows from the trace: by the trigger where it was wired, else by the clocks.

    Raises EdgesvitError when the trace does not cover them.
    """
    clock = SAME_CLOCK if not len(trace.arrivals) else fit_clock(trace.arrivals)

    def theirs(edges: tuple[float, float]) -> tuple[float, float]:
        return tuple((edge - clock.offset_s) / clock.rate for edge in edges)

    estimated = [theirs((window.begin_s, window.end_s)) for window in windows.work]
    pulses = trigger_windows(trace.samples)
    marked = _marked(estimated, pulses, alone=trace.about.kind == "csv")
    if trace.about.kind == "csv" and not marked:
        raise UsageError(f"csv: {len(pulses)} trigger pulses for {len(estimated)} windows",
                         "record the board's trigger pin in a column called trigger")
    skew_ppm = clock.skew_ppm if clock.pairs and not marked else None
    return energy(
        trace.samples, marked or estimated, [window.inferences for window in windows.work],
        theirs(windows.idle) if windows.idle and trace.about.kind != "csv" else None,
        "emulated" if trace.about.emulated else board_label, trace.about.error_percent,
        0.0 if marked else windows.edge_error_s + clock.error_s, skew_ppm)


def _marked(estimated: list[tuple[float, float]], pulses: list[tuple[float, float]],
            alone: bool) -> list[tuple[float, float]]:
    """The trigger's own edges of the windows; none unless there is a pulse for each of them.

    `alone`: the trace's clock has nothing to do with ours, so the longest pulses must be they.
    """
    if alone:
        longest = sorted(pulses, key=lambda pulse: pulse[0] - pulse[1])[:len(estimated)]
        return sorted(longest) if len(longest) == len(estimated) else []
    found = []
    for begin, end in estimated:
        meets = [pulse for pulse in pulses
                 if min(end, pulse[1]) - max(begin, pulse[0]) > 0.5 * (end - begin)]
        if len(meets) != 1:
            return []
        found += meets
    return found


def analytical(program: Program, images: np.ndarray) -> Analytical:
    """The field's millijoules and the bit-aware ones, mean of some of the images."""
    shown = images[:ANALYTICAL_IMAGES]
    done = work(program, shown)
    return Analytical(
        field_mj=sum(field_mj(op.multiplies, op.sops) for op in done),
        bit_aware_mj=sum(bit_aware_mj(op.multiplies, op.sops_int16, op.sops_int32,
                                      op.operand_bits, op.rescales) for op in done),
        images=len(shown))


def _stored(result: Measurement, run: RunFolder, trace: Trace | None) -> Measurement:
    """`result` in results.jsonl, the trace beside it; with how it differs from the one before."""
    earlier = [record for record in run.results()
               if record.get("kind") == "measure" and record.get("target") == result.target
               and record.get("runtime", "native") == result.runtime]
    warnings = list(result.warnings)
    if earlier:
        warnings += [f"not comparable with the result before it: {why}" for why in
                     differences(earlier[-1], msgspec.to_builtins(result))]
    name = ""
    if trace and len(trace.samples):
        name = f"trace-{result.target}-{len(run.results()) + 1}.npz"
        save_trace(run.path / name, trace)
    result = msgspec.structs.replace(result, trace=name, warnings=warnings)
    run.append_result(msgspec.to_builtins(result))
    return result


def save_trace(path: Path, trace: Trace) -> None:
    """All samples as arrays of an .npz file, by the names of Samples; loads without pickle."""
    part = path.with_name(path.name + ".part.npz")
    columns = {name: getattr(trace.samples, name) for name in
               ("time_s", "power_w", "voltage_v", "current_a", "trigger", "energy_j")}
    rails = {f"rail_{name}": values for name, values in trace.samples.rails_w.items()}
    try:
        np.savez_compressed(part, arrivals=trace.arrivals, **rails,
                            **{name: values for name, values in columns.items()
                               if values is not None})
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise EdgesvitError(f"{path} could not be written: {error.strerror}",
                            "free some space and run it again") from None
