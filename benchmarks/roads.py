"""What spiking convolutions cost by lists, dense products and masks, and how well it is chosen.

    python benchmarks/roads.py [--cpu NAME,...] [--layers N] [--seed N] [--sweep]

NAME is cortex-a76 or cortex-a72 (instructions under emulation), or avx2 or avx512 (nanoseconds
here, one pinned core). N random layers are run by all roads. The prices of spike_prices_*.h beside
the kernels are fitted to them, least squares of relative errors, and printed with what the built-in
ones lose. --sweep shows both costs of some layers over the share of inputs that fire.
"""

import argparse
import os
import random
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from peers import own
from scipy.optimize import nnls

from edgesvit.boards.runner import counting_plugin
from edgesvit.lower.compile import STRICT, build, need
from edgesvit.report.table import table
from edgesvit.resources import shipped

ARM = ("cortex-a76", "cortex-a72")
ROUNDS = 15
SPIKES, LEVELS, MEMBRANE = 1, 2, 4  # esv_kind
INPUTS = ("SPIKES", "SPIKES_IN_LINES", "LEVELS", "LEVELS_IN_LINES", "LEVELS_OF_STEPS")
MOST_KEPT = 1 << 16
ROADS = ("lists", "products", "masks")


class Shape(NamedTuple):
    """A layer as benchmarks/kernels/roads.c reads it."""

    side: int
    channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    pool: int = 0
    steps: int = 1
    max_level: int = 0  # 0: spikes
    rate: int = 15  # percent of inputs that are not 0
    kind: int = SPIKES
    convolutions: int = 1


class Run(NamedTuple):
    """A layer with its entries of lists per input, all costs, and the road that was chosen."""

    shape: Shape
    listed: float
    costs: tuple[float, float, float]  # ROADS; without masks lists in their place
    masks: bool
    chosen: int


def program(arm: bool) -> Path:
    """The benchmark for aarch64, or for this machine."""
    folders = [own.C, *(shipped("firmware") / name for name in ("kernels", "linux", "runtime"))]
    files = [own.C / name for name in ("roads.c", "spike_layer.c", "spikes.c", "plain.c", "ours.c",
                                       "dense.c")]
    files += [*sorted(folders[1].glob("*.c")), folders[2] / "choose.c"]
    headers = [path for folder in folders for path in sorted(folder.glob("*.h"))]
    flags = [*STRICT, "-D_GNU_SOURCE", "-O3", "-static", *(f"-I{folder}" for folder in folders)]
    if arm:
        return build("aarch64-linux-gnu-gcc", files, [*flags, "-march=armv8-a"], "roads", headers)
    return build("cc", files, [*flags, "-march=native"], "roads", headers)


def random_layers(seed: int, count: int) -> list[Shape]:
    """Small and middling layers of every form, of at most 60 million products."""
    draw, layers = random.Random(seed).choice, []
    while len(layers) < count:
        kernel = draw([1, 1, 1, 3, 3])
        stride = draw([1, 1, 1, 2])
        shape = Shape(
            draw([7, 14, 28]), draw([4, 8, 16, 18, 32, 48, 64, 128, 256, 512]),
            draw([4, 8, 16, 32, 36, 64, 96, 128, 256, 512]), kernel, stride,
            draw([0, 0, 0, 3, 2]) if kernel == 3 and stride == 1 else 0, draw([1, 1, 2, 4]),
            draw([0, 0, 1, 1]) * draw([1, 2, 3, 4, 4, 6]),
            draw([2, 5, 10, 15, 20, 30, 40, 60, 80, 100]), draw([SPIKES] * 3 + [LEVELS, MEMBRANE]),
            draw([1, 1, 3]) if kernel == 1 else 1)
        weights = shape.channels * shape.out_channels * kernel**2
        if weights * shape.side**2 * shape.steps <= 60e6 and (kernel == 1 or shape.channels <= 128):
            layers.append(shape)
    return layers


