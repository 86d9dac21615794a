"""Models on every runtime: bytes, memory, accuracy, equality, time here, A76 instructions.

    python benchmarks/runtimes.py [--model RUN]... [--images 500] [--json FILE]

Without --model: the models that ship, whose test split may be smaller. Every row is what `deploy
--runtime` runs, on `host` and `qemu-user-a76`. Arena: by each runtime's own rule, ahead of time.
Peak RSS: of the whole process here, code included. ms: median of one image after the other on one
core, AMX refused to everybody, the runtimes in turn, best of the rounds. Instructions: median of
the first --counted images. The dense twins have the same shape, ReLU and one pass, and are not
trained.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np
from host_runtime import processor
from peers.no_amx import without_amx

from edgesvit.boards.run import run as run_on_board
from edgesvit.cli.options import CALIBRATION_IMAGES, dataset, model_folder
from edgesvit.data import load as load_data
from edgesvit.data.dataset import Dataset, spread
from edgesvit.deploy import Deployment, prepare
from edgesvit.errors import EdgesvitError
from edgesvit.lower.artifact import Artifact
from edgesvit.lower.runtimes import lower
from edgesvit.measure.result import compare
from edgesvit.report.table import table
from edgesvit.resources import shipped_model
from edgesvit.run_folder import RunFolder
from edgesvit.targets import load

RESULTS = Path(__file__).parent / "results"
# Name of the row, runtime, whether it is the twin.
ROWS = (
    ("native", "native", False), ("executorch", "executorch", False),
    ("litert", "litert", False), ("litert-fast", "litert-fast", False),
    ("xnnpack-int8", "xnnpack-int8", False), ("xnnpack-fp32", "xnnpack-fp32", False),
    ("dense twin, litert", "litert", True), ("dense twin, xnnpack", "xnnpack-int8", True),
)
HEADER = ("runtime", "model bytes", "arena bytes", "peak RSS", "accuracy %", "logits equal",
          "x86 ms", "A76 instructions", "over native")


def on(target: str, artifact: Artifact, images: np.ndarray):  # noqa: ANN201 - BoardRun
    """Run there on one thread."""
    return run_on_board(load(target), artifact, images, lambda text: None, lambda done: None)


def measured(ready: Deployment, labels: np.ndarray, name: str, runtime: str, twin: bool,
             counted: int) -> tuple[dict, Artifact]:
    """A row without its time, and what to run for that."""
    artifact = lower(ready.path, load("host"), runtime, ready.calibration, twin)
    board = on("host", artifact, ready.images)
    arm = lower(ready.path, load("qemu-user-a76"), runtime, ready.calibration, twin)
    counts = on("qemu-user-a76", arm, ready.images[:counted])
    row = {"runtime": name, "model_bytes": artifact.linked_bytes["weights"],
           "arena_bytes": artifact.linked_bytes["arena"],
           "peak_rss_bytes": board.environment["peak_rss_bytes"],
           "a76_instructions": counts.instructions and statistics.median(counts.instructions)}
    if not twin:
        there = compare(counts.logits, ready.expected[:counted])
        row |= {"accuracy": 100 * float(np.mean(board.logits.argmax(1) == labels)),
                **compare(board.logits, ready.expected), "a76_logits_equal": there["logits_equal"]}
    return row, artifact


def rows_of(source: RunFolder, images: int, rounds: int, counted: int) -> list[dict]:
    """All runtimes on one model; one that fails is told and left out."""
    data = dataset(None, source)
    images = min(images, len(data))
    train = load_data(source.card().data, "train")
    some = train.images[spread(len(train), CALIBRATION_IMAGES)]
    with tempfile.TemporaryDirectory() as folder:
        ready = prepare(source, RunFolder(folder), Dataset(
            data.images[:images], data.labels[:images], data.classes, data.mean, data.std,
            data.name), images, some)
        rows, artifacts = [], []
        for row in ROWS:
            try:
                found, artifact = measured(ready, data.labels[:images], *row, counted)
            except EdgesvitError as error:
                print(f"{row[0]}: {error.message}", flush=True)
                continue
            rows.append(found)
            artifacts.append(artifact)
        timed = ready.images[:min(images, 100)]
        times = [[statistics.median(on("host", artifact, timed).latency_us)
                  for artifact in artifacts] for _ in range(rounds)]
    return [row | {"images": images, "ms": min(each) / 1000, "rounds_ms": [t / 1000 for t in each]}
            for row, each in zip(rows, zip(*times, strict=True), strict=True)]


def show(rows: list[dict]) -> None:
    """The table."""
    own = rows[0]["a76_instructions"]
    print(table(HEADER, [(
        row["runtime"], row["model_bytes"], row["arena_bytes"], row["peak_rss_bytes"],
        f"{row['accuracy']:.2f}" if "accuracy" in row else None,
        f"{row['logits_equal']}/{row['images']}" if "accuracy" in row else None,
        f"{row['ms']:.3f}", row["a76_instructions"] and round(row["a76_instructions"]),
        f"{row['a76_instructions'] / own:.2f}" if row["a76_instructions"] and own else None,
    ) for row in rows]), flush=True)


def main() -> None:
    """Measure, print, write after each model."""
    without_amx()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    shipped = sorted(path.name for path in shipped_model("any").parent.iterdir())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", metavar="RUN",
                        help="run folder or shipped model; may be given several times")
    parser.add_argument("--images", type=int, default=500, help="of the test split")
    parser.add_argument("--counted", type=int, default=8, help="images under emulation")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=RESULTS / "runtimes.json")
    given = parser.parse_args()
    models = {}
    print(f"{processor()}, one core")
    for name in given.model or shipped:
        source = model_folder(name)
        models[source.path.name] = rows = rows_of(source, given.images, given.rounds,
                                                  given.counted)
        print(f"\n{source.path.name}, {rows[0]['images']} images of {source.card().data}")
        show(rows)
        given.json.parent.mkdir(exist_ok=True)
        given.json.write_text(json.dumps({"processor": processor(), "models": models}, indent=1))


if __name__ == "__main__":
    main()
