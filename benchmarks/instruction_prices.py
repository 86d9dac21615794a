"""What an amount of work costs on a core: fits edgesvit/cost/prices.toml to counted instructions.

    python benchmarks/instruction_prices.py [RUN ...] [--write]

Every model (the shipped ones and the run folders given) runs as it is and with fewer time steps, on
the emulated cores; a price a kind of work follows by least squares of the relative errors, none
below zero. Whole models do not tell their kinds of work apart, so prices are drawn to what the
kernels' inner loops take by count of the code. Prints how far the prediction of each model is off,
and how far when none of its kind took part in the fit.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from edgesvit.boards.run import run
from edgesvit.cli.options import dataset
from edgesvit.compress.setting import Setting, apply
from edgesvit.cost.instructions import NAMES, amounts
from edgesvit.cost.operations import work
from edgesvit.data.dataset import Dataset
from edgesvit.errors import DoesNotFit, UsageError
from edgesvit.evaluate import program_of
from edgesvit.lower.runtimes import lower
from edgesvit.program import file
from edgesvit.program.ops import Program
from edgesvit.report.table import table
from edgesvit.resources import shipped_model
from edgesvit.run_folder import RunFolder
from edgesvit.targets import load

CORES = {"cortex-a76": "qemu-user-a76", "cortex-m4": "qemu-mps2-an386",
         "cortex-m7": "qemu-mps2-an500", "cortex-m55": "qemu-mps3-an547"}
PRICES = Path(__file__).parents[1] / "edgesvit" / "cost" / "prices.toml"
IMAGES = 3
# Instructions of inner loops by count of the code, in the order of NAMES: vectors of 128 bits on
# the A76, pairs of 16 bits on the M4 and M7, 128-bit vectors in two beats on the M55.
LOOPS = {"cortex-a76": (1.5, 0.5, 0.25, 0.25, 0.2, 0.8, 0.25, 0.5, 0.2, 0.5, 2000),
         "cortex-m4": (10, 10, 1.2, 1.5, 2.5, 8, 2.5, 6, 2, 8, 2000),
         "cortex-m7": (10, 10, 1.2, 1.5, 2.5, 8, 2.5, 6, 2, 8, 2000),
         "cortex-m55": (8, 8, 0.4, 0.5, 1.0, 4, 1.5, 6, 2, 6, 2000)}
PULL = 0.2  # a price at twice its loop's count weighs as much as a model that is 20 % off


def programs(folder: RunFolder) -> list[tuple[str, Program, Dataset]]:
    """A model's programs: as it is, and with fewer time steps."""
    data, card = dataset(None, folder), folder.card()
    steps = getattr(card.config, "time_steps", 1)
    found = []
    for setting in (Setting(), *(Setting(time_steps=t) for t in (1, 2) if t < steps)):
        try:
            changed, weights = apply(setting, card, folder.weights())
            program = program_of(changed, weights, data)
        except UsageError:  # event frames
            continue
        found.append((f"{folder.path.name} T={program.time_steps}", program, data))
    return found


def counted(program: Program, data: Dataset, core: str) -> float | None:
    """Median instructions an image; None where the program does not fit."""
    target = load(CORES[core])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.esv")
        file.write(program, path)
        try:
            artifact = lower(path, target, "native", data.images[:IMAGES])
            board = run(target, artifact, data.images[:IMAGES], lambda text: None, lambda n: None)
        except DoesNotFit:
            return None
    return statistics.median(board.instructions)


def fitted(rows: np.ndarray, counts: np.ndarray, core: str) -> np.ndarray:
    """Prices, none negative, with the least squares of relative errors and departures."""
    pull = PULL * np.diag(1 / np.array(LOOPS[core]))
    whole = np.concatenate([rows / counts[:, None], pull])
    return nnls(whole, np.append(np.ones(len(counts)), PULL * np.ones(len(pull))))[0]


def off(predicted: float, count: float) -> str:
    return f"{100 * (predicted / count - 1):+.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true", help="replace the table of the package")
    options = parser.parse_args()
    folders = [*sorted(shipped_model("").glob("*/")), *options.runs]
    models = [(folder.name, *entry) for folder in folders
              for entry in programs(RunFolder(folder))]
    shares = [amounts(program, {row.output: row for row in work(program, data.images[:IMAGES])})
              for _, _, program, data in models]
    lines, errors = [], []
    for core in CORES:
        counts = [counted(program, data, core) for _, _, program, data in models]
        ran = [i for i, count in enumerate(counts) if count]
        rows, known = np.array([shares[i] for i in ran]), np.array([counts[i] for i in ran])
        families = np.array([models[i][0] for i in ran])
        prices = fitted(rows, known, core)
        lines += [f"[{core}]", *(f'"{name}" = {price:.4g}'
                                 for name, price in zip(NAMES, prices, strict=True)), ""]
        for i, row, count, family in zip(ran, rows, known, families, strict=True):
            others = families != family
            blind = row @ fitted(rows[others], known[others], core)
            errors.append((core, models[i][1], f"{count:,.0f}", off(row @ prices, count),
                           off(blind, count)))
    print(table(("core", "model", "counted", "fitted", "left out"), errors))
    lines.insert(0, "# Instructions for one unit of work: benchmarks/instruction_prices.py\n")
    print("\n".join(lines))
    if options.write:
        PRICES.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