def measure(cpu: str, layers: list[Shape]) -> list[Run]:
    """Run every layer by all roads; the program fails where they write different bytes."""
    text = "\n".join(" ".join(map(str, shape)) for shape in layers)
    arm = cpu in ARM
    path = program(arm)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "counts")
        if arm:
            begin, end = (own.address(path, f"bench_{edge}") for edge in ("begin", "end"))
            plugin = f"{counting_plugin()},begin={begin:#x},end={end:#x},out={out}"
            argv = [need("qemu-aarch64"), "-cpu", cpu, "-plugin", plugin, str(path), "1"]
        else:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            argv = [str(path), str(ROUNDS), cpu]
        said = subprocess.run(argv, input=text, capture_output=True, text=True, check=True).stdout
        rows = [tuple(map(int, line.split())) for line in said.splitlines()]
        counts = [int(line) for line in out.read_text().split()] if arm else [
            n for row in rows for n in row[1:4]]
    return [Run(shape, row[0] / 1e6, tuple(counts[3 * i:3 * i + 3]), bool(row[4]), row[5])
            for i, (shape, row) in enumerate(zip(layers, rows, strict=True))]


def sizes(s: Shape) -> tuple[int, int]:
    """Positions on a side before pooling, and tokens on one of the output."""
    before = (s.side + 2 * (s.kernel // 2) - s.kernel) // s.stride + 1
    return before, (before + 2 * (s.pool // 2) - s.pool) // 2 + 1 if s.pool else before


def input_kind(s: Shape) -> str:
    """The row of the prices, as input_of in spike_choose.c."""
    if s.max_level and s.steps > 1:
        return "LEVELS_OF_STEPS"
    return ("LEVELS" if s.max_level else "SPIKES") + ("_IN_LINES" if s.kernel > s.stride else "")


def list_terms(run: Run) -> list[float]:
    """What each price of lists is multiplied with."""
    s, (before, _) = run.shape, sizes(run.shape)
    rows, tiles, positions = s.kernel**2 * s.channels, -(-s.out_channels // 16), before**2
    lines = input_kind(s).endswith("_IN_LINES")
    patterns = s.max_level or sum(2 ** min(4, s.steps - g) - 1 for g in range(0, s.steps, 4))
    steps = positions * s.steps * tiles * s.convolutions
    entries = positions * rows * run.listed
    sorting = positions * patterns if not s.max_level else 0 if lines else positions
    return [sorting, positions * s.convolutions,
            s.side**2 * patterns if lines else positions * rows, entries,
            entries * tiles * s.convolutions, steps,
            steps if s.kind != SPIKES or s.pool else 0]


def product_tiles(channels: int, least: int) -> float:
    """As in spike_choose.c."""
    last = channels % 16
    while least < last:
        least *= 2
    return channels // 16 + (least / 16 if last else 0)


def dense_terms(run: Run, least: int) -> list[float]:
    """What each price of products is multiplied with."""
    s, (before, after) = run.shape, sizes(run.shape)
    row = s.kernel * (-(-s.kernel * s.channels // 4) * 4)
    flat = s.kernel == 1 and s.stride == 1
    tokens = before**2 if flat else before * -(-before // 4) * 4
    tiles, weights = -(-s.out_channels // 16), s.kernel**2 * s.channels * s.out_channels
    step = [tokens * row * product_tiles(s.out_channels, least), tokens * tiles,
            s.side**2 * s.channels, before * s.kernel if s.kernel > 1 else 0,
            weights / s.steps if weights > MOST_KEPT else 0,
            after**2 * tiles if s.kind != SPIKES else 0]
    return [s.convolutions * s.steps * term for term in step]


def mask_terms(run: Run) -> list[float]:
    """What each price of masks is multiplied with."""
    s, (before, _) = run.shape, sizes(run.shape)
    kinds = s.steps + min(s.steps - 1, 3)
    rows, tiles, positions = s.kernel**2 * s.channels, -(-s.out_channels // 16), before**2
    wide = -(-s.out_channels // 128) * s.convolutions
    words = kinds * s.kernel * -(-s.kernel * s.channels // 64)
    entries = positions * rows * run.listed * {3: 1.15, 4: 1.25}.get(s.steps, 1)
    steps = positions * s.steps * tiles * s.convolutions
    return [s.side * -(-s.side * s.channels // 16) * kinds, positions * wide,
            positions * wide * words, entries * wide, entries * tiles * s.convolutions, steps,
            steps if s.kind != SPIKES or s.pool else 0]


def fit(terms: list[list[float]], costs: list[float]) -> np.ndarray:
    """Prices, none below 0, that make relative errors small; large errors count less."""
    a, y = np.array(terms, float), np.array(costs, float)
    weight = 1 / y
    for _ in range(10):
        prices, _ = nnls(a * weight[:, None], y * weight)
        error = np.abs(np.log(np.maximum(a @ prices, 1e-9) / y))
        weight = 1 / (y * (1 + 3 * error))
    return prices


def show_fit(cpu: str, runs: list[Run]) -> None:
    """Print prices as the header files hold them, and what the built-in choice loses."""
    least = {"cortex-a76": 4, "cortex-a72": 8}.get(cpu, 16)
    for kind in INPUTS:
        rows = [r for r in runs if input_kind(r.shape) == kind]
        prices = fit([list_terms(r) for r in rows], [r.costs[0] for r in rows])
        print(f"    [{kind}] = {{{', '.join(f'{p:.3g}' for p in prices)}}},")
    prices = fit([dense_terms(r, least) for r in runs], [r.costs[1] for r in runs])
    print("    products:", ", ".join(f"{p:.3g}" for p in prices))
    if masked := [r for r in runs if r.masks]:
        prices = fit([mask_terms(r) for r in masked], [r.costs[2] for r in masked])
        print("    masks:", ", ".join(f"{p:.3g}" for p in prices))
    best = [min(r.costs) for r in runs]
    lost = [r.costs[r.chosen] / b for r, b in zip(runs, best, strict=True)]
    lists = np.mean([r.costs[0] / b for r, b in zip(runs, best, strict=True)])
    two = [min(r.costs[:2]) / b for r, b in zip(runs, best, strict=True)]
    print(f"{cpu}: {sum(r.chosen == 1 for r in runs)} of {len(runs)} layers by products, "
          f"{sum(r.chosen == 2 for r in runs)} by masks. Times the cost of the best road: the "
          f"choice {np.mean(lost):.3f}, {max(lost):.2f} at most; always lists {lists:.2f}; the "
          f"better of lists and products {np.mean(two):.2f}")


def sweep(cpu: str) -> None:
    """All roads over the share of inputs that fire."""
    shapes = [Shape(14, 512, 512), Shape(14, 512, 512, steps=4), Shape(14, 64, 64),
              Shape(28, 16, 32, 3, steps=2)]
    runs = measure(cpu, [s._replace(rate=rate) for s in shapes
                         for rate in (5, 15, 40, 60, 80, 100)])
    print(table(("K to N, T", "not 0", *(f"{road}, k" for road in ROADS), "chosen"),
                [(f"{r.shape.kernel**2 * r.shape.channels} to {r.shape.out_channels}, "
                  f"{r.shape.steps}", f"{r.listed:.0%}",
                  *(f"{cost / 1e3:.0f}" for cost in r.costs), ROADS[r.chosen]) for r in runs]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", default=",".join(ARM))
    parser.add_argument("--layers", type=int, default=500)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--sweep", action="store_true")
    given = parser.parse_args()
    for cpu in given.cpu.split(","):
        print(f"\n{cpu}, {'instructions' if cpu in ARM else 'nanoseconds'}")
        if given.sweep:
            sweep(cpu)
        else:
            show_fit(cpu, measure(cpu, random_layers(given.seed, given.layers)))


if __name__ == "__main__":
    main()
