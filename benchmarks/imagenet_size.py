"""Models of ImageNet size on the integer runtime of this machine, without ImageNet.

    python benchmarks/imagenet_size.py [--check]

Weights are random; batch norms take their statistics from two synthetic images, so that neurons
fire about as often as in a trained model. Time and memory depend on shapes and firing rates, not on
what the weights mean. One 224x224 image on one core, the best of three runs. `--check` also runs
the interpreter, which defines the logits, and compares: several minutes and 10 GB more.
"""

import argparse
import json
import os
import time
from pathlib import Path

# Before NumPy and PyTorch start their threads.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np  # noqa: E402
import torch  # noqa: E402
from host_runtime import processor  # noqa: E402

from edgesvit.boards.local import HostProgram  # noqa: E402
from edgesvit.data import normalise  # noqa: E402
from edgesvit.models.families import FAMILIES, build  # noqa: E402
from edgesvit.program.build import build as build_program  # noqa: E402
from edgesvit.program.file import to_bytes  # noqa: E402
from edgesvit.program.interpret import run as interpret  # noqa: E402
from edgesvit.program.ops import Program  # noqa: E402
from edgesvit.program.plan import plan  # noqa: E402
from edgesvit.report.table import table  # noqa: E402

MODELS = ("spikformer-8-512", "metaspikformer_8_256", "Efficient_Spiking_Transformer_l",
          "QKFormer_10_512")
MEAN, STD = (124 / 255, 116 / 255, 104 / 255), (0.229, 0.224, 0.225)
RUNS = 3


def synthetic_images(count: int, side: int = 224) -> np.ndarray:
    """Soft random shapes, uint8 [count, side, side, 3]: neighbouring pixels agree, as in photos."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.normal(size=(count, 3, 14, 14)))
    smooth = torch.nn.functional.interpolate(coarse, side, mode="bicubic").numpy()
    noisy = 120 + 50 * smooth + random.normal(0, 10, smooth.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1).copy()


def random_program(name: str, images: np.ndarray) -> Program:
    """The program of a published model with random weights and measured batch statistics."""
    config = next(row.config for family in FAMILIES.values() for row in family.VARIANTS
                  if row.name == name)
    torch.manual_seed(0)
    model = build(config).train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.from_numpy(normalise(images, MEAN, STD)))
    weights = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    return build_program(config, weights, MEAN, STD)


def measure(name: str, check: bool) -> dict[str, object]:
    """One row of the table."""
    images = synthetic_images(2)
    program = random_program(name, images)
    data = to_bytes(program)
    host = HostProgram(data)
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        logits = host.run(images[:1])[0]
        seconds.append(time.perf_counter() - start)
    row = {"model": name, "operators": len(program.ops), "program_bytes": len(data),
           "arena_bytes": plan(program).arena_bytes, "seconds": min(seconds)}
    if check:
        row["equal"] = bool(np.array_equal(interpret(program, images[0]), logits))
    return row


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the interpreter")
    parser.add_argument("models", nargs="*", default=MODELS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(name, given.check) for name in given.models]
    shown = [row | {"seconds": f"{row['seconds']:.2f}"} for row in rows]
    print(table(tuple(rows[0]), [tuple(row.values()) for row in shown]))
    print(f"one core of {processor()}, best of {RUNS}")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "imagenet_size.json").write_text(
        json.dumps({"machine": processor(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
