"""Images per second of the integer runtime on this machine, beside the float model in PyTorch.

    make bench

One core each, the same images, the two in turn; the ratio is taken pair by pair, so that a machine
whose speed drifts does not favour either. The interpreter is there too: it defines the result, it
does not compete. Prints a table and writes benchmarks/results/host_runtime.json.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

# Before NumPy and PyTorch start their threads.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np  # noqa: E402
import torch  # noqa: E402

from edgesvit.boards.local import HostProgram  # noqa: E402
from edgesvit.cli.options import model_folder  # noqa: E402
from edgesvit.data import load, normalise  # noqa: E402
from edgesvit.evaluate import program_of  # noqa: E402
from edgesvit.models.checkpoints import model_from_arrays  # noqa: E402
from edgesvit.program.file import to_bytes  # noqa: E402
from edgesvit.program.interpret import run as interpret  # noqa: E402
from edgesvit.report.table import table  # noqa: E402

PAIRS = 7


def processor() -> str:
    """What the processor calls itself."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def rate(work: Callable[[], object], images: int) -> float:
    """Images per second of one call."""
    start = time.perf_counter()
    work()
    return images / (time.perf_counter() - start)


def main() -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    source = model_folder(None)
    data = load("digits", "test")
    card, weights = source.card(), source.weights()
    program = program_of(card, weights, data)
    host = HostProgram(to_bytes(program))
    model = model_from_arrays(card.config, weights)
    x = torch.from_numpy(normalise(data.images, card.mean, card.std))

    def in_torch(images: torch.Tensor, batch: int) -> None:
        with torch.inference_mode():
            for part in images.split(batch):
                model(part)

    few = 40  # for the slow ones
    peers = {
        "edgesvit integer runtime, image by image": (lambda: host.run(data.images), len(data)),
        "PyTorch eager float32, image by image": (lambda: in_torch(x[:few], 1), few),
        "PyTorch eager float32, batches of 32": (lambda: in_torch(x, 32), len(data)),
        "NumPy interpreter (the definition)": (
            lambda: [interpret(program, image) for image in data.images[:few]], few),
    }
    for work, _ in peers.values():
        work()
    rounds = [{name: rate(work, count) for name, (work, count) in peers.items()}
              for _ in range(PAIRS)]
    ours = next(iter(peers))
    rows = []
    for name in peers:
        ratios = [r[ours] / r[name] for r in rounds]
        rows.append((name, round(statistics.median(r[name] for r in rounds)),
                     f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"))
    print(f"{processor()}, one core, {source.path.name}, {len(data)} images, {PAIRS} rounds")
    print(table(("program", "images/s", "ours is faster by"), rows))
    out = Path(__file__).parent / "results" / "host_runtime.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"processor": processor(), "python": platform.python_version(),
                               "torch": torch.__version__, "numpy": np.__version__,
                               "images_per_second": rounds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
