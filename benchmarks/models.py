"""A whole model on our runtime, beside the same network in LiteRT.

    python benchmarks/models.py [--model RUN] [--images N] [--json FILE]
    python benchmarks/models.py --estimate [--json FILE]

Rows: the integer program on our runtime; the same spiking network in LiteRT, dense int8 layers and
float neurons; its conventional int8 twin of the same shape, one pass with ReLU. Columns: wall time
here, one core, AMX refused; Cortex-A76 instructions under emulation; bytes of activations.
`--estimate` is about a model of ImageNet size instead: see peers/whole_model.py.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from host_runtime import processor
from peers import litert
from peers.no_amx import without_amx
from peers.wall import in_turn

from edgesvit.boards.local import HostProgram
from edgesvit.boards.runner import run_qemu_user
from edgesvit.cli.options import dataset, model_folder
from edgesvit.errors import EdgesvitError
from edgesvit.evaluate import program_of
from edgesvit.lower.litert.fast import fast
from edgesvit.lower.litert.twin import twin
from edgesvit.lower.native import lower
from edgesvit.program.file import to_bytes
from edgesvit.program.ops import Program
from edgesvit.report.table import table
from edgesvit.targets import load

CPU = "cortex-a76"
RESULTS = Path(__file__).parent / "results"
OURS, SPIKING, TWIN = "edgesvit", "LiteRT int8, spiking", "LiteRT int8, conventional twin"


def arena_bytes(model: bytes) -> int:
    """What LiteRT's own planner needs for activations, without a delegate that has its own."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
    file = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    interpreter = Interpreter(
        model_content=model, num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    interpreter.allocate_tensors()
    begins, ends = [], []
    for i, tensor in enumerate(file.subgraphs[0].tensors):
        if not tensor.buffer:  # no constant
            view = interpreter.tensor(i)()
            begins.append(view.__array_interface__["data"][0])
            ends.append(begins[-1] + view.nbytes)
    return max(ends) - min(begins)


def classes(model: bytes, images: np.ndarray) -> np.ndarray:
    """What LiteRT says each image is."""
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    at, out = (d[0]["index"] for d in (interpreter.get_input_details(),
                                       interpreter.get_output_details()))
    answers = []
    for image in images:
        interpreter.set_tensor(at, (image.astype(np.int16) - 128).astype(np.int8)[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(out)[0].argmax())
    return np.array(answers)


def our_instructions(program: bytes, image: np.ndarray) -> int | None:
    """Of one inference on our runtime."""
    with tempfile.NamedTemporaryFile(suffix=".esv") as file:
        file.write(program)
        file.flush()
        target = load("qemu-user-a76")
        run = run_qemu_user(target, lower(Path(file.name), target), image[None])
    return run.instructions and run.instructions[0]


def peer_instructions(models: list[bytes]) -> list[int | None]:
    """Of one inference of each model by LiteRT's own aarch64 build."""
    from peers.arm_counts import instructions
    from peers.arm_root import arm_root
    try:
        return instructions(arm_root(litert.PACKAGES), CPU, "litert", models)
    except EdgesvitError as error:
        print(f"{litert.NAME} on {CPU}: skipped, {error}")
        return [None] * len(models)


def timed(programs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, all on one core in turn."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return in_turn(programs, rounds)


def measure(program: Program, images: np.ndarray, rounds: int) -> list[dict]:
    """A row a runtime."""
    data = to_bytes(program)
    host = HostProgram(data)
    models = {SPIKING: fast(program, images), TWIN: twin(program)}
    agree = np.mean(classes(models[SPIKING], images) == host.run(images).argmax(1))
    counts = [our_instructions(data, images[0]), *peer_instructions(list(models.values()))]
    arenas = [host.arena_bytes, *map(arena_bytes, models.values())]
    runs = {OURS: lambda: host.run(images[:1])}
    runs |= {name: litert.opened(model) for name, model in models.items()}
    times = timed(runs, rounds)
    ours = times[OURS]
    return [{"runtime": name, "seconds": times[name],
             "ratio": [t / o for t, o in zip(times[name], ours, strict=True)],
             "instructions": count, "arena_bytes": arena,
             "file_bytes": len(models.get(name, data)),
             "agree_with_ours": float(agree) if name == SPIKING else None}
            for name, count, arena in zip(times, counts, arenas, strict=True)]


def show(rows: list[dict]) -> None:
    """The table."""
    ours = rows[0]["instructions"]
    shown = []
    for r in rows:
        count, ratios = r["instructions"], r["ratio"]
        shown.append((
            r["runtime"], f"{min(r['seconds']) * 1e3:.3f}",
            f"{statistics.median(r['seconds']) * 1e3:.3f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{count / 1e6:.2f}" if count else "none",
            f"{count / ours:.2f}" if count and ours else "", r["arena_bytes"], r["file_bytes"]))
    print(table(("runtime", "min ms", "median ms", "time over ours", f"{CPU} instructions, M",
                 "over ours", "activation bytes", "file bytes"), shown))


def main() -> None:
    """Measure, print, write."""
    without_amx()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="RUN", help="run folder or shipped model")
    parser.add_argument("--data", metavar="NAME[:PATH]", help="default: what it was trained on")
    parser.add_argument("--images", type=int, default=100, help="to compare answers on")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--estimate", action="store_true",
                        help="predicted cycles of Spikformer-8-512 on Cortex-A76")
    given = parser.parse_args()
    if given.estimate:
        _write(given.json or RESULTS / "estimate.json", estimate())
        return
    source = model_folder(given.model)
    data = dataset(given.data, source)
    program = program_of(source.card(), source.weights(), data)
    rows = measure(program, data.images[:given.images], given.rounds)
    print(f"{source.path.name}, T = {program.time_steps}, {processor()}, one core, "
          f"{litert.release()}")
    show(rows)
    agree = rows[1]["agree_with_ours"]
    print(f"{SPIKING} gives our class for {agree:.0%} of {given.images} images")
    _write(given.json or RESULTS / f"models-{source.path.name}.json",
           {"model": source.path.name, "processor": processor(), "litert": litert.release(),
            "rows": rows})


def estimate() -> dict:
    """Spikformer-8-512 at 15 %, printed."""
    from peers import whole_model
    return {"model": whole_model.MODEL, "rows": whole_model.show()}


def _write(path: Path, results: dict) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
